// What AutoAWQ's and GPTQ's forms have in common: whole numbers with a scale, stored in F16, and a
// zero point for each group of inputs, one kind for all linears.
#pragma once

#include <string>
#include <vector>

#include "engines/engine_export.h"
#include "engines/linear_survey.h"
#include "formats/grouped_weight.h"

namespace pare {

struct GroupedForm {
  const char* name = "";     ///< "AWQ", for messages.
  bool eight_bits = false;   ///< Holds symmetric INT8 as well.
  int64_t out_multiple = 1;  ///< Of out_features.
  int64_t in_multiple = 1;   ///< Of in_features.
  /// The tensors of a linear, and their bytes in the same order.
  std::vector<TensorSpec> (*tensors)(const SurveyedLinear& linear) = nullptr;
  std::vector<std::vector<std::byte>> (*bytes)(const GroupedCodes& grouped) = nullptr;
};

/// What they have in common, for the configuration.
struct GroupedModel {
  int bits = 4;
  int64_t group_size = -1;              ///< −1: all inputs of an output.
  bool symmetric = true;                ///< Every linear is.
  std::vector<std::string> left_alone;  ///< Without the head.
};

/// Throws Error(kInputMalformed), naming the linear, where linears are of several kinds, do not fit
/// the form, or have a scale beyond what F16 holds.
void require_grouped(const LinearSurvey& survey, const GroupedForm& form);

/// REQUIRES: require_grouped().
GroupedModel grouped_model(const LinearSurvey& survey);

/// All but the configuration.
EngineExport export_grouped(const LinearSurvey& survey, const GroupedForm& form,
                            const EngineOptions& options);

/// Rounded to F16.
std::vector<std::byte> f16_bytes(const std::vector<float>& values);

/// Number of groups of a linear.
int64_t group_count(const SurveyedLinear& linear);

}  // namespace pare
