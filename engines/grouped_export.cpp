#include "engines/grouped_export.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

#include "core/dtype.h"
#include "pare/error.h"

namespace pare {
namespace {

CompressedWeight with_f16_scales(CompressedWeight weight) {
  for (float& scale : weight.scale) scale = f16_to_f32(f32_to_f16(scale));
  return weight;
}

// How far a scale moves when it is rounded to F16, relative to itself.
double f16_change(const CompressedWeight& weight) {
  double most = 0;
  for (const float scale : weight.scale) {
    const double stored = static_cast<double>(f16_to_f32(f32_to_f16(scale)));
    most =
        std::max(most, std::abs(stored - static_cast<double>(scale)) / static_cast<double>(scale));
  }
  return most;
}

TensorPiece grouped_piece(const std::shared_ptr<const WeightSource>& source,
                          const SurveyedLinear& linear, const GroupedForm& form) {
  TensorPiece piece;
  piece.tensors = form.tensors(linear);
  piece.make = [source, name = linear.weight_name(), make = form.bytes] {
    const CompressedWeight weight = source->compressed(name);
    std::vector<std::vector<std::byte>> bytes = make(grouped_codes(weight, dense_codes(weight)));
    source->release({name});
    return bytes;
  };
  return piece;
}

void check_linear(const ModelFiles& model, const GroupedForm& form, const SurveyedLinear& linear,
                  const SurveyedLinear& first) {
  const LinearScheme& scheme = linear.scheme;
  const auto refuse = [&](const std::string& what) { refuse_linear(model, linear, what); };
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
  refuse_input_scales(model, linear, form.name);
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

GroupedModel export_grouped(const ModelFiles& model, const GroupedForm& form,
                            const EngineOptions& options, EngineExport& made) {
  double change = 0;
  bool beyond_f16 = false;
  GroupedModel result;
  LinearSurvey survey = survey_linears(model, [&](const CompressedWeight& weight) {
    change = std::max(change, f16_change(weight));
    for (const float scale : weight.scale) {
      const float stored = f16_to_f32(f32_to_f16(scale));
      beyond_f16 = beyond_f16 || !std::isfinite(stored) || !(stored > 0);
    }
    const auto& zeros = weight.zero_point;
    result.has_zero = result.has_zero || std::find(zeros.begin(), zeros.end(), 0) != zeros.end();
  });
  if (survey.quantized.empty()) {
    throw Error(ErrorCode::kInputMalformed, model.source->path() + ": has no quantized linears; " +
                                                form.name + " has no place for another model");
  }
  const SurveyedLinear& first = survey.quantized.front();
  result.bits = first.scheme.weight == WeightFormat::kInt8 ? 8 : 4;
  result.group_size = first.scheme.group_size;
  std::map<std::string, const SurveyedLinear*> linears;
  bool rounds_inputs = false;
  for (const SurveyedLinear& linear : survey.quantized) {
    check_linear(model, form, linear, first);
    result.symmetric = result.symmetric && linear.scheme.symmetric;
    rounds_inputs = rounds_inputs || linear.scheme.activation != ActivationFormat::kBf16;
    linears[linear.weight_name()] = &linear;
  }
  if (beyond_f16) {
    throw Error(ErrorCode::kInputMalformed,
                model.source->path() +
                    ": a scale of its linears is not in the range of F16, in "
                    "which " +
                    form.name + " stores them");
  }
  std::vector<TensorPiece> pieces;
  for (const std::string& name : model.source->names()) {
    if (const auto linear = linears.find(name); linear != linears.end()) {
      pieces.push_back(grouped_piece(model.source, *linear->second, form));
    } else if (model.source->is_compressed(name)) {
      pieces.push_back(dense_piece(model.source, name, false));
    } else if (!is_cache_tensor(*model.source, name)) {
      pieces.push_back(copy_piece(model.source, name));
    }
  }
  set_shards(made, std::move(pieces), options);
  if (rounds_inputs) made.warnings.emplace_back(kInputsNotRounded);
  if (!survey.cache.empty()) made.warnings.emplace_back(kCacheLeftOut);
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "%.2g %%", 100 * change);
  made.warnings.emplace_back("scales are stored in F16: the largest change of one is " +
                             std::string(text.data()));
  made.is_same = [](const WeightSource& found, const std::string& name,
                    const CompressedWeight& weight) {
    if (weight.format == WeightFormat::kBf16) return is_same_weight(found, name, weight);
    const CompressedWeight stored = with_f16_scales(weight);
    return is_same_weight(found, name,
                          grouped_weight(grouped_codes(stored, dense_codes(stored)), name));
  };
  survey.left_alone.pop_back();  // the head
  result.left_alone = std::move(survey.left_alone);
  return result;
}

}  // namespace pare
