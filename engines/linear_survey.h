// What the linears of a checkpoint are, or those of a job's result will be, for a form to say
// whether it can hold them.
#pragma once

#include <string>
#include <vector>

#include "core/tensor_view.h"
#include "formats/linear_scheme.h"
#include "model/model_files.h"
#include "pare/quantize.h"

namespace pare {

struct SurveyedLinear {
  std::string module;  ///< "model.layers.0.mlp.up_proj"
  std::string file;    ///< For messages.
  Shape shape;         ///< [out, in]
  LinearScheme scheme;
  bool scales_input = false;  ///< Has a pre_quant_scale that nothing absorbed.

  std::string weight_name() const { return module + ".weight"; }
};

struct LinearSurvey {
  ModelFiles model;                       ///< What is exported, or what the job starts from.
  std::vector<SurveyedLinear> quantized;  ///< In the order of the model.
  std::vector<std::string> left_alone;    ///< Modules in 16 bits, the head last.
  CacheSpec cache;                        ///< Of the first attention that has one.
  /// What only a finished checkpoint shows: how far a scale moves when it is rounded to F16,
  /// relative to itself; whether one leaves the range of F16; whether a zero point is 0.
  double f16_change = 0;
  bool beyond_f16 = false;
  bool has_zero = false;
};

/// Whether engines have to be told anything: linears, or scales of a cache.
inline bool is_quantized(const LinearSurvey& survey) {
  return !survey.quantized.empty() || survey.cache.format != CacheFormat::kNone;
}

/// Warning of forms that say so in their configuration, where nothing is.
inline constexpr const char* kNothingQuantized =
    "no linear is quantized: the folder is one that is not quantized";

/// What a weight says of its linear.
SurveyedLinear surveyed_linear(const std::string& module, const std::string& file,
                               const CompressedWeight& weight);

/// Reads every compressed weight once.
LinearSurvey survey_linears(const ModelFiles& model);

/// The same of what quantize(options) would write. Throws as quantize() does before its work.
LinearSurvey survey_job(const QuantizeOptions& options);

/// "INT4 in groups of 128 with FP8 inputs": for messages.
std::string scheme_text(const LinearScheme& scheme);

/// Throws Error(kInputMalformed): "FILE: "MODULE" what".
[[noreturn]] void refuse_linear(const SurveyedLinear& linear, const std::string& what);

/// The same for a linear whose input is scaled, in forms without a place for that.
void refuse_input_scales(const SurveyedLinear& linear, const std::string& form);

/// Throws Error(kInputMalformed) for a cache of keys and values with offsets, and unless the form
/// holds it, for one in INT8.
void refuse_cache(const CacheSpec& cache, const std::string& form, bool holds_int8);

}  // namespace pare
