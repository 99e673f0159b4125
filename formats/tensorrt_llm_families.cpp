#include "formats/tensorrt_llm_families.h"

#include <algorithm>
#include <array>
#include <vector>

#include "formats/tensorrt_llm_llama.h"

namespace pare {
namespace {

using enum TrtKind;

constexpr auto kQwen3 = std::to_array<TrtModule>({
    {"input_layernorm", "input_layernorm", kNorm},
    {"self_attn.q_proj", "attention.qkv", kQuery},
    {"self_attn.k_proj", "attention.qkv", kKey},
    {"self_attn.v_proj", "attention.qkv", kValue},
    {"self_attn.q_norm", "attention.q_layernorm", kHeadNorm},
    {"self_attn.k_norm", "attention.k_layernorm", kHeadNorm},
    {"self_attn.o_proj", "attention.dense", kAttentionOut},
    {"post_attention_layernorm", "post_layernorm", kNorm},
    {"mlp.gate_proj", "mlp.fc", kUp},
    {"mlp.up_proj", "mlp.gate", kUp},
    {"mlp.down_proj", "mlp.proj", kDown},
});

// Of an expert's two halves the one without activation comes first.
constexpr auto kMixtral = std::to_array<TrtModule>({
    {"input_layernorm", "input_layernorm", kNorm},
    {"self_attn.q_proj", "attention.qkv", kQuery},
    {"self_attn.k_proj", "attention.qkv", kKey},
    {"self_attn.v_proj", "attention.qkv", kValue},
    {"self_attn.o_proj", "attention.dense", kAttentionOut},
    {"post_attention_layernorm", "post_layernorm", kNorm},
    {"block_sparse_moe.gate", "mlp.router", kRouter},
    {"block_sparse_moe.experts.{}.w3", "mlp.fc", kExpertUp},
    {"block_sparse_moe.experts.{}.w1", "mlp.fc", kExpertUp},
    {"block_sparse_moe.experts.{}.w2", "mlp.proj", kExpertDown},
});

constexpr auto kPhi3 = std::to_array<TrtModule>({
    {"input_layernorm", "input_layernorm", kNorm},
    {"self_attn.qkv_proj", "attention.qkv", kQkv},
    {"self_attn.o_proj", "attention.dense", kAttentionOut},
    {"post_attention_layernorm", "post_layernorm", kNorm},
    {"mlp.gate_up_proj", "mlp.fc", kGateUp},
    {"mlp.down_proj", "mlp.proj", kDown},
});

constexpr auto kPhi3Keys = std::to_array<TrtKey>({
    {"rms_norm_eps", "norm_epsilon", "1e-5"},
    {"max_position_embeddings", "max_position_embeddings", "4096"},
});

constexpr auto kMixtralKeys = std::to_array<TrtKey>({
    {"rms_norm_eps", "norm_epsilon", "1e-5"},
    {"max_position_embeddings", "max_position_embeddings", "131072"},
});

// The engine is told a window when it runs, not by the checkpoint.
constexpr const char* kNoWindow = R"({"sliding_window": null})";

constexpr TrtFamily qwen3() {
  TrtFamily family = trt_llama("Qwen3ForCausalLM", "qwen3", "Qwen3ForCausalLM", "qwen");
  family.variant = R"({"qwen_type": "qwen3"})";
  family.modules = kQwen3;
  family.plugin_int8 = family.rowwise_fp8 = false;
  return family;
}

constexpr TrtFamily qwen2() {
  TrtFamily family = trt_llama("Qwen2ForCausalLM", "qwen2", "Qwen2ForCausalLM", "qwen");
  family.variant = R"({"qwen_type": "qwen2"})";
  return family;
}

constexpr TrtFamily mixtral() {
  TrtFamily family = trt_llama("MixtralForCausalLM", "mixtral", "MixtralForCausalLM", "llama");
  family.modules = kMixtral;
  family.keys = kMixtralKeys;
  family.fixed = kNoWindow;
  family.plugin_int8 = family.rowwise_fp8 = false;
  return family;
}

constexpr TrtFamily phi3() {
  TrtFamily family = trt_llama("Phi3ForCausalLM", "phi3", "Phi3ForCausalLM", "phi3", kNoWindow);
  family.modules = kPhi3;
  family.keys = kPhi3Keys;
  family.plugin_int8 = family.rowwise_fp8 = false;
  return family;
}

constexpr std::array kLlamas = std::to_array<TrtFamily>({
    trt_llama("LlamaForCausalLM", "llama", "LlamaForCausalLM", "llama"),
    trt_llama("MistralForCausalLM", "mistral", "MistralForCausalLM", "llama", kNoWindow),
    mixtral(),
    qwen2(),
    qwen3(),
    phi3(),
});

const TrtFamily* find(std::span<const TrtFamily> families, std::string_view architecture) {
  const auto found = std::ranges::find_if(
      families, [&](const TrtFamily& family) { return family.architecture == architecture; });
  return found == families.end() ? nullptr : &*found;
}

// Whether a config.json says what a family has; what is not said is false.
bool is_variant(const nlohmann::ordered_json& config, const TrtFamily& family) {
  const auto variant = nlohmann::ordered_json::parse(family.variant);
  for (const auto& [key, value] : variant.items()) {
    const auto found = config.find(key);
    const bool is_said = found != config.end() && !found->is_null();
    if (is_said ? *found != value : value != false) return false;
  }
  return true;
}

}  // namespace

std::vector<const TrtFamily*> find_trt_families(std::string_view architecture) {
  std::vector<const TrtFamily*> found;
  for (const std::span<const TrtFamily> families :
       {std::span<const TrtFamily>(kLlamas), trt_layer_norm_families()}) {
    for (const TrtFamily& family : families) {
      if (family.architecture == architecture) found.push_back(&family);
    }
  }
  return found;
}

bool is_trt_decoder(const TrtFamily& family) {
  const std::vector<const TrtFamily*> known = find_trt_families(family.architecture);
  return std::ranges::find(known, &family) != known.end();
}

const TrtFamily* find_trt_target(const nlohmann::ordered_json& config) {
  const auto name = config.find("architecture");
  if (name == config.end() || !name->is_string()) return nullptr;
  const auto architecture = name->get<std::string>();
  const TrtFamily* first = nullptr;
  for (const std::span<const TrtFamily> families :
       {std::span<const TrtFamily>(kLlamas), trt_layer_norm_families(), trt_encoder_halves(),
        trt_decoder_halves()}) {
    for (const TrtFamily& family : families) {
      if (architecture != family.target && architecture != family.architecture) continue;
      // Files that do not tell the variants apart mean the first.
      if (first == nullptr) first = &family;
      if (family.variant != std::string_view("{}") && is_variant(config, family)) return &family;
    }
    if (first != nullptr) break;
  }
  return first;
}

const TrtFamily* find_trt_encoder(std::string_view architecture) {
  return find(trt_encoder_halves(), architecture);
}

const TrtFamily* find_trt_decoder(std::string_view architecture) {
  return find(trt_decoder_halves(), architecture);
}

std::string known_trt_families() {
  std::string names;
  for (const std::span<const TrtFamily> families :
       {std::span<const TrtFamily>(kLlamas), trt_layer_norm_families(), trt_encoder_halves()}) {
    for (const TrtFamily& family : families) {
      if (names.ends_with(family.architecture)) continue;
      names += std::string(names.empty() ? "" : ", ") + family.architecture;
    }
  }
  return names;
}

}  // namespace pare
