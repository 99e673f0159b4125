// Every form of the reference model: the same model for pare, and the same weights for a reader
// that shares no code with it.
#include <array>
#include <filesystem>

#include "core/dtype.h"
#include "tests/engines/engine_fixture.h"
#include "tests/support/python.h"
#include "tests/support/reference.h"

namespace pare::testing {
namespace {

struct BaseCase {
  Scheme scheme;
  std::array<const char*, 6> forms;  // up to the first that is null
};

// AWQ and GPTQ take groups and outputs as they come here; what a form cannot hold has its own
// tests.
constexpr std::array<BaseCase, 10> kCases = {
    {{{"fp8"}, {"compressed-tensors", "modelopt", "tensorrt-llm"}},
     {{"fp8_pc_pt"}, {"compressed-tensors", "modelopt", "tensorrt-llm"}},
     {{"fp8_block"}, {"compressed-tensors"}},
     {{"int8_sq"}, {"compressed-tensors", "modelopt", "tensorrt-llm"}},
     {{"int8_wo"}, {"compressed-tensors", "modelopt", "gptq", "gptq-v2", "gguf"}},
     {{"int4_wo"}, {"compressed-tensors", "modelopt", "awq", "gptq", "tensorrt-llm", "gguf"}},
     {{"int4_wo", true}, {"compressed-tensors", "awq", "gptq-v2", "gguf"}},
     {{"w4a8_awq"}, {"compressed-tensors", "modelopt", "tensorrt-llm"}},
     {{"nvfp4"}, {"compressed-tensors", "modelopt"}},
     {{"mxfp4"}, {"compressed-tensors"}}}};

class BaseForms : public EngineTest {
 protected:
  void SetUp() override {
    model_ = reference_dir() + "/models/base";
    text_ = reference_dir() + "/data/wikitext2/wiki.test.raw";
    if (!std::filesystem::exists(model_) || !std::filesystem::exists(text_)) {
      GTEST_SKIP() << "no reference data in " << reference_dir();
    }
  }

  std::string base(const Scheme& scheme) const {
    QuantizeOptions options;
    options.model = model_;
    options.output = path("base.h5");
    options.qformat = scheme.qformat;
    options.symmetric = !scheme.asym;
    options.algo = "rtn";  // Which numbers is the same to a form.
    options.calibration = text_;
    options.calibration_size = 2;
    options.calibration_seqlen = 64;
    options.force = true;
    return quantize(options, {}).output;
  }

  std::string model_;
  std::string text_;
};

TEST_F(BaseForms, AreTheSameModelAndTheSameWeights) {
  const bool has_python = !find_python(PARE_PYTHON).empty();
  for (const BaseCase& each : kCases) {
    const std::string source = base(each.scheme);
    for (const char* name : each.forms) {
      if (name == nullptr) break;
      const std::string form = name;
      SCOPED_TRACE(each.scheme.text() + " " + form);
      const ExportReport report = exported(source, form);
      EXPECT_EQ(report.quantized_linears, 70);
      const bool f16 = form == "awq" || form.starts_with("gptq") || form == "gguf";
      EXPECT_LE(divergence(source, report.output, text_, 2), f16 ? 5e-3 : 0);
      if (!has_python || form == "gguf" || form == "tensorrt-llm") continue;
      std::filesystem::remove_all(path("read"));
      expect_values(read_in_python("hf_folder_reader.py", report.output, path("read")), source,
                    [&](CompressedWeight weight) {
                      if (!f16) return weight;
                      for (float& scale : weight.scale) scale = f16_to_f32(f32_to_f16(scale));
                      return weight;
                    });
    }
  }
}

}  // namespace
}  // namespace pare::testing
