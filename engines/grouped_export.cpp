#include "engines/grouped_export.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "core/dtype.h"
#include "engines/folder_check.h"
#include "pare/error.h"

namespace pare {
namespace {

CompressedWeight with_f16_scales(CompressedWeight weight) {
  for (float& scale : weight.scale) scale = f16_to_f32(f32_to_f16(scale));
  return weight;
}

void check_linear(const GroupedForm& form, const SurveyedLinear& linear,
                  const SurveyedLinear& first) {
  const LinearScheme& scheme = linear.scheme;
  const auto refuse = [&](const std::string& what) { refuse_linear(linear, what); };
  const bool fits = scheme.weight == WeightFormat::kInt4 ||
                    (form.eight_bits && scheme.weight == WeightFormat::kInt8 &&
                     scheme.activation == ActivationFormat::kBf16);
  if (!fits || scheme.group_size == kPerTensor) {
    refuse("is " + scheme_text(scheme) + "; " + form.name +
           " holds INT4 with a scale for a group or an output channel" +
           (form.eight_bits ? ", and INT8 weights alone" : "") +
           ". Use --export compressed-tensors, which holds every format");
  }
  if (scheme.weight != first.scheme.weight || scheme.group_size != first.scheme.group_size) {
    refuse("is " + scheme_text(scheme) + " and \"" + first.module + "\" " +
           scheme_text(first.scheme) + "; " + form.name +
           " has one kind for all. Use --export compressed-tensors");
  }
  refuse_input_scales(linear, form.name);
  const int64_t out = linear.shape[0];
  const int64_t in = linear.shape[1];
  if (out % form.out_multiple != 0 || in % form.in_multiple != 0) {
    refuse("has shape " + shape_text(linear.shape) + "; " + form.name + " needs multiples of " +
           std::to_string(form.out_multiple) + " outputs and " + std::to_string(form.in_multiple) +
           " inputs. Leave it out with --exclude");
  }
  if (scheme.group_size > 0 && in % scheme.group_size != 0) {
    refuse("has " + std::to_string(in) + " inputs, which groups of " +
           std::to_string(scheme.group_size) + " do not divide. Choose another --group-size");
  }
}

}  // namespace

std::vector<std::byte> f16_bytes(const std::vector<float>& values) {
  std::vector<uint16_t> stored(values.size());
  std::transform(values.begin(), values.end(), stored.begin(), f32_to_f16);
  return to_bytes<uint16_t>(stored);
}

int64_t group_count(const SurveyedLinear& linear) {
  return linear.scheme.group_size > 0 ? linear.shape[1] / linear.scheme.group_size : 1;
}

void require_grouped(const LinearSurvey& survey, const GroupedForm& form) {
  const std::string name = form.name;
  refuse_unlike_shards(survey);
  if (survey.quantized.empty()) {
    throw Error(ErrorCode::kInputMalformed,
                "the model has no quantized linears; " + name + " has no place for another one");
  }
  for (const SurveyedLinear& linear : survey.quantized) {
    check_linear(form, linear, survey.quantized.front());
  }
  if (survey.beyond_f16) {
    throw Error(ErrorCode::kInputMalformed,
                "a scale of a linear is not in the range of F16, in "
                "which " +
                    name + " stores them");
  }
}

GroupedModel grouped_model(const LinearSurvey& survey) {
  GroupedModel result;
  const LinearScheme& scheme = survey.quantized.front().scheme;
  result.bits = scheme.weight == WeightFormat::kInt8 ? 8 : 4;
  if (scheme.group_size > 0) result.group_size = scheme.group_size;
  for (const SurveyedLinear& linear : survey.quantized) {
    result.symmetric = result.symmetric && linear.scheme.symmetric;
  }
  result.left_alone = survey.left_alone;
  result.left_alone.pop_back();  // the head
  return result;
}

EngineExport export_grouped(const LinearSurvey& survey, const GroupedForm& form,
                            const EngineOptions& options) {
  const std::shared_ptr<const WeightSource>& source = survey.model.source;
  const auto grouped = [&](const SurveyedLinear& linear) {
    return weight_piece(source, linear.weight_name(), form.tensors(linear),
                        [bytes = form.bytes](const CompressedWeight& weight) {
                          return bytes(grouped_codes(weight, dense_codes(weight)));
                        });
  };
  EngineExport made;
  set_shards(made, folder_pieces(survey, grouped, no_cache), options);
  made.files = source->text_files();
  made.warnings = lost_warnings(survey);
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "%.2g %%", 100 * survey.f16_change);
  made.warnings.emplace_back("scales are stored in F16: the largest change of one is " +
                             std::string(text.data()));
  made.is_same = [](const WeightSource& found, const std::string& name,
                    const CompressedWeight& weight, bool turned) {
    if (weight.format == WeightFormat::kBf16) return is_same_weight(found, name, weight, turned);
    const CompressedWeight stored = with_f16_scales(weight);
    return is_same_weight(found, name,
                          grouped_weight(grouped_codes(stored, dense_codes(stored)), name), turned);
  };
  return made;
}

}  // namespace pare
