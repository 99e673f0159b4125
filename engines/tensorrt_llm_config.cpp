#include "engines/tensorrt_llm_config.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "pare/error.h"
#include "pare/version.h"

namespace pare {
namespace {

using Json = nlohmann::ordered_json;

Json scheme_json(const TrtScheme& scheme) {
  Json json = {{"quant_algo", trt_algo_info(scheme.algo).name}};
  if (trt_algo_info(scheme.algo).group_size > 0) {
    json["group_size"] = scheme.group_size;
    json["has_zero_point"] = false;
    json["pre_quant_scale"] = true;
  }
  return json;
}

// "a.b" is b in the object a.
Json value_or(const Json& json, const std::string& key, const char* otherwise) {
  const size_t dot = key.find('.');
  if (dot != std::string::npos) {
    const Json object = value_or(json, key.substr(0, dot), "{}");
    return value_or(object.is_object() ? object : Json::object(), key.substr(dot + 1), otherwise);
  }
  const auto found = json.find(key);
  return found != json.end() && !found->is_null() ? *found : Json::parse(otherwise);
}

// Modules that have weights and are no linears of a layer.
std::vector<std::string> outer_modules(const TrtLayout& layout) {
  std::vector<std::string> names = {"lm_head"};
  for (const TrtTensor& tensor : layout.tensors) {
    if (tensor.target.find("embedding.weight") != std::string::npos) {
      names.push_back(tensor.target.substr(0, tensor.target.rfind('.')));
    }
  }
  names.emplace_back(layout.family->target_final_norm);
  if (*layout.family->target_embedding_norm != '\0') {
    names.emplace_back(layout.family->target_embedding_norm);
  }
  return names;
}

// A module's scheme on all pipeline ranks, which number their layers alike.
std::map<std::string, TrtScheme> schemes_of(const std::vector<TrtLinearPlan>& plans) {
  std::map<std::string, TrtScheme> schemes;
  for (const TrtLinearPlan& plan : plans) {
    const auto [place, is_new] = schemes.emplace(plan.linear.target, plan.scheme);
    if (is_new || place->second == plan.scheme) continue;
    throw Error(ErrorCode::kInputMalformed,
                "\"" + plan.linear.sources[0] +
                    "\" has another format than the layer of its number on another pipeline rank, "
                    "and TensorRT-LLM's names do not tell them apart; use pp_size 1");
  }
  return schemes;
}

// The source's rotary keys, which newer files keep in an object.
void add_rotary(const Json& source, Json& json) {
  const auto found = source.find("rope_parameters");
  const Json& section = found != source.end() && found->is_object() ? *found : source;
  const Json older = value_or(source, "rotary_emb_base", "10000.0");
  json["rotary_base"] = value_or(
      section, "rope_theta", value_or(source, "rope_theta", older.dump().c_str()).dump().c_str());
  Json scaling = &section == &source ? value_or(source, "rope_scaling", "null") : section;
  const auto type = scaling.is_object() ? value_or(scaling, "rope_type", "\"\"") : Json("");
  if (scaling.is_null() || type == "default") return;
  scaling.erase("rope_theta");
  if (!scaling.contains("type") && !type.empty()) scaling["type"] = type;
  json["rotary_scaling"] = scaling;
}

bool has_bias(const std::vector<TrtLinearPlan>& plans, const std::string& ending) {
  return std::ranges::any_of(plans, [&](const TrtLinearPlan& plan) {
    return plan.bias && plan.linear.target.ends_with(ending);
  });
}

void add_half(const TrtLayout& layout, const TrtSizes& encoder, const Json& source,
              const std::vector<TrtLinearPlan>& plans, Json& json) {
  // The numbers of LayerNormType, LayerNormPositionType and MLPType of tensorrt_llm/functional.py.
  const TrtFamily& family = *layout.family;
  const TrtSizes& sizes = layout.sizes;
  const bool relative = family.position_embedding_type == std::string("relative");
  json["use_prompt_tuning"] = false;
  json["has_position_embedding"] = *family.positions != '\0';
  json["layernorm_type"] = family.norms == TrtNorms::kRms ? 1 : 0;
  json["has_attention_qkvo_bias"] = has_bias(plans, "attention.qkv");
  json["has_mlp_bias"] = has_bias(plans, "mlp.fc");
  json["has_model_final_layernorm"] = *family.final_norm != '\0';
  json["has_embedding_layernorm"] = *family.embedding_norm != '\0';
  json["has_embedding_scale"] = value_or(source, "scale_embedding", "false");
  json["ffn_hidden_size"] = sizes.intermediate;
  // The engine divides scores by √head_size × q_scaling, and T5's are not scaled.
  json["q_scaling"] = relative ? 1 / std::sqrt(static_cast<double>(sizes.head_dim)) : 1.0;
  json["layernorm_position"] = relative ? 0 : 1;
  json["mlp_type"] = sizes.gated ? 1 : 0;
  json["relative_attention"] = relative;
  json["max_distance"] =
      value_or(source, "relative_attention_max_distance", relative ? "128" : "0");
  json["num_buckets"] = sizes.buckets;
  json["model_type"] = family.decoder;
  if (family.target != std::string("DecoderModel")) return;
  const bool tied = value_or(source, "tie_word_embeddings", "true") == true;
  json["rescale_before_lm_head"] =
      relative && family.model_type == std::string("t5") &&
      value_or(source, "scale_decoder_outputs", tied ? "true" : "false") == true;
  json["encoder_hidden_size"] = encoder.hidden;
  json["encoder_num_heads"] = encoder.heads;
  json["encoder_head_size"] = encoder.head_dim;
  json["skip_cross_qkv"] = false;
  for (const char* key :
       {"decoder_start_token_id", "eos_token_id", "bos_token_id", "pad_token_id"}) {
    if (source.contains(key)) json[key] = source.at(key);
  }
}

}  // namespace

TrtQuantizationText trt_quantization(const std::vector<TrtLinearPlan>& plans,
                                     const TrtLayout& layout, const std::string& cache) {
  TrtQuantizationText text;
  const std::map<std::string, TrtScheme> schemes = schemes_of(plans);
  std::vector<TrtScheme> different;
  for (const auto& [name, scheme] : schemes) {
    if (scheme.algo == TrtAlgo::kNone) continue;
    if (std::ranges::find(different, scheme) == different.end()) different.push_back(scheme);
  }
  const Json cache_json = cache.empty() ? Json() : Json(cache);
  Json& quantization = text.quantization;
  quantization = {{"quant_algo", nullptr}, {"kv_cache_quant_algo", cache_json}};
  if (different.empty()) return text;
  Json exclude = outer_modules(layout);
  for (const auto& [name, scheme] : schemes) {
    // With the names of tensors too, which is what the builder's own quantization looks at.
    const bool builder = different[0].algo == TrtAlgo::kInt8WeightOnly;
    if (scheme.algo == TrtAlgo::kNone) exclude.push_back(name + (builder ? "*" : ""));
  }
  const bool mixed = different.size() > 1;
  for (const TrtScheme& scheme : different) {
    const TrtAlgoInfo& info = trt_algo_info(scheme.algo);
    const bool partly = std::ranges::any_of(plans, [](const TrtLinearPlan& plan) {
      return plan.scheme.algo == TrtAlgo::kNone && !plan.linear.is_router;
    });
    const bool whole_layers =
        scheme.algo == TrtAlgo::kInt8PerToken || scheme.algo == TrtAlgo::kFp8Rowwise;
    if ((mixed && !info.mixes) || (whole_layers && partly)) {
      throw Error(ErrorCode::kInputMalformed,
                  std::string("TensorRT-LLM has ") + info.name +
                      " for all linears of a model or none; quantize all alike");
    }
    if (info.group_size > 0 && scheme.group_size != 64 && scheme.group_size != 128) {
      text.warnings.push_back("TensorRT-LLM's kernels take groups of 64 and 128, these are of " +
                              std::to_string(scheme.group_size));
    }
  }
  if (!mixed) {
    const Json scheme = scheme_json(different[0]);
    for (const auto& [key, value] : scheme.items()) quantization[key] = value;
    quantization["exclude_modules"] = exclude;
    return text;
  }
  quantization["quant_algo"] = "MIXED_PRECISION";
  quantization["exclude_modules"] = exclude;
  Json layers = Json::object();
  for (const auto& [name, scheme] : schemes) {
    if (scheme.algo != TrtAlgo::kNone) layers[name] = scheme_json(scheme);
  }
  text.layers = {{"quant_algo", "MIXED_PRECISION"},
                 {"kv_cache_quant_algo", cache_json},
                 {"quantized_layers", layers}};
  return text;
}

Json trt_config_json(const TrtLayout& layout, const TrtSizes& encoder, const Json& source_config,
                     const Json& quantization, const std::vector<TrtLinearPlan>& plans,
                     bool has_head) {
  const TrtFamily& family = *layout.family;
  const TrtSizes& sizes = layout.sizes;
  const bool half = *family.target == 'E' || *family.target == 'D';
  std::map<std::string, Json> keys;
  for (const TrtKey& key : family.keys) {
    keys[key.target] = value_or(source_config, key.source, key.otherwise);
  }
  // Two halves in one tensor, which the builder tells by the name of what multiplies them.
  const bool halves_in_one = std::ranges::any_of(family.modules, [](const TrtModule& module) {
    return module.kind == TrtKind::kGateUp || module.kind == TrtKind::kExpertUp;
  });
  if (halves_in_one) keys["hidden_act"] = "swiglu";
  if (half && family.position_embedding_type == std::string("relative")) {
    const auto name =
        value_or(source_config, "feed_forward_proj",
                 family.model_type == std::string("mt5") ? "\"gated-gelu\"" : "\"relu\"")
            .get<std::string>();
    const std::string activation = name.starts_with("gated-") ? name.substr(6) : name;
    keys["hidden_act"] = name == "gated-gelu" ? "gelu_new" : activation;
  }
  if (*family.positions != '\0') keys["max_position_embeddings"] = sizes.positions;
  Json json = {{"producer", {{"name", "pare"}, {"version", version()}}},
               {"architecture", family.target},
               {"dtype", "bfloat16"},
               {"logits_dtype", "float16"},
               {"num_hidden_layers", sizes.layers},
               {"num_attention_heads", sizes.heads},
               {"num_key_value_heads", sizes.written_kv_heads},
               {"hidden_size", sizes.hidden},
               {"norm_epsilon", keys.at("norm_epsilon")},
               {"vocab_size", sizes.vocab},
               {"max_position_embeddings", keys.at("max_position_embeddings")},
               {"hidden_act", keys.at("hidden_act")},
               {"use_parallel_embedding", sizes.embedding == TrtForm::kPadded},
               {"embedding_sharding_dim", 0},
               {"head_size", sizes.head_dim},
               {"intermediate_size", sizes.intermediate},
               {"position_embedding_type", family.position_embedding_type},
               {"share_embedding_table", !has_head},
               {"residual_mlp", false},
               {"bias", has_bias(plans, "attention.dense")},
               {"rotary_pct", 1.0},
               {"rank", 0},
               {"decoder", family.decoder},
               {"rmsnorm", family.norms == TrtNorms::kRms},
               {"lm_head_bias", false}};
  const Json variant = Json::parse(family.variant);
  for (const auto& [key, value] : variant.items()) json[key] = value;
  if (family.position_embedding_type == std::string("rope_gpt_neox")) {
    add_rotary(source_config, json);
    json["attn_bias"] = has_bias(plans, "attention.qkv");
    json["mlp_bias"] = has_bias(plans, "mlp.fc");
  }
  if (keys.contains("rotary_pct")) {
    json["rotary_pct"] = keys.at("rotary_pct");
    json["rotary_emb_base"] = json.at("rotary_base");
  }
  const bool head_norms = std::ranges::any_of(
      family.modules, [](const TrtModule& module) { return module.kind == TrtKind::kHeadNorm; });
  if (head_norms) json["qk_layernorm"] = true;
  if (half) add_half(layout, encoder, source_config, plans, json);
  // What the family alone has.
  for (const auto& [key, value] : keys) {
    if (!json.contains(key)) json[key] = value;
  }
  json["mapping"] = {{"world_size", sizes.tp_size * sizes.pp_size},
                     {"tp_size", sizes.tp_size},
                     {"pp_size", sizes.pp_size}};
  if (sizes.experts > 0) {
    json["mapping"]["moe_tp_size"] = sizes.tp_size;
    json["mapping"]["moe_ep_size"] = 1;
  }
  json["quantization"] = quantization;
  if (sizes.experts > 0) {
    json["moe"] = {{"num_experts", sizes.experts},
                   {"top_k", value_or(source_config, "num_experts_per_tok", "2")},
                   {"normalization_mode", 1}};
  }
  return json;
}

}  // namespace pare
