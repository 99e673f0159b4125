// Models exported for TensorRT-LLM, and changes to the files that come out.
#pragma once

#include <gmock/gmock.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engines/engine_check.h"
#include "engines/tensorrt_llm_check.h"
#include "formats/safetensors.h"
#include "formats/weight_source.h"
#include "kernels/codec.h"
#include "pare/engines.h"
#include "pare/evaluate.h"
#include "tests/pipeline/architecture_fixture.h"

namespace pare::testing {

struct TrtScheme {
  const char* qformat;
  const char* algorithm;  ///< "quant_algo"
  bool dynamic = false;
  const char* sparsity = "none";
};

/// Every format that the form has a place for.
inline const std::vector<TrtScheme>& trt_schemes() {
  static const std::vector<TrtScheme> schemes = {
      {"fp8", "FP8"},
      {"fp8_pc_pt", "FP8_PER_CHANNEL_PER_TOKEN"},
      {"int8_sq", "W8A8_SQ_PER_CHANNEL"},
      {"int8_sq", "W8A8_SQ_PER_CHANNEL_PER_TOKEN_PLUGIN", true},
      {"int8_wo", "W8A16"},
      {"int4_awq", "W4A16_AWQ"},
      {"w4a8_awq", "W4A8_AWQ"},
      {"int4_awq", "W4A16_AWQ", false, "sparsegpt"},
      {"fp8", "FP8", false, "wanda"}};
  return schemes;
}

struct Ranks {
  int64_t tp_size = 1;
  int64_t pp_size = 1;
};

inline constexpr std::array<Ranks, 6> kRanks = {{{1, 1}, {2, 1}, {5, 1}, {10, 1}, {1, 2}, {2, 3}}};

inline std::string label(const TrtScheme& scheme, const Ranks& ranks) {
  return std::string(scheme.algorithm) + " " + scheme.sparsity + " tp " +
         std::to_string(ranks.tp_size) + " pp " + std::to_string(ranks.pp_size);
}

inline std::vector<float> values_of(const CompressedWeight& weight) {
  std::vector<float> values(static_cast<size_t>(weight.out_features * weight.in_features));
  dequantize_rows(weight, 0, weight.out_features, values);
  return values;
}

class TensorRtLlmTest : public ArchitectureTest {
 protected:
  /// Ten heads over five KV heads, as wide together as five ranks divide in groups of 16.
  static nlohmann::json llama() {
    return {{"architectures", {"LlamaForCausalLM"}},
            {"model_type", "llama"},
            {"vocab_size", 101},
            {"tie_word_embeddings", false},
            {"hidden_size", 64},
            {"intermediate_size", 160},
            {"num_hidden_layers", 3},
            {"num_attention_heads", 10},
            {"num_key_value_heads", 5},
            {"head_dim", 16},
            {"max_position_embeddings", 64},
            {"rms_norm_eps", 1e-5},
            {"rope_theta", 500.0}};
  }

  std::string checkpoint(const TrtScheme& scheme) const {
    QuantizeOptions options = job_of("q.h5", scheme.qformat, scheme.sparsity);
    options.dynamic_activations = scheme.dynamic;
    options.force = true;
    return quantize(options, {}).output;
  }

  ExportReport exported(const std::string& source, const Ranks& ranks = {},
                        const std::string& name = "engine") const {
    ExportOptions options;
    options.checkpoint = source;
    options.format = "tensorrt-llm";
    options.output = path(name);
    options.force = true;
    options.threads = 2;
    options.tp_size = ranks.tp_size;
    options.pp_size = ranks.pp_size;
    return export_to(options, {});
  }

  static nlohmann::json json_of(const std::string& file) {
    return nlohmann::json::parse(read_file(file));
  }

  static void edit_json(const std::string& file,
                        const std::function<void(nlohmann::json&)>& change) {
    nlohmann::json json = json_of(file);
    change(json);
    write_file(file, json.dump());
  }

  /// The bytes of a tensor of a safetensors file, changed in place.
  static void edit_tensor(const std::string& file, const std::string& name,
                          const std::function<void(char* bytes, size_t size)>& change) {
    std::string text = read_file(file);
    uint64_t length = 0;
    std::memcpy(&length, text.data(), sizeof(length));
    const auto entry = nlohmann::json::parse(text.substr(8, length)).at(name);
    const auto begin = entry.at("data_offsets").at(0).get<size_t>();
    const auto end = entry.at("data_offsets").at(1).get<size_t>();
    change(text.data() + 8 + length + begin, end - begin);
    write_file(file, text);
  }

  static void set_number(const std::string& file, const std::string& name, float value) {
    edit_tensor(file, name,
                [&](char* bytes, size_t) { std::memcpy(bytes, &value, sizeof(value)); });
  }

  /// Renames a tensor in the header of a file, to a name of the same length.
  static void rename_tensor(const std::string& file, const std::string& name,
                            const std::string& other) {
    std::string text = read_file(file);
    const size_t at = text.find("\"" + name + "\"");
    ASSERT_NE(at, std::string::npos);
    text.replace(at + 1, name.size(), other);
    write_file(file, text);
  }

  static std::vector<CheckFinding> refusals(const std::string& folder, int64_t tp_size = 1) {
    EngineFindings findings;
    check_tensorrt_llm(folder, {.tp_size = tp_size}, findings);
    return findings.refusals;
  }

  /// What an export fails with.
  Failure export_failure(const std::string& source, const Ranks& ranks = {}) const {
    try {
      exported(source, ranks, "refused");
    } catch (const Error& error) {
      EXPECT_FALSE(std::filesystem::exists(path("refused")));
      return {error.code(), error.what()};
    }
    ADD_FAILURE() << "the export did not fail";
    return {};
  }

  double mean_kl(const std::string& baseline, const std::string& candidate) const {
    EvaluateOptions options;
    options.baseline = baseline;
    options.candidates = {candidate};
    options.text = path("calib.ids");
    options.ctx = length_;
    const EvaluateReport report = evaluate(options, {});
    return report.candidates[0].perplexities.at("perplexity").divergence.kl_mean.value;
  }

  static Failure open_failure(const std::string& folder) {
    try {
      const auto source = open_weight_source(folder);
      for (const std::string& name : source->names()) {
        if (source->is_compressed(name)) {
          source->compressed(name);
        } else {
          source->dense(name);
        }
      }
    } catch (const Error& error) {
      return {error.code(), error.what()};
    }
    ADD_FAILURE() << folder << " was read";
    return {};
  }
};

}  // namespace pare::testing
