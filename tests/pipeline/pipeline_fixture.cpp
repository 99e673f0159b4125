#include "tests/pipeline/pipeline_fixture.h"

#include <random>

namespace pare::testing {

Failure failure_of(const QuantizeOptions& options, const Callbacks& callbacks) {
  try {
    quantize(options, callbacks);
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  ADD_FAILURE() << "quantize() did not fail";
  return {};
}

double mean_sqnr(const QuantizeReport& report, const std::string& part) {
  double sum = 0;
  double count = 0;
  for (const LayerReport& layer : report.layers) {
    if (layer.name.find(part) == std::string::npos) continue;
    sum += layer.sqnr_db.value();
    count += 1;
  }
  return sum / count;
}

void PipelineTest::write_ids(int64_t windows, int64_t length, int64_t vocabulary) {
  std::mt19937 random(3);
  std::string text;
  for (int64_t i = 0; i < windows * length; ++i) {
    text += std::to_string(random() % static_cast<uint32_t>(vocabulary)) + " ";
  }
  write_file(path("calib.ids"), text);
  windows_ = windows;
  length_ = length;
}

QuantizeOptions PipelineTest::job(const std::string& output, const std::string& qformat,
                                  const std::string& sparsity) const {
  QuantizeOptions options;
  options.model = path("model");
  options.output = path(output);
  options.qformat = qformat;
  options.sparsity = sparsity;
  options.calibration = path("calib.ids");
  options.calibration_size = windows_;
  options.calibration_seqlen = length_;
  options.awq_block_size = 32;
  options.threads = 2;
  return options;
}

}  // namespace pare::testing
