// A LoRA adapter in PEFT's form: a folder with adapter_config.json and adapter_model.safetensors.
//
//   W' = W + scale·B·A                                   (LoRA, arXiv:2106.09685)
//   W' = m · (W + scale·B·A) / ‖W + scale·B·A‖           (DoRA, arXiv:2402.09353)
// with A [rank, in], B [out, rank], the norm over the inputs of one output feature, and m [out].
// Beside the factors an adapter may hold whole tensors that replace the model's: trained biases and
// modules_to_save. Names may begin with "base_model.model." and hold an adapter's name such as
// ".default".
//
// Owns the mapping of the file; everything is checked when the adapter is opened. Read-only and
// safe to use from several threads.
//
//   const LoraAdapter adapter = LoraAdapter::open("my-adapter");
//   if (const auto factors = adapter.find("model.layers.0.self_attn.q_proj")) …
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/tensor_view.h"
#include "formats/lora_config.h"
#include "formats/safetensors.h"

namespace pare {

/// What an adapter does to one module.
struct LoraFactors {
  int64_t rank = 0;
  int64_t in_features = 0;   ///< Of an embedding: its number of tokens.
  int64_t out_features = 0;  ///< Of an embedding: its width.
  std::vector<float> a;      ///< [rank, in]
  std::vector<float> b;      ///< [out, rank]
  float scale = 0;
  std::vector<float> magnitude;  ///< [out] of DoRA; empty otherwise.
  bool embedding = false;        ///< The weight is stored [in, out].
};

class LoraAdapter {
 public:
  /// Throws Error(kInputMissing) when a file is not there, Error(kInputMalformed) when one is
  /// damaged, a tensor is of no known kind or shape, or the method is not read, and
  /// Error(kNonFinite) for NaN and infinity; the message names file and tensor.
  static LoraAdapter open(const std::string& folder);

  /// The file of the tensors, for messages.
  const std::string& file() const noexcept { return tensors_.path(); }
  const LoraConfig& config() const noexcept { return config_; }

  /// Names of the adapted modules without "base_model.model.", sorted.
  const std::vector<std::string>& modules() const noexcept { return modules_; }

  /// The factors of a module, copied; nothing when it is not adapted. The name is tried as the
  /// adapter spells it and then in the other spellings of formats/resolve_names.h.
  std::optional<LoraFactors> find(const std::string& module) const;

  /// Whole tensors that replace the model's, by the model's name ("lm_head.weight").
  const std::map<std::string, TensorView>& replacements() const noexcept { return replacements_; }

  /// The adapter's name of a tensor of a module or of a replacement, for messages.
  std::string tensor_of(const std::string& module) const;

  /// Over both files.
  std::string sha256() const;

 private:
  /// Names of the tensors of one module.
  struct Module {
    std::string a;
    std::string b;
    std::string magnitude;
    bool embedding = false;
  };

  LoraAdapter(LoraConfig config, SafetensorsFile tensors);
  void add(const std::string& name);
  void check(const std::string& name, const Module& module) const;
  void check_finite(const std::string& name) const;
  LoraFactors load(const std::string& name, const Module& module) const;

  LoraConfig config_;
  SafetensorsFile tensors_;
  std::map<std::string, Module> by_name_;
  std::vector<std::string> modules_;
  std::map<std::string, TensorView> replacements_;
  std::map<std::string, std::string> replaced_by_;  ///< The adapter's name of a replacement.
};

}  // namespace pare
