// What the linears of a checkpoint are, before an export decides whether its form can hold them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/tensor_view.h"
#include "formats/linear_scheme.h"
#include "model/model_files.h"

namespace pare {

struct SurveyedLinear {
  std::string module;  ///< "model.layers.0.mlp.up_proj"
  Shape shape;         ///< [out, in]
  LinearScheme scheme;
  bool sparse = false;        ///< 2:4
  bool scales_input = false;  ///< Has a pre_quant_scale that nothing absorbed.

  std::string weight_name() const { return module + ".weight"; }
};

struct LinearSurvey {
  std::vector<SurveyedLinear> quantized;  ///< In the order of the model.
  std::vector<std::string> left_alone;    ///< Modules in 16 bits, the head last.
  std::vector<std::string> cache;         ///< Tensors that describe a cache of keys and values.
};

/// Reads every compressed weight once and shows it to `visit`, which may be empty.
LinearSurvey survey_linears(const ModelFiles& model,
                            const std::function<void(const CompressedWeight& weight)>& visit = {});

/// "INT4 in groups of 128 with FP8 inputs": for messages.
std::string scheme_text(const LinearScheme& scheme);

/// Throws Error(kInputMalformed): "FILE: "MODULE" what".
[[noreturn]] void refuse_linear(const ModelFiles& model, const SurveyedLinear& linear,
                                const std::string& what);

/// The same for a linear whose input is scaled, in forms without a place for that.
void refuse_input_scales(const ModelFiles& model, const SurveyedLinear& linear,
                         const std::string& form);

}  // namespace pare
