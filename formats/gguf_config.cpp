#include "formats/gguf_config.h"

#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

namespace pare {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kLargest = int64_t{1} << 31;

// With the digits that a float32 needs: 1e-05, and not what is nearest to it in double.
Json shortest(double value) {
  std::array<char, 64> text{};
  const auto [end, error] =
      std::to_chars(text.data(), text.data() + text.size(), static_cast<float>(value));
  return error == std::errc() ? Json::parse(text.data(), end) : Json(value);
}

class ConfigMaker {
 public:
  ConfigMaker(const GgufFile& file, const GgufArchitecture& architecture)
      : file_(file), architecture_(architecture), prefix_(std::string(architecture.name) + ".") {}

  std::string run() {
    Json json;
    json["architectures"] = {architecture_.model};
    json["model_type"] = architecture_.model_type;
    const int64_t hidden = required("embedding_length");
    const int64_t heads = required("attention.head_count");
    json["vocab_size"] = vocabulary();
    json["hidden_size"] = hidden;
    json["num_hidden_layers"] = required("block_count");
    json["num_attention_heads"] = heads;
    json["num_key_value_heads"] = optional("attention.head_count_kv").value_or(heads);
    const int64_t head_dim = optional("attention.key_length").value_or(hidden / heads);
    if (optional("attention.value_length").value_or(head_dim) != head_dim) {
      file_.fail("heads of keys and of values have different widths, which is not read");
    }
    json["head_dim"] = head_dim;
    json["intermediate_size"] = required("feed_forward_length");
    json["hidden_act"] = is_gemma() ? "gelu_pytorch_tanh" : "silu";
    json["rms_norm_eps"] = shortest(number("attention.layer_norm_rms_epsilon"));
    json["rope_theta"] = shortest(theta());
    add_rotary(json, head_dim);
    json["max_position_embeddings"] = required("context_length");
    json["tie_word_embeddings"] = file_.find("output.weight") == nullptr;
    add_details(json);
    add_token(json, "bos_token_id");
    add_token(json, "eos_token_id");
    json["torch_dtype"] = "bfloat16";
    return json.dump(2);
  }

 private:
  std::string key(const char* name) const { return prefix_ + name; }

  bool is_gemma() const { return architecture_.name == std::string_view("gemma2"); }

  std::optional<int64_t> optional(const char* name) const {
    const std::optional<int64_t> value = file_.find_integer(key(name));
    if (value && (*value < 1 || *value > kLargest)) {
      file_.fail("key \"" + key(name) + "\" is " + std::to_string(*value) +
                 ", expected a positive number");
    }
    return value;
  }

  int64_t required(const char* name) const {
    const std::optional<int64_t> value = optional(name);
    if (!value) file_.fail("key \"" + key(name) + "\" is missing");
    return *value;
  }

  double number(const char* name) const {
    const std::optional<double> value = file_.find_number(key(name));
    if (!value) file_.fail("key \"" + key(name) + "\" is missing");
    return *value;
  }

  double theta() const { return file_.find_number(key("rope.freq_base")).value_or(10000); }

  int64_t vocabulary() const {
    const GgufTensor* embedding = file_.find("token_embd.weight");
    if (embedding == nullptr || embedding->shape.size() != 2) {
      file_.fail("tensor \"token_embd.weight\" is missing, or no matrix");
    }
    return embedding->shape[0];
  }

  void add_rotary(Json& json, int64_t head_dim) const {
    const int64_t rotated = optional("rope.dimension_count").value_or(head_dim);
    if (rotated != head_dim) {
      if (architecture_.interleaved || rotated > head_dim) {
        file_.fail("key \"" + key("rope.dimension_count") + "\" is " + std::to_string(rotated) +
                   ", expected the width of a head, " + std::to_string(head_dim));
      }
      json["partial_rotary_factor"] = static_cast<double>(rotated) / static_cast<double>(head_dim);
    }
    const std::string* type = file_.find_text(key("rope.scaling.type"));
    const GgufTensor* divisors = file_.find("rope_freqs.weight");
    const std::optional<double> factor = file_.find_number(key("rope.scaling.factor"));
    if (divisors != nullptr) {
      if (type != nullptr && *type != "none") {
        file_.fail("rope_freqs.weight and rope.scaling.type \"" + *type + "\" are both there");
      }
      json["rope_scaling"] = divided(*divisors, rotated);
    } else if (type == nullptr || *type == "none") {
      const std::optional<double> linear = file_.find_number(key("rope.scale_linear"));
      if (linear && *linear != 1) json["rope_scaling"] = scaling("linear", *linear);
    } else if (*type == "linear" && factor) {
      json["rope_scaling"] = scaling("linear", *factor);
    } else if (*type == "yarn" && factor) {
      json["rope_scaling"] = yarn(*factor);
    } else {
      file_.fail("rope.scaling.type \"" + *type +
                 "\" is not read; linear and yarn with a factor are");
    }
  }

  static Json scaling(const char* type, double factor) {
    return {{"rope_type", type}, {"factor", shortest(factor)}};
  }

  Json yarn(double factor) const {
    for (const char* name : {"rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor",
                             "rope.scaling.yarn_ext_factor", "rope.scaling.yarn_log_multiplier"}) {
      if (file_.has(key(name))) file_.fail("key \"" + key(name) + "\" is not read");
    }
    Json json = scaling("yarn", factor);
    json["original_max_position_embeddings"] = required("rope.scaling.original_context_length");
    const auto beta = [&](const char* name, const char* field) {
      if (const auto value = file_.find_number(key(name))) json[field] = shortest(*value);
    };
    beta("rope.scaling.yarn_beta_fast", "beta_fast");
    beta("rope.scaling.yarn_beta_slow", "beta_slow");
    return json;
  }

  // One divisor for each pair of channels.
  Json divided(const GgufTensor& tensor, int64_t rotated) const {
    if (tensor.type->id != kGgmlF32 || tensor.shape != Shape{rotated / 2}) {
      file_.fail("tensor \"rope_freqs.weight\" is " + std::string(tensor.type->name) + " " +
                 shape_text(tensor.shape) + ", expected F32 [" + std::to_string(rotated / 2) + "]");
    }
    std::vector<float> divisors(static_cast<size_t>(rotated / 2));
    decode_ggml(*tensor.type, tensor.bytes, divisors);
    double largest = 1;
    for (const float divisor : divisors) {
      if (!(divisor > 0) || !std::isfinite(divisor)) {
        file_.fail("tensor \"rope_freqs.weight\" holds " + std::to_string(divisor));
      }
      largest = std::max(largest, static_cast<double>(divisor));
    }
    if (is_llama3(divisors, largest, rotated)) {
      Json json = scaling("llama3", largest);
      json["low_freq_factor"] = 1.0;
      json["high_freq_factor"] = 4.0;
      json["original_max_position_embeddings"] = 8192;
      return json;
    }
    Json list = Json::array();
    for (const float divisor : divisors) list.push_back(shortest(static_cast<double>(divisor)));
    Json json = scaling("longrope", 1);
    json["short_factor"] = list;
    json["long_factor"] = list;
    json["original_max_position_embeddings"] = required("context_length");
    return json;
  }

  // Whether they are those of Llama 3.1 to 3.3, whose other parameters never differ.
  bool is_llama3(const std::vector<float>& divisors, double factor, int64_t rotated) const {
    for (size_t i = 0; i < divisors.size(); ++i) {
      const double exponent = static_cast<double>(2 * i) / static_cast<double>(rotated);
      const double wavelength = 2 * std::numbers::pi * std::pow(theta(), exponent);
      const double blend = std::clamp((8192 / wavelength - 1) / 3, 0.0, 1.0);
      const double expected = 1 / ((1 - blend) / factor + blend);
      if (std::abs(expected / static_cast<double>(divisors[i]) - 1) > 1e-4) return false;
    }
    return true;
  }

  void add_details(Json& json) const {
    const std::string_view model = architecture_.model;
    const auto has = [&](const char* name) { return file_.find(name) != nullptr; };
    if (model == "LlamaForCausalLM") {
      json["attention_bias"] = has("blk.0.attn_q.bias");
      json["mlp_bias"] = has("blk.0.ffn_gate.bias");
    }
    const bool slides = model == "MistralForCausalLM" || model == "MixtralForCausalLM";
    if (slides) {
      const auto window = optional("attention.sliding_window");
      json["sliding_window"] = window ? Json(*window) : Json();
    }
    if (is_gemma()) add_gemma(json);
    if (!architecture_.has_experts) return;
    json[model == "MixtralForCausalLM" ? "num_local_experts" : "num_experts"] =
        required("expert_count");
    json["num_experts_per_tok"] = required("expert_used_count");
    if (model == "Qwen3MoeForCausalLM") {
      json["moe_intermediate_size"] = required("expert_feed_forward_length");
      json["norm_topk_prob"] = true;
      json["decoder_sparse_step"] = 1;
      json["mlp_only_layers"] = Json::array();
    }
  }

  // With the defaults of llama.cpp, in which the model of 46 layers scales in another way.
  void add_gemma(Json& json) const {
    json["hidden_activation"] = "gelu_pytorch_tanh";
    const bool largest = json["num_hidden_layers"] == 46;
    json["query_pre_attn_scalar"] =
        largest ? json["hidden_size"].get<int64_t>() / json["num_attention_heads"].get<int64_t>()
                : json["head_dim"].get<int64_t>();
    const auto cap = [&](const char* name, double otherwise) {
      return shortest(file_.find_number(key(name)).value_or(otherwise));
    };
    json["attn_logit_softcapping"] = cap("attn_logit_softcapping", 50);
    json["final_logit_softcapping"] = cap("final_logit_softcapping", 30);
    json["sliding_window"] = optional("attention.sliding_window").value_or(4096);
  }

  void add_token(Json& json, const char* name) const {
    if (const auto id = file_.find_integer(std::string("tokenizer.ggml.") + name)) json[name] = *id;
  }

  const GgufFile& file_;
  const GgufArchitecture& architecture_;
  std::string prefix_;
};

}  // namespace

const GgufArchitecture& gguf_architecture(const GgufFile& file) {
  const std::string& name = file.text("general.architecture");
  const bool experts = file.find_integer(name + ".expert_count").value_or(0) > 0;
  const bool window = file.has(name + ".attention.sliding_window");
  const GgufArchitecture* found = find_gguf_architecture(name, experts, window);
  if (found == nullptr) {
    file.fail("architecture \"" + name + "\"" + (experts ? " with experts" : "") +
              " is not read from GGUF; known: " + known_gguf_names());
  }
  return *found;
}

std::string gguf_config_json(const GgufFile& file, const GgufArchitecture& architecture) {
  return ConfigMaker(file, architecture).run();
}

}  // namespace pare
