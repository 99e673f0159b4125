#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "model/architectures.h"
#include "pare/error.h"
#include "tests/support/model_configs.h"
#include "tests/support/random_model.h"

namespace pare {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using testing::graph_of;
using ::testing::HasSubstr;
using testing::small_llama_config;

// The message of the error that a configuration gives; empty when it is accepted.
std::string refusal(const std::string& text) {
  try {
    describe_model(text, "folder/config.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInputMalformed) << error.what();
    EXPECT_THAT(error.what(), HasSubstr("folder/config.json"));
    return error.what();
  }
  return {};
}

std::string refusal(const json& config) { return refusal(config.dump()); }

json with(const std::string& key, const json& value) {
  json config = small_llama_config();
  config[key] = value;
  return config;
}

json without(const std::string& key) {
  json config = small_llama_config();
  config.erase(key);
  return config;
}

TEST(Config, SmallLlama) {
  const ModelGraph graph = graph_of(small_llama_config());
  EXPECT_EQ(graph.architecture, "LlamaForCausalLM");
  EXPECT_EQ(graph.hidden_size, 48);
  EXPECT_EQ(graph.vocab_size, 100);
  EXPECT_EQ(graph.max_positions, 4096);
  EXPECT_EQ(graph.embedding.tokens, "model.embed_tokens.weight");
  EXPECT_EQ(graph.head.matrix, "lm_head.weight");
  ASSERT_EQ(graph.head.tail.ops.size(), 1U);
  EXPECT_EQ(graph.head.tail.ops[0].name, "model.norm");
  EXPECT_FLOAT_EQ(graph.head.tail.ops[0].norm.epsilon, 1e-5F);
  EXPECT_FALSE(graph.encoder);
  ASSERT_EQ(graph.blocks.size(), 2U);
  const BlockGraph& block = graph.blocks[1];
  EXPECT_EQ(block.prefix, "model.layers.1.");
  ASSERT_EQ(block.attentions.size(), 1U);
  const AttentionShape& attention = block.attentions[0].shape;
  EXPECT_EQ(attention.heads, 6);
  EXPECT_EQ(attention.kv_heads, 2);
  EXPECT_EQ(attention.head_dim, 8);
  EXPECT_EQ(attention.window, 0);
  EXPECT_TRUE(attention.causal);
  EXPECT_FLOAT_EQ(attention.scale, 1 / std::sqrt(8.0F));
  ASSERT_EQ(block.rotaries.size(), 2U);
  ASSERT_EQ(block.rotaries[0].inverse_frequency.size(), 4U);
  EXPECT_FLOAT_EQ(block.rotaries[0].inverse_frequency[0], 1.0F);
  EXPECT_FLOAT_EQ(block.rotaries[0].inverse_frequency[2], 0.01F);
}

TEST(Config, TiedHeadIsTheEmbedding) {
  const ModelGraph graph = graph_of(with("tie_word_embeddings", true));
  EXPECT_EQ(graph.head.matrix, graph.embedding.tokens);
}

TEST(Config, OlderAndNewerSpellingsOfRotaryParametersAgree) {
  json older = with("rope_theta", 500000.0);
  older["rope_scaling"] = {{"type", "llama3"},
                           {"factor", 8.0},
                           {"low_freq_factor", 1.0},
                           {"high_freq_factor", 4.0},
                           {"original_max_position_embeddings", 64}};
  json newer = without("rope_theta");
  newer["rope_parameters"] = older["rope_scaling"];
  newer["rope_parameters"].erase("type");
  newer["rope_parameters"]["rope_type"] = "llama3";
  newer["rope_parameters"]["rope_theta"] = 500000.0;
  const auto frequencies = [](const json& config) {
    return graph_of(config).blocks[0].rotaries[0].inverse_frequency;
  };
  EXPECT_EQ(frequencies(older), frequencies(newer));
  EXPECT_NE(frequencies(older), frequencies(with("rope_theta", 500000.0)));
  EXPECT_EQ(frequencies(with("rope_theta", 500000)),
            frequencies(with("rope_parameters", {{"rope_theta", 500000.0}})));
  EXPECT_EQ(frequencies(with("rope_scaling", nullptr)), frequencies(small_llama_config()));
}

// Wavelengths 6.28, 62.8, 628 and 6283 around an original context of 64: kept, blended, divided.
TEST(Config, Llama3RotaryScaling) {
  const ModelGraph graph =
      graph_of(with("rope_scaling", {{"rope_type", "llama3"},
                                     {"factor", 8.0},
                                     {"low_freq_factor", 1.0},
                                     {"high_freq_factor", 4.0},
                                     {"original_max_position_embeddings", 64}}));
  const auto& frequency = graph.blocks[0].rotaries[0].inverse_frequency;
  const double blend = (64 / (2 * M_PI / 0.1) - 1) / (4 - 1);
  EXPECT_FLOAT_EQ(frequency[0], 1.0F);
  EXPECT_NEAR(frequency[1], (1 - blend) * 0.1 / 8 + blend * 0.1, 1e-8);
  EXPECT_FLOAT_EQ(frequency[2], 0.01F / 8);
  EXPECT_FLOAT_EQ(frequency[3], 0.001F / 8);
}

TEST(Config, LinearRotaryScaling) {
  const ModelGraph graph = graph_of(with("rope_scaling", {{"type", "linear"}, {"factor", 4.0}}));
  EXPECT_FLOAT_EQ(graph.blocks[0].rotaries[0].inverse_frequency[0], 0.25F);
}

TEST(Config, OlderAndNewerNamesOfTheElementTypeAreBothFine) {
  json newer = without("torch_dtype");
  newer["dtype"] = "bfloat16";
  EXPECT_EQ(refusal(newer), "");
  EXPECT_EQ(refusal(without("torch_dtype")), "");
}

TEST(Config, DefaultsOfAbsentKeys) {
  EXPECT_EQ(graph_of(without("num_key_value_heads")).blocks[0].attentions[0].shape.kv_heads, 6);
  EXPECT_EQ(graph_of(with("head_dim", nullptr)).blocks[0].attentions[0].shape.head_dim, 8);
  EXPECT_EQ(graph_of(with("head_dim", 10)).blocks[0].widths[2], 60);
  EXPECT_EQ(graph_of(without("architectures")).architecture, "LlamaForCausalLM");
  EXPECT_EQ(graph_of(without("model_type")).architecture, "LlamaForCausalLM");
}

TEST(Config, Biases) {
  const auto biased = [](const json& config) {
    const ModelGraph graph = graph_of(config);
    std::string names;
    for (const Op& op : graph.blocks[0].ops) {
      if (op.linear.bias) names += op.name.substr(op.name.find('.') + 1, 1);
    }
    return names;
  };
  EXPECT_EQ(biased(small_llama_config()), "");
  EXPECT_EQ(biased(with("attention_bias", true)), "qkvo");
  EXPECT_EQ(biased(with("mlp_bias", true)), "gud");
  EXPECT_EQ(biased(with("architectures", json::array({"Qwen2ForCausalLM"}))), "qkv");
  EXPECT_EQ(biased(with("architectures", json::array({"MistralForCausalLM"}))), "");
}

TEST(Config, SlidingWindows) {
  const auto windows = [](const json& config) {
    std::vector<int64_t> found;
    const ModelGraph graph = graph_of(config);
    for (const BlockGraph& block : graph.blocks) found.push_back(block.attentions[0].shape.window);
    return found;
  };
  using Windows = std::vector<int64_t>;
  json mistral = with("architectures", json::array({"MistralForCausalLM"}));
  EXPECT_EQ(windows(mistral), (Windows{4096, 4096}));  // as transformers has it for an absent key
  mistral["sliding_window"] = nullptr;
  EXPECT_EQ(windows(mistral), (Windows{0, 0}));
  mistral["sliding_window"] = 128;
  EXPECT_EQ(windows(mistral), (Windows{128, 128}));

  json qwen = with("architectures", json::array({"Qwen2ForCausalLM"}));
  qwen["sliding_window"] = 128;
  EXPECT_EQ(windows(qwen), (Windows{0, 0}));
  qwen["use_sliding_window"] = true;
  qwen["max_window_layers"] = 1;
  EXPECT_EQ(windows(qwen), (Windows{0, 128}));
  qwen["layer_types"] = json::array({"sliding_attention", "full_attention"});
  EXPECT_EQ(windows(qwen), (Windows{128, 0}));
  qwen["layer_types"] = json::array({"sliding_attention"});
  EXPECT_THAT(refusal(qwen), HasSubstr("layer 1"));
}

// Qwen2Config of transformers has 28 for an absent max_window_layers, and 0 means every layer.
TEST(Config, Qwen2SlidesFromItsDefaultLayerOn) {
  json qwen = with("architectures", json::array({"Qwen2ForCausalLM"}));
  qwen["num_hidden_layers"] = 30;
  qwen["sliding_window"] = 128;
  qwen["use_sliding_window"] = true;
  const auto first_sliding = [&] {
    const ModelGraph graph = graph_of(qwen);
    size_t layer = 0;
    while (layer < graph.blocks.size() && graph.blocks[layer].attentions[0].shape.window == 0)
      ++layer;
    return layer;
  };
  EXPECT_EQ(first_sliding(), 28U);
  qwen["max_window_layers"] = nullptr;
  EXPECT_EQ(first_sliding(), 28U);
  qwen["max_window_layers"] = 0;
  EXPECT_EQ(first_sliding(), 0U);
  qwen["max_window_layers"] = 29;
  EXPECT_EQ(first_sliding(), 29U);
  for (const json& bad : {json(1e300), json(-1), json(28.5), json("28"), json(int64_t{1} << 40)}) {
    qwen["max_window_layers"] = bad;
    EXPECT_THAT(refusal(qwen), AllOf(HasSubstr("\"max_window_layers\""), HasSubstr(bad.dump())));
  }
  qwen["max_window_layers"] = 0;
  for (const json& bad : {json(3), json("full_attention"), json::object({{"0", "x"}})}) {
    qwen["layer_types"] = bad;
    EXPECT_THAT(refusal(qwen), HasSubstr("\"layer_types\""));
  }
}

TEST(Config, NumbersThatNoFloatHoldsAreRefused) {
  for (const char* key :
       {"hidden_size", "num_hidden_layers", "head_dim", "rms_norm_eps", "rope_theta"}) {
    EXPECT_THAT(refusal(with(key, 1e300)),
                AllOf(HasSubstr("\"" + std::string(key) + "\""), HasSubstr("1e+300")));
  }
  EXPECT_THAT(refusal(with("rope_scaling", {{"type", "linear"}, {"factor", 1e300}})),
              HasSubstr("\"factor\""));
  EXPECT_THAT(refusal(with("rope_scaling", {{"type", "linear"}, {"factor", 1e-300}})),
              HasSubstr("not finite"));
  EXPECT_THAT(refusal(with("rope_theta", 1e-300)), HasSubstr("not finite"));
}

TEST(Config, MissingKeysAreNamed) {
  for (const char* key : {"hidden_size", "vocab_size", "num_hidden_layers", "num_attention_heads",
                          "intermediate_size"}) {
    EXPECT_THAT(refusal(without(key)), HasSubstr("\"" + std::string(key) + "\""));
    EXPECT_THAT(refusal(with(key, nullptr)), HasSubstr("\"" + std::string(key) + "\""));
  }
}

TEST(Config, WrongTypesAndRangesAreNamedWithTheValue) {
  for (const json& value : {json("64"), json(64.5), json(0), json(-3), json(1e12), json(true),
                            json(int64_t{1} << 40), json::array({64})}) {
    EXPECT_THAT(refusal(with("hidden_size", value)),
                AllOf(HasSubstr("\"hidden_size\""), HasSubstr(value.dump())));
  }
  EXPECT_THAT(refusal(with("rms_norm_eps", "tiny")), HasSubstr("\"rms_norm_eps\""));
  EXPECT_THAT(refusal(with("tie_word_embeddings", 1)), HasSubstr("\"tie_word_embeddings\""));
  EXPECT_THAT(refusal(with("hidden_act", 3)), HasSubstr("\"hidden_act\""));
  EXPECT_THAT(refusal(with("hidden_act", "mish")), HasSubstr("mish"));
  EXPECT_THAT(refusal(with("rope_theta", 0)), HasSubstr("rope_theta"));
  EXPECT_THAT(refusal(with("rope_scaling", 3)), HasSubstr("not an object"));
}

TEST(Config, HeadsMustDivide) {
  EXPECT_THAT(refusal(with("num_key_value_heads", 4)), AllOf(HasSubstr("6"), HasSubstr("4")));
  EXPECT_THAT(refusal(with("num_attention_heads", 5)), HasSubstr("head"));
  EXPECT_THAT(refusal(with("head_dim", 7)), HasSubstr("even"));
}

TEST(Config, UnknownRotaryTypeIsNamed) {
  EXPECT_THAT(refusal(with("rope_scaling", {{"type", "spiral"}, {"factor", 4}})),
              AllOf(HasSubstr("\"spiral\""), HasSubstr("llama3")));
  EXPECT_THAT(refusal(with("rope_scaling", {{"rope_type", "llama3"}, {"factor", 4}})),
              HasSubstr("original_max_position_embeddings"));
}

TEST(Config, UnknownArchitectureIsNamedWithTheKnownOnes) {
  EXPECT_THAT(refusal(with("architectures", json::array({"FrobnicatorModel"}))),
              AllOf(HasSubstr("\"FrobnicatorModel\""), HasSubstr("LlamaForCausalLM"),
                    HasSubstr("Qwen2ForCausalLM")));
  json code = with("architectures", json::array({"FrobnicatorModel"}));
  code["auto_map"] = {{"AutoModelForCausalLM", "modeling.Frobnicator"}};
  EXPECT_THAT(refusal(code), AllOf(HasSubstr("FrobnicatorModel"), HasSubstr("auto_map")));
  json nameless = without("architectures");
  nameless.erase("model_type");
  EXPECT_NE(refusal(nameless), "");
}

TEST(Config, QuantizedModelsAreRefused) {
  EXPECT_THAT(refusal(with("quantization_config", {{"quant_method", "gptq"}})),
              HasSubstr("quantization_config"));
}

// Sizes that no model has must not fill the memory before a tensor has been looked at.
TEST(Config, AbsurdSizesAreRefused) {
  EXPECT_THAT(refusal(with("num_hidden_layers", 2000000000)), HasSubstr("2000000000"));
  EXPECT_THAT(refusal(with("head_dim", 2000000000)), HasSubstr("2000000000"));
}

TEST(Config, DamagedJson) {
  for (const char* text : {"", "{", "[]", "null", "\"LlamaForCausalLM\"", "{}"}) {
    EXPECT_NE(refusal(std::string(text)), "") << text;
  }
  EXPECT_NE(refusal(with("architectures", "LlamaForCausalLM").dump().substr(0, 60)), "");
}

// Which configuration belongs to which architecture is tested with model_configs().
TEST(Config, ArchitecturesAndTypesAreBothNames) {
  for (const testing::NamedConfig& config : testing::model_configs()) {
    const json whole = json::parse(config.json);
    json typed = whole;
    typed.erase("architectures");
    json named = whole;
    named.erase("model_type");
    SCOPED_TRACE(config.name);
    EXPECT_EQ(graph_of(named).architecture, whole["architectures"][0]);
    EXPECT_EQ(graph_of(typed).blocks.size(), graph_of(whole).blocks.size());
  }
}

TEST(Config, KnownArchitecturesHaveARemark) {
  for (const ArchitectureInfo& known : known_architectures()) EXPECT_FALSE(known.remark.empty());
}

}  // namespace
}  // namespace pare
