// pare from C, and from every language that calls C (examples/quantize.c, examples/quantize.py).
//
//   pare_job* job = NULL;
//   if (pare_job_new("quantize", &job) != PARE_OK ||
//       pare_job_set(job, "model", "models/llama") != PARE_OK ||
//       pare_job_set(job, "output", "llama-int4.h5") != PARE_OK ||
//       pare_job_set(job, "qformat", "int4_awq") != PARE_OK ||
//       pare_job_set(job, "calibration", "c4_sample.jsonl") != PARE_OK ||
//       pare_job_run(job) != PARE_OK) {
//     fprintf(stderr, "%s\n", pare_last_error());
//   } else {
//     puts(pare_job_report(job));
//   }
//   pare_job_free(job);
//
// Handles are opaque and belong to the caller until they are freed; freeing NULL does nothing. All
// texts are UTF-8 and end in NUL; those that are returned live as long as the handle that they come
// from. A handle is for one thread at a time; a checkpoint that is only read is for any number.
// Nothing throws through this interface. What is NULL and must not be is PARE_USAGE.
#ifndef PARE_PARE_H
#define PARE_PARE_H

#include <stddef.h>
#include <stdint.h>

#include "pare/export.h"
#include "pare/version_number.h"

#ifdef __cplusplus
extern "C" {
#endif

/// How a call ended. The numbers are those of pare::ErrorCode and the exit statuses of the
/// programs; they never change.
typedef enum pare_status {
  PARE_OK = 0,
  PARE_INTERNAL = 1,         ///< A bug in pare.
  PARE_USAGE = 2,            ///< Options or arguments that are unknown or contradict each other.
  PARE_INPUT_MISSING = 3,    ///< A file or folder that does not exist or cannot be read.
  PARE_INPUT_MALFORMED = 4,  ///< A file that is damaged, or of a kind that is not supported.
  PARE_WRITE_FAILED = 5,     ///< Output could not be written: disk full, exists already.
  PARE_LIMIT_EXCEEDED = 6,   ///< Out of memory, or more than max_memory allows.
  PARE_NON_FINITE = 7,       ///< NaN or infinity in weights or activations.
  PARE_GATE_FAILED = 8,      ///< The report is complete, but worse than the gates allow.
  PARE_INTERRUPTED = 130     ///< Cancelled through the callback.
} pare_status;

/// What the last call that failed in this thread said: file or tensor, expected, found, what to do.
/// "" when none has. Lives until the next call in this thread.
PARE_EXPORT const char* pare_last_error(void);

/// "ok", "usage", "input_missing" … as in the JSON of the programs.
PARE_EXPORT const char* pare_status_name(pare_status status);

/// Of the library that runs: "0.1.0". PARE_VERSION_STRING is that of this header.
PARE_EXPORT const char* pare_version(void);

/* Jobs: quantize, mixed, evaluate, export, check. */

typedef struct pare_job pare_job;

/// `kind` is "quantize", "mixed" (precision: the format of each layer is found), "evaluate",
/// "export" or "check" (of a folder that an engine is to load). *job is NULL when this fails.
PARE_EXPORT pare_status pare_job_new(const char* kind, pare_job** job);
PARE_EXPORT void pare_job_free(pare_job* job);

/// Sets an option by the name that it has in pare/quantize.h, pare/mixed_precision.h (and all of
/// pare/quantize.h), pare/evaluate.h (and max_loss, max_ppl_ratio and max_kl of pare/gates.h) or
/// pare/engines.h, as text: "128", "0.01", "true", "false". An option that is a list or a table
/// gets one more entry a call, the first of which takes the place of the default; entries of tables
/// are "KEY=VALUE".
PARE_EXPORT pare_status pare_job_set(pare_job* job, const char* option, const char* value);

/// `done` is the share of the whole job, 0 to 1; `seconds_left` is negative while there is no
/// estimate.
typedef void (*pare_progress_callback)(void* user, const char* phase, const char* detail,
                                       double done, double seconds_left);
typedef void (*pare_warning_callback)(void* user, const char* message);
/// Not 0 stops the job, which then returns PARE_INTERRUPTED.
typedef int (*pare_cancelled_callback)(void* user);

/// Called by pare_job_run() in its thread. NULL takes a callback away.
PARE_EXPORT pare_status pare_job_on_progress(pare_job* job, pare_progress_callback callback,
                                             void* user);
PARE_EXPORT pare_status pare_job_on_warning(pare_job* job, pare_warning_callback callback,
                                            void* user);
PARE_EXPORT pare_status pare_job_on_cancelled(pare_job* job, pare_cancelled_callback callback,
                                              void* user);

/// Does the work. PARE_GATE_FAILED leaves a report and its outputs; so does PARE_INPUT_MALFORMED of
/// a check that found what an engine would refuse.
PARE_EXPORT pare_status pare_job_run(pare_job* job);

/// What pare_job_run() found, as the JSON that docs/cli.md describes ("pare.quantize/1",
/// "pare.mixed/1", "pare.eval/1", "pare.export/1", "pare.check/1"); "" before. NULL for NULL. Lives
/// until the next run.
PARE_EXPORT const char* pare_job_report(const pare_job* job);

/* Checkpoints. docs/checkpoint.md says what is in one. */

typedef struct pare_checkpoint pare_checkpoint;
typedef struct pare_tensor pare_tensor;  ///< Belongs to its checkpoint.

/// An .h5 file or a folder of shards. *checkpoint is NULL when this fails.
PARE_EXPORT pare_status pare_checkpoint_open(const char* path, pare_checkpoint** checkpoint);
PARE_EXPORT void pare_checkpoint_close(pare_checkpoint* checkpoint);

/// Recomputes all hashes. PARE_INPUT_MALFORMED names what differs.
PARE_EXPORT pare_status pare_checkpoint_verify(const pare_checkpoint* checkpoint);

/// "config.json", "recipe.json" ("" when there is none) or a file such as "tokenizer.json".
/// `size`, which may be NULL, gets its bytes without the NUL at the end.
PARE_EXPORT pare_status pare_checkpoint_text(const pare_checkpoint* checkpoint, const char* name,
                                             const char** text, size_t* size);

/// Number of tensors; 0 for NULL.
PARE_EXPORT size_t pare_checkpoint_count(const pare_checkpoint* checkpoint);
/// By index, in the order of their names; NULL beyond the end.
PARE_EXPORT const pare_tensor* pare_checkpoint_tensor(const pare_checkpoint* checkpoint,
                                                      size_t index);
/// By name. *tensor is NULL when this fails.
PARE_EXPORT pare_status pare_checkpoint_find(const pare_checkpoint* checkpoint, const char* name,
                                             const pare_tensor** tensor);

/// These return NULL for NULL; scheme and activation also for a tensor that is not compressed.
PARE_EXPORT const char* pare_tensor_name(const pare_tensor* tensor);
PARE_EXPORT const char* pare_tensor_dtype(const pare_tensor* tensor);
PARE_EXPORT const char* pare_tensor_scheme(const pare_tensor* tensor);
PARE_EXPORT const char* pare_tensor_activation(const pare_tensor* tensor);

/// Number of dimensions, 0 for NULL; `shape`, which may be NULL, gets where they are.
PARE_EXPORT size_t pare_tensor_shape(const pare_tensor* tensor, const int64_t** shape);

/// "stored_bytes"; of a compressed weight also "group_size", "block_rows", "symmetric", "sparse",
/// "pre_quant_scaled".
PARE_EXPORT pare_status pare_tensor_number(const pare_tensor* tensor, const char* name,
                                           int64_t* value);

/// Rows [first, first + rows) along the first dimension, dequantized to float; a scalar is one row.
/// `count` is the number of floats in `values` and has to be that of those rows.
PARE_EXPORT pare_status pare_tensor_values(const pare_tensor* tensor, int64_t first, int64_t rows,
                                           float* values, size_t count);

/// The bytes of a tensor as they are stored: "data" of a dense one; of a compressed weight "codes",
/// "mask_index", "zero_point" (bytes), "scale", "pre_quant_scale", "global_scale", "input_scale"
/// (floats). A part that the weight does not have is 0 bytes. `size`, which may be NULL, gets the
/// number of bytes; with `buffer` NULL nothing is copied, else `capacity` has to be enough.
PARE_EXPORT pare_status pare_tensor_part(const pare_tensor* tensor, const char* part, void* buffer,
                                         size_t capacity, size_t* size);

/* Writing. */

typedef struct pare_output pare_output;

/// A new checkpoint with the texts of `like`, tensor by tensor: NAME.h5, or another name for a
/// folder of shards. Nothing is there under the name before pare_output_finish(); what exists is
/// refused unless `force` is not 0, and then stays until that. *output is NULL when this fails.
PARE_EXPORT pare_status pare_output_new(const char* path, const pare_checkpoint* like, int force,
                                        pare_output** output);
/// Removes what was written where it is not finished.
PARE_EXPORT void pare_output_free(pare_output* output);

/// A tensor as it is stored in its checkpoint, compressed or not.
PARE_EXPORT pare_status pare_output_copy(pare_output* output, const pare_tensor* tensor);
/// One that is not compressed: `dtype` as pare_tensor_dtype() has it ("bfloat16", "float32"), the
/// bytes row-major and little-endian. `shape` may be NULL for a scalar.
PARE_EXPORT pare_status pare_output_write(pare_output* output, const char* name, const char* dtype,
                                          const int64_t* shape, size_t dimensions, const void* data,
                                          size_t size);
/// Gives the checkpoint its name. The same tensors in the same order are the same bytes.
PARE_EXPORT pare_status pare_output_finish(pare_output* output);

#ifdef __cplusplus
}
#endif

#endif
