// Which architectures of llama.cpp are the models that pare describes, and how their tensors are
// called on both sides.
//
// Source: gguf-py/gguf/constants.py and tensor_mapping.py of llama.cpp. Pure functions.
//
//   const GgufArchitecture* architecture = find_gguf_architecture("LlamaForCausalLM");
//   gguf_place(*architecture, "model.layers.3.mlp.up_proj.weight");  // blk.3.ffn_up.weight
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pare {

/// A tensor of a block, without "blk.3." and "model.layers.3." and without ".weight".
struct GgufPart {
  const char* tensor;     ///< "attn_q"
  const char* parameter;  ///< "self_attn.q_proj"; of an expert "mlp.experts.*.up_proj"
  enum class Kind : uint8_t {
    kNorm,
    kLinear,
    kQuery,    ///< A linear whose rows are in the order of the rotary embedding …
    kKey,      ///< … where the architecture says so.
    kRouter,   ///< Stays in FP32.
    kExperts,  ///< Of all experts in one, [experts, out, in].
  } kind;
  bool required = true;
};

struct GgufArchitecture {
  const char* name;        ///< general.architecture
  const char* model;       ///< config.json's "architectures"
  const char* model_type;  ///< and "model_type"
  /// Rows of q and k are ordered for pairs of neighbours instead of halves (rotary "norm").
  bool interleaved = false;
  bool has_experts = false;
  std::span<const GgufPart> parts;
  float norm_offset = 0;  ///< Weights of norms are stored as the model's plus this.
};

/// The one of a model's "architectures" entry, or null.
const GgufArchitecture* find_gguf_architecture(std::string_view model);

/// The one of a file, or null.
const GgufArchitecture* find_gguf_architecture(std::string_view name, bool has_experts,
                                               bool has_window);

/// Names of models that have an architecture, for messages: "LlamaForCausalLM, …".
std::string known_gguf_models();
/// The same of files: "llama, …".
std::string known_gguf_names();

struct GgufPlace {
  std::string tensor;              ///< "blk.3.ffn_up_exps.weight"
  const GgufPart* part = nullptr;  ///< Null outside of blocks.
  int64_t expert = -1;             ///< Which slice it is.
};

/// Where a tensor of the model goes; nothing for one that the architecture does not have.
std::optional<GgufPlace> gguf_place(const GgufArchitecture& architecture, std::string_view name);

struct GgufParameter {
  std::string name;                ///< "model.layers.3.mlp.up_proj.weight"; of experts with "*".
  const GgufPart* part = nullptr;  ///< Null outside of blocks.
};

/// What a tensor of a file is; nothing for one that the architecture does not have.
std::optional<GgufParameter> gguf_parameter(const GgufArchitecture& architecture,
                                            std::string_view tensor);

/// A name with "*" as that of one expert.
std::string expert_parameter(const std::string& name, int64_t expert);

/// Row of a stored q or k matrix that is row `row` of the model's, for heads of `head_dim` rows.
inline int64_t interleaved_row(int64_t row, int64_t head_dim) noexcept {
  const int64_t half = head_dim / 2;
  const int64_t place = row % head_dim;
  return row - place + 2 * (place % half) + place / half;
}

}  // namespace pare
