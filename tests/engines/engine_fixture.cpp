#include "tests/engines/engine_fixture.h"

#include <cstring>
#include <filesystem>
#include <sstream>

#include "formats/weight_source.h"
#include "kernels/codec.h"
#include "pare/evaluate.h"
#include "tests/support/python.h"

namespace pare::testing {
namespace {

constexpr int64_t kReferenceWindow = 128;

}  // namespace

std::string Scheme::text() const {
  return std::string(qformat) + (asym ? " asym" : "") + (dynamic ? " dynamic " : " ") + sparsity;
}

std::map<std::string, std::vector<float>> read_in_python(const std::string& script,
                                                         const std::string& folder,
                                                         const std::string& scratch) {
  std::map<std::string, std::vector<float>> found;
  std::filesystem::create_directories(scratch);
  const Finished reader = run_program(
      find_python(PARE_PYTHON), {PARE_SOURCE_DIR "/tests/engines/" + script, folder, scratch});
  EXPECT_EQ(reader.status, 0) << reader.err;
  std::istringstream lines(reader.out);
  std::string module;
  int64_t rows = 0;
  int64_t columns = 0;
  while (lines >> module >> rows >> columns) {
    const std::string bytes = read_file(scratch + "/" + module + ".f32");
    std::vector<float>& values = found[module];
    values.resize(static_cast<size_t>(rows * columns));
    EXPECT_EQ(bytes.size(), values.size() * sizeof(float)) << module;
    if (bytes.size() != values.size() * sizeof(float)) continue;
    std::memcpy(values.data(), bytes.data(), bytes.size());
  }
  return found;
}

void expect_values(const std::map<std::string, std::vector<float>>& found,
                   const std::string& checkpoint,
                   const std::function<CompressedWeight(CompressedWeight)>& expected_of) {
  const auto source = open_weight_source(checkpoint);
  size_t count = 0;
  for (const std::string& name : source->names()) {
    if (!source->is_compressed(name)) continue;
    const std::string module = name.substr(0, name.rfind('.'));
    const CompressedWeight weight = expected_of(source->compressed(name));
    if (weight.format == WeightFormat::kBf16) continue;
    ++count;
    ASSERT_TRUE(found.contains(module)) << module;
    const std::vector<float>& values = found.at(module);
    std::vector<float> expected(static_cast<size_t>(weight.out_features * weight.in_features));
    ASSERT_EQ(values.size(), expected.size()) << module;
    dequantize_rows(weight, 0, weight.out_features, expected);
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(values[i], expected[i]) << module << " " << i;
    }
  }
  EXPECT_EQ(found.size(), count);
  EXPECT_GT(count, 0U);
}

std::vector<std::string> form_warnings(const ExportReport& report) {
  std::vector<std::string> warnings;
  for (const std::string& warning : report.warnings) {
    const bool is_of_model = warning.find("has no tokenizer") != std::string::npos ||
                             warning.starts_with("kernels:") ||
                             warning.find("vLLM and SGLang read FP8") != std::string::npos;
    if (!is_of_model) warnings.push_back(warning);
  }
  return warnings;
}

EngineTest::EngineTest() {
  ModelShape shape;
  shape.hidden = 64;
  shape.feed_forward = 96;
  write(shape);
}

std::string EngineTest::checkpoint(const Scheme& scheme) {
  QuantizeOptions options = job("q.h5", scheme.qformat, scheme.sparsity);
  options.symmetric = !scheme.asym;
  options.dynamic_activations = scheme.dynamic;
  options.force = true;
  return quantize(options, {}).output;
}

ExportReport EngineTest::exported(const std::string& checkpoint, const std::string& form,
                                  const std::string& name) const {
  ExportOptions options;
  options.checkpoint = checkpoint;
  options.format = form;
  options.output = path(name);
  options.force = true;
  options.threads = 2;
  return export_to(options, {});
}

Failure EngineTest::export_failure(const std::string& checkpoint, const std::string& form) const {
  try {
    exported(checkpoint, form, "refused");
  } catch (const Error& error) {
    EXPECT_FALSE(std::filesystem::exists(path("refused")));
    return {error.code(), error.what()};
  }
  ADD_FAILURE() << form << " was written";
  return {};
}

double EngineTest::divergence(const std::string& baseline, const std::string& candidate) const {
  return divergence(baseline, candidate, path("calib.ids"), 0);
}

double EngineTest::divergence(const std::string& baseline, const std::string& candidate,
                              const std::string& text, int64_t windows) const {
  EvaluateOptions options;
  options.baseline = baseline;
  options.candidates = {candidate};
  options.text = text;
  options.ctx = windows > 0 ? kReferenceWindow : length_;
  options.limit = windows;
  const EvaluateReport found = evaluate(options, {});
  return found.candidates[0].perplexities.at("perplexity").divergence.kl_max;
}

nlohmann::json EngineTest::config_of(const std::string& folder) {
  return nlohmann::json::parse(read_file(folder + "/config.json"));
}

}  // namespace pare::testing
