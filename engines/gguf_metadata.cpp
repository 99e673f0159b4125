#include "engines/gguf_metadata.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "model/architectures/config_reader.h"
#include "pare/error.h"

namespace pare {
namespace {

using Json = nlohmann::json;

// The part of config.json that speaks of rotary embeddings, in its old and new forms.
Json rotary_section(const Json& config) {
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    if (config.contains(key) && config.at(key).is_object()) return config.at(key);
  }
  return Json::object();
}

class ShapeWriter {
 public:
  ShapeWriter(const ModelFiles& model, const GgufArchitecture& architecture, const Json& json,
              GgufMetadata& metadata, std::vector<std::string>& warnings)
      : model_(model),
        architecture_(architecture),
        config_(json, model.source->path() + "/config.json"),
        section_json_(rotary_section(json)),
        section_(section_json_, config_.origin()),
        metadata_(metadata),
        warnings_(warnings) {}

  std::vector<float> run() {
    check();
    const AttentionShape& attention = first().attentions[0].shape;
    add("context_length", model_.graph.max_positions);
    add("embedding_length", model_.graph.hidden_size);
    add("block_count", static_cast<int64_t>(model_.graph.blocks.size()));
    add("feed_forward_length", config_.positive("intermediate_size"));
    add("attention.head_count", attention.heads);
    add("attention.head_count_kv", attention.kv_heads);
    add("attention.key_length", attention.head_dim);
    add("attention.value_length", attention.head_dim);
    metadata_.add(key("attention.layer_norm_rms_epsilon"), epsilon());
    add("vocab_size", model_.graph.embedding.vocab_size);
    add("rope.dimension_count", first().rotaries[0].rotated);
    metadata_.add(key("rope.freq_base"), static_cast<float>(theta()));
    if (is_gemma()) {
      add_gemma(attention);
    } else {
      add_window(attention.window);
    }
    add_experts();
    return add_scaling();
  }

 private:
  std::string key(const std::string& name) const {
    return std::string(architecture_.name) + "." + name;
  }
  void add(const std::string& name, int64_t value) { metadata_.add(key(name), value); }

  bool is_gemma() const { return architecture_.name == std::string_view("gemma2"); }

  const BlockGraph& first() const { return model_.graph.blocks[0]; }

  [[noreturn]] void refuse(const std::string& what) const {
    config_.fail(what + "; llama.cpp's architecture \"" + architecture_.name +
                 "\" does not do that");
  }

  // What the architecture takes for granted.
  void check() const {
    const ModelGraph& graph = model_.graph;
    if (config_.has("block_configs")) refuse("layers of different shapes (\"block_configs\")");
    const float scale = is_gemma() ? std::sqrt(static_cast<float>(graph.hidden_size)) : 1;
    if (graph.encoder || graph.embedding.scale != scale || !graph.embedding.stem.ops.empty() ||
        (graph.head.soft_cap != 0) != is_gemma() || graph.head.scale != 1 ||
        graph.head.logit_scale != 1 || !graph.head.bias.empty()) {
      refuse("the embedding or the head computes more than a product");
    }
    if (is_gemma() && graph.head.matrix != graph.embedding.tokens) {
      refuse("a head that is not the embedding");
    }
    for (const BlockGraph& block : graph.blocks) check(block);
  }

  void check(const BlockGraph& block) const {
    if (block.attentions.size() != 1 || block.rotaries.empty()) {
      refuse("block \"" + block.prefix + "\" has no attention with rotary positions");
    }
    const AttentionShape& shape = block.attentions[0].shape;
    const AttentionShape& expected = first().attentions[0].shape;
    const RotaryShape& rotary = block.rotaries[0];
    if (shape.heads != expected.heads || shape.kv_heads != expected.kv_heads ||
        shape.head_dim != expected.head_dim) {
      refuse("block \"" + block.prefix + "\" has other heads than the first");
    }
    if (shape.scale != 1.0F / std::sqrt(static_cast<float>(attention_width())) ||
        (shape.soft_cap != 0) != is_gemma() || block.attentions[0].sinks) {
      refuse("attention of block \"" + block.prefix + "\" is scaled or limited");
    }
    if (rotary.interleaved || rotary.first != 0 ||
        (architecture_.interleaved && rotary.rotated != shape.head_dim)) {
      refuse("a part of each head rotates (\"partial_rotary_factor\")");
    }
    if (architecture_.has_experts != block.experts.has_value()) {
      refuse("block \"" + block.prefix + "\" has " + (block.experts ? "" : "no ") + "experts");
    }
    if (block.experts && !block.experts->normalize) {
      refuse("weights of chosen experts are not normalized (\"norm_topk_prob\": false)");
    }
    for (const Op& op : block.ops) check_bias(block, op);
    check_activation(block);
    if (block.experts) check_activation(*block.experts->expert);
  }

  // What the scale of attention is the root of: for Gemma 2 with 46 layers not the width of a head.
  int64_t attention_width() const {
    const AttentionShape& shape = first().attentions[0].shape;
    const bool largest = is_gemma() && model_.graph.blocks.size() == 46;
    return largest ? model_.graph.hidden_size / shape.heads : shape.head_dim;
  }

  void check_activation(const BlockGraph& block) const {
    const Activation expected = is_gemma() ? Activation::kGeluTanh : Activation::kSilu;
    for (const Op& op : block.ops) {
      if (op.kind == OpKind::kGatedActivation && op.activation != expected) {
        refuse("activation \"" + config_.text("hidden_act", "") + "\"");
      }
    }
  }

  void check_bias(const BlockGraph& block, const Op& op) const {
    if (op.kind != OpKind::kLinear || !op.linear.bias) return;
    const bool of_qkv =
        op.name.ends_with("q_proj") || op.name.ends_with("k_proj") || op.name.ends_with("v_proj");
    const std::string_view name = architecture_.name;
    if ((name == "llama" && !architecture_.has_experts) || (name == "qwen2" && of_qkv)) return;
    refuse("\"" + block.full_name(op) + "\" has a bias");
  }

  float epsilon() const {
    for (const Op& op : first().ops) {
      if (op.kind == OpKind::kNorm) return op.norm.epsilon;
    }
    refuse("there is no norm");
  }

  double theta() const {
    const double otherwise = model_.graph.architecture == "MixtralForCausalLM" ? 1e6 : 1e4;
    return section_.number("rope_theta", config_.number("rope_theta", otherwise));
  }

  void add_window(int64_t window) {
    const bool any =
        std::any_of(model_.graph.blocks.begin(), model_.graph.blocks.end(),
                    [](const BlockGraph& block) { return block.attentions[0].shape.window > 0; });
    if (!any) return;
    if (architecture_.interleaved) add("attention.sliding_window", window);
    warnings_.push_back("llama.cpp lets every token see all before it in architecture \"" +
                        std::string(architecture_.name) +
                        "\": contexts longer than the sliding window are another model");
  }

  // Every other layer slides, the first among them.
  void add_gemma(const AttentionShape& attention) {
    for (size_t layer = 0; layer < model_.graph.blocks.size(); ++layer) {
      const int64_t expected = layer % 2 == 0 ? attention.window : 0;
      if (model_.graph.blocks[layer].attentions[0].shape.window != expected ||
          attention.window == 0) {
        refuse("layers slide in another order than every other one");
      }
    }
    add("attention.sliding_window", attention.window);
    metadata_.add(key("attn_logit_softcapping"), attention.soft_cap);
    metadata_.add(key("final_logit_softcapping"), model_.graph.head.soft_cap);
  }

  void add_experts() {
    if (!architecture_.has_experts) return;
    const ExpertsSpec& experts = *first().experts;
    add("expert_count", experts.count);
    add("expert_used_count", experts.chosen);
    if (architecture_.name == std::string_view("qwen3moe")) {
      const BlockGraph& expert = *experts.expert;
      add("expert_feed_forward_length", expert.out_features(expert.ops[0]));
    }
  }

  std::vector<float> add_scaling() {
    const std::string type = section_.text("rope_type", section_.text("type", "default"));
    const RotaryShape& rotary = first().rotaries[0];
    if (type == "default" || type == "mrope") return {};
    const auto factor = static_cast<float>(section_.number("factor", 1));
    if (type == "linear") {
      metadata_.add(key("rope.scaling.type"), "linear");
      metadata_.add(key("rope.scaling.factor"), factor);
      return {};
    }
    if (type == "dynamic") {
      warnings_.emplace_back(
          "rotary scaling of type \"dynamic\" is left out: llama.cpp runs as "
          "within max_position_embeddings");
      return {};
    }
    if (type == "yarn") {
      add_yarn(factor, rotary);
      return {};
    }
    if (rotary.attention_factor != 1 ||
        (type != "llama3" && rotary.long_inverse_frequency != rotary.inverse_frequency)) {
      refuse("rotary scaling of type \"" + type + "\"");
    }
    return divisors(rotary);
  }

  void add_yarn(float factor, const RotaryShape& rotary) {
    const double usual = factor <= 1 ? 1 : 0.1 * std::log(static_cast<double>(factor)) + 1;
    if (std::abs(static_cast<double>(rotary.attention_factor) - usual) > 1e-5 ||
        !section_.boolean("truncate", true)) {
      refuse("YaRN with an attention factor of its own");
    }
    metadata_.add(key("rope.scaling.type"), "yarn");
    metadata_.add(key("rope.scaling.factor"), factor);
    add("rope.scaling.original_context_length",
        section_.has("original_max_position_embeddings")
            ? section_.positive("original_max_position_embeddings")
            : config_.positive("original_max_position_embeddings"));
    for (const char* beta : {"beta_fast", "beta_slow"}) {
      if (section_.has(beta)) {
        metadata_.add(key(std::string("rope.scaling.yarn_") + beta),
                      static_cast<float>(section_.number(beta, 0)));
      }
    }
  }

  // What the frequencies of the plain embedding are divided by.
  std::vector<float> divisors(const RotaryShape& rotary) const {
    std::vector<float> result;
    for (size_t i = 0; i < rotary.inverse_frequency.size(); ++i) {
      const double exponent = static_cast<double>(2 * i) / static_cast<double>(rotary.rotated);
      const double plain = 1 / std::pow(theta(), exponent);
      result.push_back(static_cast<float>(static_cast<double>(static_cast<float>(plain)) /
                                          static_cast<double>(rotary.inverse_frequency[i])));
    }
    return result;
  }

  const ModelFiles& model_;
  const GgufArchitecture& architecture_;
  ConfigReader config_;
  Json section_json_;
  ConfigReader section_;
  GgufMetadata& metadata_;
  std::vector<std::string>& warnings_;
};

}  // namespace

std::vector<float> add_gguf_shape(const ModelFiles& model, const GgufArchitecture& architecture,
                                  GgufMetadata& metadata, std::vector<std::string>& warnings) {
  const Json config = Json::parse(model.source->config_json());
  return ShapeWriter(model, architecture, config, metadata, warnings).run();
}

}  // namespace pare
