// Exports for TensorRT-LLM, read by a program that shares no code with pare.
#include <cmath>
#include <map>
#include <sstream>

#include "core/dtype.h"
#include "tests/engines/engine_fixture.h"
#include "tests/engines/tensorrt_llm_fixture.h"
#include "tests/support/python.h"

namespace pare::testing {
namespace {

using ::testing::HasSubstr;

/// What TensorRT-LLM's names make of a linear of a Llama or a Mixtral.
std::string reader_name(const std::string& weight) {
  const std::map<std::string, std::string> names = {{"self_attn.q_proj", "attention.qkv.q"},
                                                    {"self_attn.k_proj", "attention.qkv.k"},
                                                    {"self_attn.v_proj", "attention.qkv.v"},
                                                    {"self_attn.o_proj", "attention.dense"},
                                                    {"mlp.gate_proj", "mlp.fc"},
                                                    {"mlp.up_proj", "mlp.gate"},
                                                    {"mlp.down_proj", "mlp.proj"},
                                                    {"block_sparse_moe.gate", "mlp.router"}};
  const std::string prefix = "model.layers.";
  const size_t dot = weight.find('.', prefix.size());
  const std::string layer = "transformer.layers." + weight.substr(prefix.size(), dot - 13) + ".";
  const std::string module = weight.substr(dot + 1, weight.size() - dot - 8);
  if (const auto found = names.find(module); found != names.end()) return layer + found->second;
  const std::string experts = "block_sparse_moe.experts.";
  const std::string number = module.substr(experts.size(), module.rfind('.') - experts.size());
  const std::string matrix = module.substr(module.rfind('.') + 1);
  if (matrix == "w2") return layer + "mlp.proj." + number;
  return layer + "mlp.fc." + number + (matrix == "w3" ? ".up" : ".gate");
}

struct Read {
  std::vector<int64_t> shape;
  std::vector<float> values;
  float input_scale = 0;
};

class TensorRtLlmReader : public TensorRtLlmTest {
 protected:
  /// Of each folder, by the reader's names; nothing when there is no Python with numpy.
  static std::vector<std::map<std::string, Read>> read_with_python(
      const std::vector<std::string>& folders, int64_t kv_heads) {
    static const std::string python = find_python(PARE_PYTHON);
    if (python.empty()) return {};
    std::vector<std::string> arguments = {PARE_SOURCE_DIR "/tests/engines/tensorrt_llm_reader.py",
                                          std::to_string(kv_heads)};
    arguments.insert(arguments.end(), folders.begin(), folders.end());
    const Finished reader = run_program(python, arguments);
    EXPECT_EQ(reader.status, 0) << reader.err;
    std::vector<std::map<std::string, Read>> found(folders.size());
    std::istringstream lines(reader.out);
    std::string folder;
    std::string module;
    int64_t rows = 0;
    int64_t columns = 0;
    std::string scale;
    while (lines >> folder >> module >> rows >> columns >> scale) {
      const auto at = std::ranges::find(folders, folder) - folders.begin();
      Read& read = found[static_cast<size_t>(at)][module];
      read.shape = {rows, columns};
      read.input_scale = std::strtof(scale.c_str(), nullptr);
      const std::string bytes = read_file(folder + "/read/" + module + ".f32");
      read.values.resize(bytes.size() / sizeof(float));
      std::memcpy(read.values.data(), bytes.data(), bytes.size());
    }
    return found;
  }
};

TEST_F(TensorRtLlmReader, AnotherReaderFindsTheSameWeights) {
  use(llama());
  int number = 0;
  for (const TrtScheme& scheme : trt_schemes()) {
    const std::string source_path = checkpoint(scheme);
    const auto source = open_weight_source(source_path);
    std::vector<std::string> folders;
    for (const Ranks& ranks : kRanks) {
      folders.push_back(exported(source_path, ranks, "engine" + std::to_string(number++)).output);
    }
    const auto read = read_with_python(folders, 5);
    if (read.empty()) GTEST_SKIP() << "no python3 here can import numpy";
    for (size_t i = 0; i < folders.size(); ++i) {
      SCOPED_TRACE(label(scheme, kRanks[i]));
      EXPECT_EQ(read[i].size(), 21U);
      for (const std::string& name : source->names()) {
        if (!source->is_compressed(name)) continue;
        const CompressedWeight weight = source->compressed(name);
        const Read& found = read[i].at(reader_name(name));
        ASSERT_EQ(found.shape, (std::vector<int64_t>{weight.out_features, weight.in_features}));
        EXPECT_EQ(found.input_scale, weight.input_scale) << name;
        std::vector<float> expected = values_of(weight);
        if (scheme.qformat == std::string("int8_wo")) {
          for (float& value : expected) value = round_to_bf16(value);
        }
        ASSERT_EQ(found.values, expected) << name;
      }
    }
  }
}

TEST_F(TensorRtLlmReader, AnotherReaderFindsExperts) {
  use_config("Mixtral");
  for (const char* qformat : {"fp8", "int4_awq", "int8_wo"}) {
    QuantizeOptions options = job_of("q.h5", qformat);
    options.awq_block_size = 2;
    options.algo = "rtn";
    options.force = true;
    const auto source = open_weight_source(quantize(options, {}).output);
    const std::string folder =
        exported(source->path(), {2, 2}, std::string("engine-") + qformat).output;
    const auto read = read_with_python({folder}, 3);
    if (read.empty()) GTEST_SKIP() << "no python3 here can import numpy";
    const auto rank = SafetensorsFile::open(folder + "/rank1.safetensors");
    EXPECT_EQ(rank.get("transformer.layers.0.mlp.router.weight").dtype, DType::kF32);
    int64_t experts = 0;
    for (const std::string& name : source->names()) {
      if (!source->is_compressed(name)) continue;
      SCOPED_TRACE(std::string(qformat) + " " + name);
      std::vector<float> expected = values_of(source->compressed(name));
      if (qformat == std::string("int8_wo")) {
        for (float& value : expected) value = round_to_bf16(value);
      }
      EXPECT_EQ(read[0].at(reader_name(name)).values, expected);
      experts += name.find(".experts.") == std::string::npos ? 0 : 1;
    }
    EXPECT_EQ(experts, 2 * 5 * 3);
  }
}

TEST_F(TensorRtLlmReader, QueriesKeysAndValuesShareAScaleInFp8) {
  use(llama());
  // Scales of their own, as another tool may have given them.
  const std::string made = checkpoint({"fp8", "FP8"});
  ExportOptions options;
  options.checkpoint = made;
  options.format = "compressed-tensors";
  options.output = path("apart");
  export_to(options, {});
  const std::string file = path("apart/model.safetensors");
  const auto same = open_weight_source(made);
  for (const std::string layer : {"0", "1", "2"}) {
    const std::string attention = "model.layers." + layer + ".self_attn.";
    const float scale = same->compressed(attention + "q_proj.weight").scale[0];
    set_number(file, attention + "k_proj.weight_scale", scale * 0.7F);
    set_number(file, attention + "v_proj.weight_scale", scale * 0.45F);
    set_number(file, attention + "v_proj.input_scale", 3.0F);
  }
  const auto source = open_weight_source(path("apart"));
  const ExportReport report = exported(path("apart"), {5, 1});
  ASSERT_EQ(report.warnings.size(), 3U);
  EXPECT_THAT(report.warnings[0], HasSubstr("different scales"));
  const auto read = read_with_python({report.output}, 5);
  const auto found = open_weight_source(report.output);
  // The value of E4M3 that is nearest, of two the one with an even code.
  const auto nearest = [](float value) {
    float best = 0;
    int best_code = 0;
    for (int code = 0; code < 256; ++code) {
      const float candidate = e4m3_to_f32(static_cast<uint8_t>(code));
      if (!std::isfinite(candidate)) continue;
      const float distance = std::abs(candidate - value);
      const float least = std::abs(best - value);
      if (distance < least || (distance == least && code % 2 == 0 && best_code % 2 != 0)) {
        best = candidate;
        best_code = code;
      }
    }
    return best;
  };
  for (const std::string part : {"q_proj", "k_proj", "v_proj"}) {
    const std::string name = "model.layers.1.self_attn." + part + ".weight";
    const float shared = source->compressed("model.layers.1.self_attn.q_proj.weight").scale[0];
    std::vector<float> expected = values_of(source->compressed(name));
    for (float& value : expected) value = nearest(value * (1.0F / shared)) * shared;
    const CompressedWeight weight = found->compressed(name);
    EXPECT_EQ(values_of(weight), expected) << name;
    EXPECT_EQ(weight.scale, std::vector<float>{shared});
    EXPECT_EQ(weight.input_scale, 3.0F);
    if (!read.empty()) {
      EXPECT_EQ(read[0].at(reader_name(name)).values, expected) << name;
    }
  }
  // A second rounding to FP8 moves the model less than the first one did.
  const double kl = mean_kl(path("apart"), report.output);
  EXPECT_GT(kl, 0);
  EXPECT_LT(kl, mean_kl(path("model"), path("apart")));
}

}  // namespace
}  // namespace pare::testing
