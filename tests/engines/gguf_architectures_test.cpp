// Exports as GGUF of every architecture that llama.cpp shares with pare, and what is refused.
#include <filesystem>

#include "formats/gguf_file.h"
#include "formats/weight_source.h"
#include "pare/error.h"
#include "tests/engines/gguf_fixture.h"
#include "tests/pipeline/architecture_fixture.h"
#include "tests/support/model_configs.h"

namespace pare::testing {
namespace {

using ::testing::HasSubstr;

class GgufArchitectures : public ArchitectureTest {};

// As llama.cpp's architectures allow; logits to the bit.
TEST_F(GgufArchitectures, TheModelItselfIsTheSame) {
  for (const char* name : {"LlamaThreeTied", "LlamaBiased", "Mistral", "MixtralSmall", "QwenTwo",
                           "QwenThreePlain", "QwenThreeMoePlain", "GemmaTwo"}) {
    SCOPED_TRACE(name);
    nlohmann::json config = small_llama_config();
    const std::string model = name;
    if (model == "MixtralSmall") {
      config.update({{"architectures", {"MixtralForCausalLM"}},
                     {"model_type", "mixtral"},
                     {"num_local_experts", 4},
                     {"num_experts_per_tok", 2}});
    } else if (model == "QwenTwo") {
      config.update({{"architectures", {"Qwen2ForCausalLM"}}, {"model_type", "qwen2"}});
    } else if (model == "QwenThreePlain") {
      config.update(
          {{"architectures", {"Qwen3ForCausalLM"}}, {"model_type", "qwen3"}, {"head_dim", 12}});
    } else if (model == "QwenThreeMoePlain") {
      config.update({{"architectures", {"Qwen3MoeForCausalLM"}},
                     {"model_type", "qwen3_moe"},
                     {"num_experts", 4},
                     {"num_experts_per_tok", 2},
                     {"norm_topk_prob", true},
                     {"moe_intermediate_size", 40}});
    } else {
      config = nlohmann::json::parse(model_config(name).json);
      if (model == "GemmaTwo") config["query_pre_attn_scalar"] = config["head_dim"];
    }
    use(config);
    const ExportReport report = export_as_gguf(path("model"), path("out"));
    EXPECT_EQ(refusals_of(report.output), "");
    for (const Precision precision : {Precision::kBf16, Precision::kF32}) {
      EXPECT_EQ(distance(logits_of(report.output, precision), logits_of(path("model"), precision)),
                0);
    }
    // Quantized too, experts included: groups of 16 are no blocks of 32.
    QuantizeOptions options = job_of("q.h5", "int4_awq");
    options.force = true;
    const std::string made = quantize(options, {}).output;
    const ExportReport small = export_as_gguf(made, path("out"));
    EXPECT_THAT(small.warnings, ::testing::Contains(HasSubstr("not whole blocks of 32")));
    EXPECT_LE(distance(logits_of(small.output), logits_of(made)), 0.02);
  }
}

TEST_F(GgufArchitectures, ScalingsOfRotaryEmbeddings) {
  struct Case {
    nlohmann::json scaling;
    const char* type;  ///< In the file; empty: divisors.
  };
  for (const Case& one : std::vector<Case>{
           {{{"rope_type", "linear"}, {"factor", 4.0}}, "linear"},
           {{{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 16}},
            "yarn"},
           {{{"rope_type", "llama3"},
             {"factor", 8.0},
             {"low_freq_factor", 1.0},
             {"high_freq_factor", 4.0},
             {"original_max_position_embeddings", 8192}},
            ""}}) {
    SCOPED_TRACE(one.scaling.dump());
    nlohmann::json config = small_llama_config();
    config["rope_scaling"] = one.scaling;
    use(config);
    export_as_gguf(path("model"), path("out"));
    EXPECT_EQ(distance(logits_of(path("out")), logits_of(path("model"))), 0);
    const GgufFile file(path("out/model.gguf"));
    const std::string* type = file.find_text("llama.rope.scaling.type");
    EXPECT_EQ(type == nullptr ? "" : *type, one.type);
    EXPECT_EQ(file.find("rope_freqs.weight") != nullptr, *one.type == '\0');
  }
}

TEST_F(GgufArchitectures, NormsOfGemmaAreStoredWithTheirOne) {
  nlohmann::json config = nlohmann::json::parse(model_config("GemmaTwo").json);
  config["query_pre_attn_scalar"] = config["head_dim"];
  use(config);
  export_as_gguf(path("model"), path("out"));
  const GgufFile file(path("out/model.gguf"));
  const auto model = open_weight_source(path("model"));
  for (const auto& [tensor, name] : std::vector<std::pair<std::string, std::string>>{
           {"output_norm.weight", "model.norm.weight"},
           {"blk.1.ffn_norm.weight", "model.layers.1.pre_feedforward_layernorm.weight"},
           {"blk.0.post_ffw_norm.weight", "model.layers.0.post_feedforward_layernorm.weight"}}) {
    const std::vector<float> expected = to_f32(model->dense(name), name);
    std::vector<float> found(expected.size());
    decode_ggml(*file.find(tensor)->type, file.find(tensor)->bytes, found);
    for (size_t i = 0; i < found.size(); ++i) EXPECT_EQ(found[i], expected[i] + 1) << tensor;
  }
  EXPECT_EQ(file.find_integer("gemma2.attention.sliding_window"), 5);
  EXPECT_EQ(file.find_number("gemma2.final_logit_softcapping"), 8);
}

TEST_F(GgufArchitectures, WhatLlamaCppDoesNotDoIsRefused) {
  struct Case {
    nlohmann::json change;
    const char* words;
  };
  for (const Case& one : std::vector<Case>{
           {{{"hidden_act", "gelu"}}, "gelu"},
           {{{"partial_rotary_factor", 0.5}}, "partial_rotary_factor"},
           {{{"architectures", {"Qwen3ForCausalLM"}}, {"attention_bias", true}, {"head_dim", 8}},
            "has a bias"},
           {{{"rope_scaling",
              {{"rope_type", "yarn"},
               {"factor", 4.0},
               {"attention_factor", 2.0},
               {"original_max_position_embeddings", 16}}}},
            "YaRN"}}) {
    nlohmann::json config = small_llama_config();
    config.update(one.change);
    use(config);
    try {
      export_as_gguf(path("model"), path("out"));
      ADD_FAILURE() << one.words;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInputMalformed);
      EXPECT_THAT(error.what(), HasSubstr(one.words));
    }
    EXPECT_FALSE(std::filesystem::exists(path("out")));
  }
  // Llama.cpp takes the width of a head for what Gemma's attention is scaled by.
  use_config("GemmaTwo");
  try {
    export_as_gguf(path("model"), path("out"));
    ADD_FAILURE() << "attention would be scaled in another way";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("is scaled or limited"));
  }
  use_config("GptTwoByLayer");
  try {
    export_as_gguf(path("model"), path("out"));
    ADD_FAILURE() << "GPT-2 is not written";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("\"GPT2LMHeadModel\" is not written as GGUF"));
    EXPECT_THAT(error.what(), HasSubstr("LlamaForCausalLM, MistralForCausalLM"));
  }
}

}  // namespace
}  // namespace pare::testing
