// Every family that TensorRT-LLM's tables name: there and back, with and without the model's own
// configuration; those that are refused.
#include "formats/safetensors_writer.h"
#include "formats/tensorrt_llm_layout.h"
#include "formats/weight_source.h"
#include "pare/evaluate.h"
#include "tests/engines/tensorrt_llm_fixture.h"
#include "tests/support/error_text.h"
#include "tests/support/model_configs.h"

namespace pare::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class TensorRtLlmFamilies : public TensorRtLlmTest {
 protected:
  /// The model itself, or with a format its checkpoint in that, rounded to nearest.
  std::string source_in(const std::string& qformat,
                        const std::function<void(QuantizeOptions&)>& change = {}) const {
    if (qformat.empty()) return path("model");
    QuantizeOptions options = job_of("q.h5", qformat);
    options.algo = "rtn";
    options.awq_block_size = 2;
    options.force = true;
    if (change) change(options);
    return quantize(options, {}).output;
  }

  /// What of a checkpoint comes back otherwise than it went: linears by code and scale, dense
  /// tensors by value.
  static std::vector<std::string> changed(const WeightSource& one, const WeightSource& other) {
    std::vector<std::string> names;
    for (const std::string& name : different_tensors(one, other)) {
      // What BART keeps before position 0, and a bias of zeros.
      if (name == "final_logits_bias" || name.ends_with("embed_positions.weight")) continue;
      if (!is_same(one, other, name)) names.push_back(name);
    }
    return names;
  }

  // Routers are F32 in the form, and all experts of a layer have the largest scale of their inputs.
  static bool is_same(const WeightSource& one, const WeightSource& other, const std::string& name) {
    if (!one.contains(name) || !other.contains(name)) return false;
    if (name.ends_with("block_sparse_moe.gate.weight")) {
      return to_f32(one.dense(name), name) == to_f32(other.dense(name), name);
    }
    const size_t at = name.find(".experts.");
    if (at == std::string::npos || !one.is_compressed(name) || !other.is_compressed(name)) {
      return false;
    }
    float most = 0;
    for (const std::string& sibling : one.names()) {
      if (sibling.starts_with(name.substr(0, at)) &&
          sibling.ends_with(name.substr(name.size() - 9)) && one.is_compressed(sibling)) {
        most = std::max(most, one.compressed(sibling).input_scale);
      }
    }
    const CompressedWeight a = one.compressed(name);
    const CompressedWeight b = other.compressed(name);
    return a.codes == b.codes && a.scale == b.scale && b.input_scale == most;
  }
};

struct Family {
  const char* config;
  const char* architecture;  ///< TensorRT-LLM's
  int64_t tp_size;           ///< More than one that it can be split between.
};

// Sizes are those of the configurations: 6 heads over 3 or 1, 5 over 1 …
const std::vector<Family> decoders = {
    {"LlamaThreeTied", "LlamaForCausalLM", 2},  {"LlamaDynamic", "LlamaForCausalLM", 2},
    {"Mixtral", "MixtralForCausalLM", 2},       {"QwenTwoSlidingFromLayer", "Qwen2ForCausalLM", 2},
    {"BigCodeOneKeyHead", "GPTForCausalLM", 1}, {"StarCoderTwo", "GPTForCausalLM", 2},
    {"StarCoderTwoPlain", "GPTForCausalLM", 2}};

TEST_F(TensorRtLlmFamilies, DecodersComeBack) {
  for (const Family& family : decoders) {
    use_config(family.config);
    for (const char* qformat : {"", "fp8", "int4_awq"}) {
      for (const Ranks& ranks : {Ranks{1, 1}, Ranks{family.tp_size, 2}}) {
        SCOPED_TRACE(std::string(family.config) + " " + qformat + " tp " +
                     std::to_string(ranks.tp_size));
        const std::string source = source_in(qformat);
        const ExportReport report = exported(source, ranks);
        EXPECT_EQ(json_of(report.output + "/config.json").at("architecture"), family.architecture);
        const auto expected = open_model_files(source).source;
        const auto found = open_model_files(report.output).source;
        const bool has_own_head = found->contains("lm_head.weight");
        EXPECT_EQ(has_own_head, expected->contains("lm_head.weight"));
        EXPECT_EQ(changed(*expected, *found), std::vector<std::string>{});
        const auto refused = refusals(report.output);
        EXPECT_TRUE(refused.empty()) << refused[0].subject << " " << refused[0].message;
      }
    }
  }
}

TEST_F(TensorRtLlmFamilies, Gpt2ComesBackTurnedRound) {
  json config = json::parse(model_config("GptTwoByLayer").json);
  config["scale_attn_by_inverse_layer_idx"] = false;
  config["n_head"] = 4;
  config["n_inner"] = 56;
  for (const bool tied : {false, true}) {
    config["tie_word_embeddings"] = tied;
    use(config);
    for (const char* qformat : {"", "fp8", "int8_sq", "int4_awq"}) {
      const std::string source = source_in(qformat, [&](QuantizeOptions& options) {
        options.dynamic_activations = qformat == std::string("int8_sq");
      });
      for (const Ranks& ranks : {Ranks{1, 1}, Ranks{4, 1}, Ranks{2, 2}}) {
        SCOPED_TRACE(std::string(qformat) + " tp " + std::to_string(ranks.tp_size));
        const ExportReport report = exported(source, ranks);
        const json made = json_of(report.output + "/config.json");
        EXPECT_EQ(made.at("architecture"), "GPTForCausalLM");
        EXPECT_EQ(made.at("position_embedding_type"), "learned_absolute");
        EXPECT_EQ(made.at("max_position_embeddings"), 64);
        const auto expected = open_model_files(source).source;
        EXPECT_EQ(changed(*expected, *open_model_files(report.output).source),
                  std::vector<std::string>{});
        const auto refused = refusals(report.output);
        EXPECT_TRUE(refused.empty()) << refused[0].subject << " " << refused[0].message;
      }
    }
  }
}

TEST_F(TensorRtLlmFamilies, FusedQueriesKeysAndValuesComeBack) {
  const auto changed_config = [](const char* name, const json& changes) {
    json config = json::parse(model_config(name).json);
    config.update(changes);
    return config;
  };
  const std::vector<json> configs = {
      changed_config("Phi", {{"partial_rotary_factor", 1.0}}),
      changed_config("NeoXParallel",
                     {{"intermediate_size", 160}, {"num_attention_heads", 4}, {"rotary_pct", 0.6}}),
      changed_config("BloomAfterNorm",
                     {{"apply_residual_connection_post_layernorm", false}, {"n_head", 4}})};
  for (const json& config : configs) {
    use(config);
    const std::string type = config.at("model_type");
    for (const char* qformat : {"", "fp8", "int8_sq", "int4_awq"}) {
      const std::string source = source_in(qformat);
      for (const Ranks& ranks : {Ranks{1, 1}, Ranks{2, 2}}) {
        SCOPED_TRACE(type + " " + qformat + " tp " + std::to_string(ranks.tp_size));
        const ExportReport report = exported(source, ranks, type + qformat);
        const ModelFiles found = open_model_files(report.output);
        EXPECT_EQ(changed(*open_model_files(source).source, *found.source),
                  std::vector<std::string>{});
        const auto refused = refusals(report.output);
        EXPECT_TRUE(refused.empty()) << refused[0].subject << " " << refused[0].message;
      }
      if (*qformat != '\0') continue;
      std::filesystem::remove(path(type + "/hf_config.json"));
      // Where KV heads are written several times, sums of other sizes have another order.
      EXPECT_LT(
          distance(logits_of(path(type), Precision::kF32), logits_of(source, Precision::kF32)),
          1e-6);
    }
    // Of two ranks each has the queries, keys and values of half the heads.
    exported(path("model"), {2, 1}, type + "-halves");
    const auto whole = open_model_files(path("model"));
    const auto rank = SafetensorsFile::open(path(type + "-halves/rank1.safetensors"));
    const TensorView qkv = rank.get("transformer.layers.0.attention.qkv.weight");
    const AttentionShape& shape = whole.graph.blocks[0].attentions[0].shape;
    const int64_t written = written_kv_heads(shape.heads, shape.kv_heads, 2);
    EXPECT_EQ(qkv.shape[0], (shape.heads / 2 + 2 * (written / 2)) * shape.head_dim);
    const auto row_of = [&](const TensorView& view, int64_t row) {
      const size_t bytes = static_cast<size_t>(view.shape[1]) * 2;
      const auto part = view.bytes.subspan(static_cast<size_t>(row) * bytes, bytes);
      return std::vector<std::byte>(part.begin(), part.end());
    };
    const BlockGraph& block = whole.graph.blocks[0];
    if (type == "phi3") {
      // Of gate and up the second half of each, up first.
      const TensorView both = whole.source->dense(block.prefix + "mlp.gate_up_proj.weight");
      const TensorView fc = rank.get("transformer.layers.0.mlp.fc.weight");
      const int64_t width = both.shape[0] / 2;
      EXPECT_EQ(row_of(fc, 0), row_of(both, width + width / 2));
      EXPECT_EQ(row_of(fc, width / 2), row_of(both, width / 2));
      continue;
    }
    // Head by head: query, key, value. Queries of the rank's first head, then the last head's
    // values.
    const TensorView fused =
        whole.source->dense(block.prefix + (type == "bloom" ? "self_attention" : "attention") +
                            ".query_key_value.weight");
    const int64_t width = shape.head_dim;
    EXPECT_EQ(row_of(qkv, 0), row_of(fused, 6 * width));
    EXPECT_EQ(row_of(qkv, 2 * width), row_of(fused, 7 * width));
    EXPECT_EQ(row_of(qkv, 6 * width - 1), row_of(fused, 12 * width - 1));
  }
}

struct LayerNormFamily {
  json config;
  const char* architecture;  ///< TensorRT-LLM's
  json keys;                 ///< That its config.json has beside those of all.
};

// OPT, MPT and the three kinds of Falcon: there and back, and with nothing but TensorRT-LLM's
// files.
TEST_F(TensorRtLlmFamilies, OptMptAndFalconComeBack) {
  const auto changed_config = [](const char* name, const json& changes) {
    json config = json::parse(model_config(name).json);
    config.update(changes);
    return config;
  };
  const json wide = {{"hidden_size", 40}, {"num_attention_heads", 4}, {"rope_theta", 10000.0}};
  const auto falcon = [&](const char* name, json changes) {
    changes.update(wide);
    return changed_config(name, changes);
  };
  const std::vector<LayerNormFamily> families = {
      {changed_config("Opt", {{"num_attention_heads", 4}, {"ffn_dim", 160}}),
       "OPTForCausalLM",
       {{"do_layer_norm_before", true}, {"max_position_embeddings", 64}, {"hidden_act", "relu"}}},
      {changed_config("MptClipped", {{"n_heads", 4},
                                     {"expansion_ratio", 4},
                                     {"attn_config", {{"clip_qkv", 0.5}, {"alibi_bias_max", 6}}}}),
       "MPTForCausalLM",
       {{"clip_qkv", 0.5}, {"alibi_bias_max", 6}, {"position_embedding_type", "alibi"}}},
      {falcon("FalconGrouped", {{"num_kv_heads", 2}}),
       "FalconForCausalLM",
       {{"new_decoder_architecture", true}, {"parallel_attention", true}}},
      {falcon("FalconGroupedOneNorm", {{"num_kv_heads", 2}}),
       "FalconForCausalLM",
       {{"new_decoder_architecture", false}, {"parallel_attention", true}}},
      {falcon("FalconOneKeyHead", json::object()),
       "FalconForCausalLM",
       {{"new_decoder_architecture", false}, {"parallel_attention", true}}},
      {falcon("FalconSerialRotary", json::object()),
       "FalconForCausalLM",
       {{"new_decoder_architecture", false}, {"parallel_attention", false}, {"bias", true}}}};
  for (const LayerNormFamily& family : families) {
    use(family.config);
    for (const char* qformat : {"", "fp8", "int8_sq", "int4_awq"}) {
      const std::string source = source_in(qformat);
      for (const Ranks& ranks : {Ranks{1, 1}, Ranks{2, 2}}) {
        SCOPED_TRACE(family.config.dump() + " " + qformat + " tp " + std::to_string(ranks.tp_size));
        const ExportReport report = exported(source, ranks);
        const json made = json_of(report.output + "/config.json");
        EXPECT_EQ(made.at("architecture"), family.architecture);
        for (const auto& [key, value] : family.keys.items()) EXPECT_EQ(made.at(key), value) << key;
        EXPECT_EQ(
            changed(*open_model_files(source).source, *open_model_files(report.output).source),
            std::vector<std::string>{});
        const auto refused = refusals(report.output);
        EXPECT_TRUE(refused.empty()) << refused[0].subject << " " << refused[0].message;
        if (*qformat != '\0') continue;
        std::filesystem::remove(report.output + "/hf_config.json");
        EXPECT_LT(
            distance(logits_of(report.output, Precision::kF32), logits_of(source, Precision::kF32)),
            1e-6);
      }
    }
  }
}

TEST_F(TensorRtLlmFamilies, WhatTheirEnginesDoNotHaveIsRefused) {
  const auto failure = [&](const char* name, const json& changes) {
    json config = json::parse(model_config(name).json);
    config.update(changes);
    use(config);
    return error_text([&] { exported(path("model")); });
  };
  EXPECT_THAT(failure("Opt", {{"ffn_dim", 52}}), HasSubstr("four times as wide"));
  EXPECT_THAT(failure("OptNormsBehindNarrow", {{"ffn_dim", 160}}), HasSubstr("no place"));
  EXPECT_THAT(failure("OptNormsBehindNarrow", {{"ffn_dim", 160}, {"word_embed_proj_dim", 40}}),
              HasSubstr("norms behind"));
  EXPECT_THAT(failure("OptPlainNorms", {{"ffn_dim", 160}}), HasSubstr("norms with other"));
  EXPECT_THAT(failure("MptClipped", json::object()), HasSubstr("scale"));
  EXPECT_THAT(failure("FalconAlibi", json::object()), HasSubstr("biases of its own"));
  EXPECT_THAT(failure("FalconGrouped", {{"rope_theta", 500.0}}), HasSubstr("another base"));
}

TEST_F(TensorRtLlmFamilies, OthersFoldersNeedNoConfigurationOfOurs) {
  std::vector<json> configs = {llama(), json::parse(model_config("Mixtral").json),
                               json::parse(model_config("StarCoderTwoPlain").json)};
  json mistral = llama();
  mistral["architectures"] = {"MistralForCausalLM"};
  mistral["model_type"] = "mistral";
  mistral["sliding_window"] = nullptr;
  configs.push_back(mistral);
  json qwen = llama();
  qwen["architectures"] = {"Qwen2ForCausalLM"};
  qwen["model_type"] = "qwen2";
  qwen["tie_word_embeddings"] = true;
  configs.push_back(qwen);
  json gpt = json::parse(model_config("GptTwoByLayer").json);
  gpt["scale_attn_by_inverse_layer_idx"] = false;
  configs.push_back(gpt);
  for (const json& config : configs) {
    SCOPED_TRACE(config.at("model_type"));
    use(config);
    const std::string folder =
        exported(path("model"), {}, config.at("model_type").get<std::string>()).output;
    std::filesystem::remove(folder + "/hf_config.json");
    std::filesystem::remove(folder + "/pare_export.json");
    const ModelFiles found = open_model_files(folder);
    EXPECT_EQ(found.graph.architecture, config.at("architectures").at(0));
    EXPECT_EQ(logits_of(found, Precision::kF32), logits_of(path("model"), Precision::kF32));
  }
}

TEST_F(TensorRtLlmFamilies, EmbeddingsThatAreWholeOrCutByColumns) {
  use(llama());
  for (const bool by_columns : {false, true}) {
    const std::string folder = exported(path("model"), {2, 1}, by_columns ? "cut" : "whole").output;
    const auto source = open_weight_source(path("model"));
    const TensorView table = source->dense("model.embed_tokens.weight");
    const size_t row = static_cast<size_t>(table.shape[1]) * 2;
    for (size_t rank = 0; rank < 2; ++rank) {
      const std::string file = folder + "/rank" + std::to_string(rank) + ".safetensors";
      std::map<std::string, std::vector<std::byte>> bytes;
      std::map<std::string, TensorView> views;
      {
        const auto opened = SafetensorsFile::open(file);
        for (const std::string& name : opened.names()) {
          const TensorView& view = opened.get(name);
          bytes[name] = {view.bytes.begin(), view.bytes.end()};
          views[name] = {view.dtype, view.shape, bytes[name]};
        }
      }
      std::vector<std::byte>& own = bytes["transformer.vocab_embedding.weight"];
      own.clear();
      for (size_t i = 0; i < static_cast<size_t>(table.shape[0]); ++i) {
        const auto part = table.bytes.subspan(i * row + (by_columns ? rank * row / 2 : 0),
                                              by_columns ? row / 2 : row);
        own.insert(own.end(), part.begin(), part.end());
      }
      views["transformer.vocab_embedding.weight"] = {
          DType::kBf16, {table.shape[0], table.shape[1] / (by_columns ? 2 : 1)}, own};
      write_safetensors(file, views, {}, /*force=*/true);
    }
    // As it was, the configuration says something else.
    EXPECT_THAT(open_failure(folder).message, HasSubstr("vocab_embedding"));
    EXPECT_FALSE(refusals(folder).empty());
    edit_json(folder + "/config.json", [&](json& config) {
      config["use_parallel_embedding"] = by_columns;
      config["embedding_sharding_dim"] = 1;
    });
    EXPECT_TRUE(refusals(folder).empty());
    EXPECT_EQ(different_tensors(*source, *open_weight_source(folder)), std::vector<std::string>{});
  }
}

TEST_F(TensorRtLlmFamilies, BothHalvesOfT5) {
  for (const char* name : {"TFive", "TFiveGated", "MTFive"}) {
    json config = json::parse(model_config(name).json);
    config["num_heads"] = 4;
    use(config);
    for (const char* qformat : {"", "fp8", "int8_sq", "int4_awq"}) {
      SCOPED_TRACE(std::string(name) + " " + qformat);
      const std::string source =
          source_in(qformat, [&](QuantizeOptions& options) { options.smooth = false; });
      const auto expected = open_model_files(source).source;
      for (const Ranks& ranks : {Ranks{1, 1}, Ranks{2, 2}}) {
        const ExportReport report = exported(source, ranks);
        EXPECT_EQ(json_of(report.output + "/encoder/config.json").at("architecture"),
                  "EncoderModel");
        EXPECT_EQ(json_of(report.output + "/decoder/config.json").at("architecture"),
                  "DecoderModel");
        const auto refused = refusals(report.output);
        EXPECT_TRUE(refused.empty()) << refused[0].subject << " " << refused[0].message;
        const ModelFiles found = open_model_files(report.output);
        if (*qformat == '\0' || qformat == std::string("int4_awq")) {
          EXPECT_EQ(changed(*expected, *found.source), std::vector<std::string>{});
          EXPECT_EQ(logits_of(found, Precision::kF32), logits_of(source, Precision::kF32));
        } else {
          // Inputs of queries and of the keys of another stream share a scale.
          EXPECT_LT(distance(logits_of(report.output), logits_of(source)), 0.1);
        }
        if (*qformat != '\0') continue;
        std::filesystem::remove(report.output + "/hf_config.json");
        EXPECT_EQ(logits_of(report.output, Precision::kF32), logits_of(source, Precision::kF32));
      }
    }
  }
}

TEST_F(TensorRtLlmFamilies, BothHalvesOfBart) {
  json config = json::parse(model_config("Bart").json);
  config["decoder_layers"] = 2;
  config["encoder_layers"] = 2;
  config["encoder_attention_heads"] = 2;
  use(config);
  for (const char* qformat : {"", "fp8", "int4_awq"}) {
    const std::string source = source_in(qformat);
    for (const Ranks& ranks : {Ranks{1, 1}, Ranks{2, 2}}) {
      SCOPED_TRACE(qformat);
      const ExportReport report = exported(source, ranks);
      const auto refused = refusals(report.output);
      EXPECT_TRUE(refused.empty()) << refused[0].subject << " " << refused[0].message;
      const auto expected = open_model_files(source).source;
      const ModelFiles found = open_model_files(report.output);
      if (qformat != std::string("fp8")) {
        EXPECT_EQ(changed(*expected, *found.source), std::vector<std::string>{});
        EXPECT_EQ(logits_of(found, Precision::kF32), logits_of(source, Precision::kF32));
      } else {
        EXPECT_LT(distance(logits_of(report.output), logits_of(source)), 0.1);
      }
      if (*qformat != '\0') continue;
      std::filesystem::remove(report.output + "/hf_config.json");
      EXPECT_EQ(logits_of(report.output, Precision::kF32), logits_of(source, Precision::kF32));
    }
  }
}

TEST_F(TensorRtLlmFamilies, ReplacesItsOwnFolders) {
  use_config("TFive");
  exported(path("model"));
  exported(path("model"));  // with force
  EXPECT_TRUE(std::filesystem::exists(path("engine/decoder/rank0.safetensors")));
  write_file(path("engine/decoder/mine.txt"), "not to be lost");
  EXPECT_THROW(exported(path("model")), Error);
  EXPECT_EQ(read_file(path("engine/decoder/mine.txt")), "not to be lost");
}

TEST_F(TensorRtLlmFamilies, RefusesWhatItsConfigurationCannotSay) {
  for (const auto& [name, words] : std::vector<std::pair<const char*, const char*>>{
           {"Nemotron", "choose another form"},
           {"GemmaTwo", "cap"},
           {"QwenThreeMoe", "choose another form"},
           {"GptTwoByLayer", "scale"},
           {"BigCodeManyKeyHeads", "alternate"},
           {"MBart", "choose another form"},
           {"NeoXSerial", "one after the other"},
           {"BloomAfterNorm", "residual behind the norm"},
           {"Phi", "part of each head"},
           {"PhiLong", "LongRoPE"},
           {"Mamba", "choose another form"},
           {"QwenThree", "has a bias"}}) {
    SCOPED_TRACE(name);
    const std::string config = name == std::string("Mamba") ? "MambaPlain" : name;
    use_config(config);
    const Failure failure = export_failure(path("model"));
    EXPECT_EQ(failure.code, ErrorCode::kInputMalformed);
    EXPECT_THAT(failure.message, HasSubstr(words));
  }
}

TEST_F(TensorRtLlmFamilies, QwenThreeWithItsNorms) {
  json config = json::parse(model_config("QwenThree").json);
  config["attention_bias"] = false;
  use(config);
  exported(path("model"), {2, 1});
  EXPECT_EQ(json_of(path("engine/config.json")).at("qk_layernorm"), true);
  EXPECT_TRUE(refusals(path("engine")).empty());
  EXPECT_EQ(
      different_tensors(*open_weight_source(path("model")), *open_weight_source(path("engine"))),
      std::vector<std::string>{});
}

}  // namespace
}  // namespace pare::testing
