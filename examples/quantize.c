/* Quantizes a model from C and prints the first numbers of one of its weights.

       cc quantize.c $(pkg-config --cflags --libs pare) -o quantize_c
       ./quantize_c MODEL_DIR CALIB.jsonl OUT.h5 TENSOR
*/
#include <pare/pare.h>
#include <stdio.h>
#include <stdlib.h>

static void check(pare_status status) {
  if (status == PARE_OK) return;
  fprintf(stderr, "%s: %s\n", pare_status_name(status), pare_last_error());
  exit(status);
}

static void show(void* user, const char* phase, const char* detail, double done, double left) {
  (void)user;
  (void)left;
  fprintf(stderr, "%3.0f %% %s %s\n", 100 * done, phase, detail);
}

int main(int argc, char** argv) {
  if (argc != 5) {
    fprintf(stderr, "usage: %s MODEL_DIR CALIB.jsonl OUT.h5 TENSOR\n", argv[0]);
    return PARE_USAGE;
  }
  pare_job* job;
  check(pare_job_new("quantize", &job));
  check(pare_job_set(job, "model", argv[1]));
  check(pare_job_set(job, "qformat", "int4_awq"));
  check(pare_job_set(job, "calibration", argv[2]));
  check(pare_job_set(job, "calibration_size", "8"));
  check(pare_job_set(job, "calibration_seqlen", "128"));
  check(pare_job_set(job, "output", argv[3]));
  check(pare_job_on_progress(job, show, NULL));
  check(pare_job_run(job));
  pare_job_free(job);

  pare_checkpoint* checkpoint;
  const pare_tensor* tensor;
  check(pare_checkpoint_open(argv[3], &checkpoint));
  check(pare_checkpoint_find(checkpoint, argv[4], &tensor));
  const int64_t* shape;
  size_t columns = pare_tensor_shape(tensor, &shape) == 2 ? (size_t)shape[1] : 1;
  float* row = malloc(columns * sizeof *row);
  if (row == NULL) return PARE_LIMIT_EXCEEDED;
  check(pare_tensor_values(tensor, 0, 1, row, columns));
  const char* scheme = pare_tensor_scheme(tensor);
  printf("%s %s:", argv[4], scheme == NULL ? pare_tensor_dtype(tensor) : scheme);
  for (size_t i = 0; i < columns && i < 4; ++i) printf(" %g", (double)row[i]);
  printf("\n");
  free(row);
  pare_checkpoint_close(checkpoint);
  return 0;
}
