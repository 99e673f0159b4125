// adapter_config.json of a LoRA adapter in PEFT's form: ranks and scales of the modules.
//
// LoRA: Hu et al., arXiv:2106.09685; rank-stabilized scaling: Kalajdzievski, arXiv:2312.03732. A
// value; reading it is safe from any thread.
//
//   const LoraConfig config = read_lora_config("adapter/adapter_config.json");
//   float scale = config.scale_of("model.layers.0.self_attn.q_proj");
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace pare {

struct LoraConfig {
  std::string file;  ///< For messages.
  std::string text;  ///< The file, verbatim.
  int64_t rank = 0;
  double alpha = 0;
  /// Rank and alpha of modules that differ, in the file's order, by regular expression: it has to
  /// match the module's name, or the end of it after a dot. The first that matches counts.
  std::vector<std::pair<std::string, int64_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
  bool rank_stabilized = false;  ///< Scale alpha / sqrt(rank), not alpha / rank.
  bool fan_in_fan_out = false;   ///< Weights are stored [in, out].
  bool dora = false;

  /// Throw Error(kInputMalformed) when a pattern is no regular expression. `module` is the name in
  /// the base model.
  int64_t rank_of(const std::string& module) const;
  float scale_of(const std::string& module) const;
};

/// Throws Error(kInputMissing) when the file cannot be read, Error(kInputMalformed) when it is
/// damaged, describes another method than LoRA, or asks for a variant whose effect is not that of
/// W + scale·B·A or of DoRA; the message names it.
LoraConfig read_lora_config(const std::string& path);

}  // namespace pare
