#include "formats/gguf_names.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace pare {
namespace {

using Kind = GgufPart::Kind;

constexpr std::string_view kBlock = "blk.";
constexpr std::string_view kLayers = "model.layers.";

// Llama's block; q_norm and k_norm are Qwen3's.
constexpr std::array kDense = std::to_array<GgufPart>({
    {"attn_norm", "input_layernorm", Kind::kNorm},
    {"attn_q", "self_attn.q_proj", Kind::kQuery},
    {"attn_k", "self_attn.k_proj", Kind::kKey},
    {"attn_v", "self_attn.v_proj", Kind::kLinear},
    {"attn_output", "self_attn.o_proj", Kind::kLinear},
    {"ffn_norm", "post_attention_layernorm", Kind::kNorm},
    {"ffn_gate", "mlp.gate_proj", Kind::kLinear},
    {"ffn_up", "mlp.up_proj", Kind::kLinear},
    {"ffn_down", "mlp.down_proj", Kind::kLinear},
    {"attn_q_norm", "self_attn.q_norm", Kind::kNorm},
    {"attn_k_norm", "self_attn.k_norm", Kind::kNorm},
});
constexpr std::span<const GgufPart> kQwen3Parts(kDense);
constexpr std::span<const GgufPart> kLlamaParts = kQwen3Parts.first(kDense.size() - 2);

constexpr std::array kMixtralParts = std::to_array<GgufPart>({
    {"attn_norm", "input_layernorm", Kind::kNorm},
    {"attn_q", "self_attn.q_proj", Kind::kQuery},
    {"attn_k", "self_attn.k_proj", Kind::kKey},
    {"attn_v", "self_attn.v_proj", Kind::kLinear},
    {"attn_output", "self_attn.o_proj", Kind::kLinear},
    {"ffn_norm", "post_attention_layernorm", Kind::kNorm},
    {"ffn_gate_inp", "block_sparse_moe.gate", Kind::kRouter},
    {"ffn_gate_exps", "block_sparse_moe.experts.*.w1", Kind::kExperts},
    {"ffn_up_exps", "block_sparse_moe.experts.*.w3", Kind::kExperts},
    {"ffn_down_exps", "block_sparse_moe.experts.*.w2", Kind::kExperts},
});

constexpr std::array kQwen3MoeParts = std::to_array<GgufPart>({
    {"attn_norm", "input_layernorm", Kind::kNorm},
    {"attn_q", "self_attn.q_proj", Kind::kQuery},
    {"attn_k", "self_attn.k_proj", Kind::kKey},
    {"attn_v", "self_attn.v_proj", Kind::kLinear},
    {"attn_output", "self_attn.o_proj", Kind::kLinear},
    {"attn_q_norm", "self_attn.q_norm", Kind::kNorm},
    {"attn_k_norm", "self_attn.k_norm", Kind::kNorm},
    {"ffn_norm", "post_attention_layernorm", Kind::kNorm},
    {"ffn_gate_inp", "mlp.gate", Kind::kRouter},
    {"ffn_gate_exps", "mlp.experts.*.gate_proj", Kind::kExperts},
    {"ffn_up_exps", "mlp.experts.*.up_proj", Kind::kExperts},
    {"ffn_down_exps", "mlp.experts.*.down_proj", Kind::kExperts},
});

// Norms before and behind both halves.
constexpr std::array kGemma2Parts = std::to_array<GgufPart>({
    {"attn_norm", "input_layernorm", Kind::kNorm},
    {"attn_q", "self_attn.q_proj", Kind::kQuery},
    {"attn_k", "self_attn.k_proj", Kind::kKey},
    {"attn_v", "self_attn.v_proj", Kind::kLinear},
    {"attn_output", "self_attn.o_proj", Kind::kLinear},
    {"post_attention_norm", "post_attention_layernorm", Kind::kNorm},
    {"ffn_norm", "pre_feedforward_layernorm", Kind::kNorm},
    {"ffn_gate", "mlp.gate_proj", Kind::kLinear},
    {"ffn_up", "mlp.up_proj", Kind::kLinear},
    {"ffn_down", "mlp.down_proj", Kind::kLinear},
    {"post_ffw_norm", "post_feedforward_layernorm", Kind::kNorm},
});

constexpr std::array kArchitectures = std::to_array<GgufArchitecture>({
    {"llama", "LlamaForCausalLM", "llama", true, false, kLlamaParts},
    {"llama", "MistralForCausalLM", "mistral", true, false, kLlamaParts},
    {"llama", "MixtralForCausalLM", "mixtral", true, true, kMixtralParts},
    {"qwen2", "Qwen2ForCausalLM", "qwen2", false, false, kLlamaParts},
    {"qwen3", "Qwen3ForCausalLM", "qwen3", false, false, kQwen3Parts},
    {"qwen3moe", "Qwen3MoeForCausalLM", "qwen3_moe", false, true, kQwen3MoeParts},
    {"gemma2", "Gemma2ForCausalLM", "gemma2", false, false, kGemma2Parts, 1},
});

// Outside of blocks, on both sides.
constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kOuter = {{
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
}};

// "12.rest" → 12, and leaves "rest". Nothing where there is no number, or one with zeros in front.
std::optional<int64_t> take_number(std::string_view& text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const auto size = static_cast<size_t>(end - text.data());
  if (error != std::errc() || number < 0 || size == text.size() || *end != '.') return std::nullopt;
  if (size > 1 && text.front() == '0') return std::nullopt;
  text.remove_prefix(size + 1);
  return number;
}

// The number where `pattern` has a star, −1 for a pattern without one that is the text.
std::optional<int64_t> match(std::string_view pattern, std::string_view text) {
  const size_t star = pattern.find('*');
  if (star == std::string_view::npos) {
    return pattern == text ? std::optional<int64_t>(-1) : std::nullopt;
  }
  if (!text.starts_with(pattern.substr(0, star))) return std::nullopt;
  text.remove_prefix(star);
  const std::optional<int64_t> number = take_number(text);
  return number && text == pattern.substr(star + 2) ? number : std::nullopt;
}

std::string_view ending_of(std::string_view name) {
  for (const std::string_view ending : {std::string_view(".weight"), std::string_view(".bias")}) {
    if (name.ends_with(ending)) return ending;
  }
  return {};
}

}  // namespace

const GgufArchitecture* find_gguf_architecture(std::string_view model) {
  const auto* found = std::find_if(kArchitectures.begin(), kArchitectures.end(),
                                   [&](const GgufArchitecture& one) { return one.model == model; });
  return found == kArchitectures.end() ? nullptr : found;
}

const GgufArchitecture* find_gguf_architecture(std::string_view name, bool has_experts,
                                               bool has_window) {
  if (name == "llama" && has_window && !has_experts) {
    return find_gguf_architecture("MistralForCausalLM");
  }
  const auto* found = std::find_if(
      kArchitectures.begin(), kArchitectures.end(),
      [&](const auto& one) { return one.name == name && one.has_experts == has_experts; });
  return found == kArchitectures.end() ? nullptr : found;
}

std::string known_gguf_models() {
  std::string list;
  for (const GgufArchitecture& one : kArchitectures) {
    list += (list.empty() ? "" : ", ") + std::string(one.model);
  }
  return list;
}

std::string known_gguf_names() {
  std::string list;
  std::string_view last;
  for (const GgufArchitecture& one : kArchitectures) {
    if (one.name == last) continue;
    last = one.name;
    list += (list.empty() ? "" : ", ") + std::string(one.name);
  }
  return list;
}

std::optional<GgufPlace> gguf_place(const GgufArchitecture& architecture, std::string_view name) {
  for (const auto& [tensor, parameter] : kOuter) {
    if (parameter == name) return GgufPlace{std::string(tensor)};
  }
  const std::string_view ending = ending_of(name);
  if (!name.starts_with(kLayers) || ending.empty()) return std::nullopt;
  name.remove_prefix(kLayers.size());
  name.remove_suffix(ending.size());
  const std::optional<int64_t> layer = take_number(name);
  if (!layer) return std::nullopt;
  for (const GgufPart& part : architecture.parts) {
    const std::optional<int64_t> expert = match(part.parameter, name);
    if (!expert || (part.kind == Kind::kExperts && ending != ".weight")) continue;
    return GgufPlace{
        std::string(kBlock) + std::to_string(*layer) + "." + part.tensor + std::string(ending),
        &part, *expert};
  }
  return std::nullopt;
}

std::optional<GgufParameter> gguf_parameter(const GgufArchitecture& architecture,
                                            std::string_view tensor) {
  for (const auto& [name, parameter] : kOuter) {
    if (name == tensor) return GgufParameter{std::string(parameter)};
  }
  const std::string_view ending = ending_of(tensor);
  if (!tensor.starts_with(kBlock) || ending.empty()) return std::nullopt;
  tensor.remove_prefix(kBlock.size());
  tensor.remove_suffix(ending.size());
  const std::optional<int64_t> layer = take_number(tensor);
  if (!layer) return std::nullopt;
  for (const GgufPart& part : architecture.parts) {
    if (part.tensor != tensor || (part.kind == Kind::kExperts && ending != ".weight")) continue;
    return GgufParameter{
        std::string(kLayers) + std::to_string(*layer) + "." + part.parameter + std::string(ending),
        &part};
  }
  return std::nullopt;
}

std::string expert_parameter(const std::string& name, int64_t expert) {
  std::string result = name;
  return result.replace(result.find('*'), 1, std::to_string(expert));
}

}  // namespace pare
