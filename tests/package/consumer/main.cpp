// Uses the installed library as a program would: quantizes, measures, exports, reads tensors.
//   consumer DEMO_DIR OUT_DIR
#include <pare/checkpoint.h>
#include <pare/engines.h>
#include <pare/error.h>
#include <pare/evaluate.h>
#include <pare/gates.h>
#include <pare/quantize.h>
#include <pare/version.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "consumer: not so: %s\n", what);
  std::exit(1);
}

/// The exception has to keep its type across the library's boundary.
void expect_an_error() {
  pare::QuantizeOptions options;
  options.model = "/no/such/model";
  options.output = "out.h5";
  try {
    pare::quantize(options, {});
  } catch (const pare::Error& error) {
    require(error.code() == pare::ErrorCode::kInputMissing, "the error has its code");
    return;
  }
  require(false, "a model that is not there is an error");
}

}  // namespace

int main(int argc, char** argv) {
  require(argc == 3, "usage: consumer DEMO_DIR OUT_DIR");
  require(pare::version() == PARE_EXPECTED_VERSION, "the library is the one that was installed");
  require(pare::version() == PARE_VERSION_STRING, "library and headers are of one version");
  expect_an_error();
  const std::string demo = argv[1];
  const std::string out = argv[2];

  pare::QuantizeOptions options;
  options.model = demo + "/model";
  options.output = out + "/cpp.h5";
  options.qformat = "int4_awq";
  options.calibration = demo + "/calib.jsonl";
  options.calibration_size = 8;
  options.calibration_seqlen = 128;
  double done = 0;
  pare::Callbacks callbacks;
  callbacks.on_progress = [&](const pare::Progress& at) { done = at.done; };
  const pare::QuantizeReport report = pare::quantize(options, callbacks);
  require(done > 0.99, "progress reaches its end");
  require(report.bits_per_weight > 4 && report.bits_per_weight < 16, "the model became smaller");

  pare::EvaluateOptions measure;
  measure.baseline = options.model;
  measure.candidates = {options.output};
  measure.text = demo + "/eval.txt";
  measure.ctx = 128;
  measure.limit = 16;
  const pare::EvaluateReport result = pare::evaluate(measure, {});
  const double ratio = result.candidates.at(0).perplexities.at("perplexity").ratio.value;
  require(ratio > 1 && ratio < 1.5, "it lost something, and not much");
  const pare::Gates strict{.max_loss = 1e-6, .max_ppl_ratio = {}, .max_kl = {}};
  require(pare::failed_gates(result, strict).size() == 1, "a gate fails");

  const pare::Checkpoint checkpoint(options.output);
  const std::string name = "model.layers.0.mlp.up_proj.weight";
  const pare::QuantizedWeight weight = checkpoint.quantized(name);
  require(pare::dequantize(weight, 1, 2) == checkpoint.values(name, 1, 2), "rows are rows");
  const auto copied = pare::copy_checkpoint(checkpoint, out + "/copy.h5", {});
  require(copied.sha256 == report.sha256, "a copy is the same bytes");

  pare::ExportOptions form;
  form.checkpoint = options.output;
  form.format = "dense";
  form.output = out + "/dense";
  const pare::ExportReport exported = pare::export_to(form, {});
  require(exported.quantized_linears > 0, "the checkpoint was exported");
  std::printf("%s: %.2f bits per weight, perplexity x %.4f\n", PARE_VERSION_STRING,
              report.bits_per_weight, ratio);
  return 0;
}
