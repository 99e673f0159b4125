// Hugging Face's config.json from TensorRT-LLM's, for folders that came without it.
#include <algorithm>

#include "formats/tensorrt_llm_config.h"

namespace pare {
namespace {

using Json = nlohmann::ordered_json;

Json value_or(const Json& json, const char* key, const char* otherwise) {
  const auto found = json.find(key);
  if (found != json.end() && !found->is_null()) return *found;
  return *otherwise == '\0' ? Json() : Json::parse(otherwise);
}

// TensorRT-LLM's "gelu" is the tanh form, and it says of the halves that experts multiply that they
// are one.
Json source_activation(const Json& name, const TrtFamily& family) {
  if (name == "swiglu") return "silu";
  const bool means_tanh = family.target == std::string("GPTForCausalLM");
  return means_tanh && name == "gelu" ? Json("gelu_new") : name;
}

// "a.b" is b in the object a.
Json& place_of(Json& json, const std::string& key) {
  const size_t dot = key.find('.');
  return dot == std::string::npos ? json[key] : json[key.substr(0, dot)][key.substr(dot + 1)];
}

void add_keys(const TrtConfig& config, Json& source) {
  const TrtFamily& family = *config.family;
  for (const TrtKey& key : family.sizes) {
    if (const Json value = value_or(config.json, key.target, ""); !value.is_null()) {
      source[key.source] = value;
    }
  }
  for (const TrtKey& key : family.keys) {
    const Json value = value_or(config.json, key.target, key.otherwise);
    place_of(source, key.source) =
        key.target == std::string("hidden_act") ? source_activation(value, family) : value;
  }
}

void add_rotary(const TrtConfig& config, Json& source) {
  source["rope_theta"] = value_or(config.json, "rotary_base", "10000.0");
  if (const Json scaling = value_or(config.json, "rotary_scaling", ""); !scaling.is_null()) {
    source["rope_scaling"] = scaling;
  }
}

void add_t5(const TrtConfig& config, Json& source) {
  const Json activation = value_or(config.json, "hidden_act", "\"relu\"");
  std::string name = activation.is_string() ? activation.get<std::string>() : "relu";
  if (config.sizes.gated) name = name.starts_with("gelu") ? "gated-gelu" : "gated-" + name;
  source["feed_forward_proj"] = name;
}

}  // namespace

Json make_source_config(const TrtConfig& config, const TrtConfig* encoder, const TrtFacts& facts) {
  const TrtFamily& family = *config.family;
  Json source = {{"architectures", Json::array({family.architecture})},
                 {"model_type", family.model_type},
                 {"torch_dtype", config.json.at("dtype")}};
  if (encoder != nullptr) add_keys(*encoder, source);
  add_keys(config, source);
  const Json fixed = Json::parse(family.fixed);
  for (const auto& [key, value] : fixed.items()) {
    if (value.is_object() && source.contains(key)) {
      source[key].update(value);
    } else {
      source[key] = value;
    }
  }
  source["tie_word_embeddings"] = facts.tied;
  if (family.target == std::string("FalconForCausalLM")) {
    source["bias"] = facts.qkv_bias;
    source["multi_query"] = config.sizes.kv_heads == 1;
  }
  if (family.position_embedding_type == std::string("rope_gpt_neox")) {
    add_rotary(config, source);
    source["attention_bias"] = facts.qkv_bias;
    source["mlp_bias"] = facts.mlp_bias;
    source["hidden_act"] = value_or(source, "hidden_act", "\"silu\"");
    source["use_bias"] = facts.qkv_bias;
  }
  if (family.position_embedding_type == std::string("relative")) {
    add_t5(config, source);
    source["scale_decoder_outputs"] = value_or(config.json, "rescale_before_lm_head", "false");
  }
  if (encoder != nullptr) {
    source["decoder_start_token_id"] =
        value_or(config.json, "decoder_start_token_id",
                 family.position_embedding_type == std::string("relative") ? "0" : "2");
  }
  if (config.sizes.experts > 0) {
    const Json& moe = config.json.at("moe");
    source["num_local_experts"] = config.sizes.experts;
    source["num_experts_per_tok"] = value_or(moe, "top_k", "2");
  }
  return source;
}

}  // namespace pare
