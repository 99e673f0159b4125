#include "engines/linear_survey.h"

#include <algorithm>
#include <cmath>

#include "core/dtype.h"
#include "engines/engine_export.h"
#include "model/block_parameters.h"
#include "pare/error.h"
#include "pipeline/job_plan.h"

namespace pare {
namespace {

const char* weight_text(WeightFormat format) {
  switch (format) {
    case WeightFormat::kBf16:
      return "BF16";
    case WeightFormat::kFp8E4m3:
      return "FP8";
    case WeightFormat::kInt8:
      return "INT8";
    case WeightFormat::kInt4:
      return "INT4";
    case WeightFormat::kNvfp4:
      return "NVFP4";
    case WeightFormat::kMxfp4:
      return "MXFP4";
  }
  return "";
}

const char* input_text(ActivationFormat format) {
  switch (format) {
    case ActivationFormat::kBf16:
      return "";
    case ActivationFormat::kFp8Static:
      return " with static FP8 inputs";
    case ActivationFormat::kFp8Dynamic:
      return " with FP8 inputs, a scale a token";
    case ActivationFormat::kFp8Block:
      return " with FP8 inputs, a scale for 128 channels";
    case ActivationFormat::kInt8Static:
      return " with static INT8 inputs";
    case ActivationFormat::kInt8Dynamic:
      return " with INT8 inputs, a scale a token";
    case ActivationFormat::kNvfp4:
      return " with NVFP4 inputs";
    case ActivationFormat::kMxfp4:
      return " with MXFP4 inputs";
  }
  return "";
}

// The head stays as it is, and is a linear for the reader, also where it is the embedding.
std::string head_module(const ModelGraph& graph) {
  const std::string& matrix = graph.head.matrix;
  return matrix == graph.embedding.tokens ? "lm_head" : matrix.substr(0, matrix.rfind('.'));
}

void look_at_numbers(const CompressedWeight& weight, LinearSurvey& survey) {
  for (const float scale : weight.scale) {
    const float stored = f16_to_f32(f32_to_f16(scale));
    survey.beyond_f16 = survey.beyond_f16 || !std::isfinite(stored) || !(stored > 0);
    survey.f16_change = std::max(survey.f16_change, static_cast<double>(std::abs(stored - scale)) /
                                                        static_cast<double>(scale));
  }
  const auto& zeros = weight.zero_point;
  survey.has_zero = survey.has_zero || std::find(zeros.begin(), zeros.end(), 0) != zeros.end();
}

}  // namespace

SurveyedLinear surveyed_linear(const std::string& module, const std::string& file,
                               const CompressedWeight& weight) {
  return {.module = module,
          .file = file,
          .shape = {weight.out_features, weight.in_features},
          .scheme = scheme_of(weight),
          .scales_input = !weight.pre_quant_scale.empty()};
}

LinearSurvey survey_linears(const ModelFiles& model) {
  LinearSurvey survey;
  survey.model = model;
  const WeightSource& source = *model.source;
  for (const std::string& module : linear_modules(model.graph)) {
    const std::string name = module + ".weight";
    if (!source.contains(name)) continue;
    if (!source.is_compressed(name)) {
      survey.left_alone.push_back(module);
      continue;
    }
    const CompressedWeight weight = source.compressed(name);
    if (weight.format == WeightFormat::kBf16) {
      survey.left_alone.push_back(module);
    } else {
      look_at_numbers(weight, survey);
      survey.quantized.push_back(surveyed_linear(module, source.file_of(name), weight));
    }
    source.release({name});
  }
  survey.left_alone.push_back(head_module(model.graph));
  for_each_block(model.graph, [&](const BlockGraph& block) {
    for (const AttentionSpec& attention : block.attentions) {
      if (survey.cache.format == CacheFormat::kNone) survey.cache = attention.cache;
    }
  });
  return survey;
}

LinearSurvey survey_job(const QuantizeOptions& options) {
  LinearSurvey survey;
  const ModelFiles model = open_model_files(options.model, options.lora);
  const JobPlan plan = make_plan(options, model.graph);
  for_each_block(model.graph, [&](const BlockGraph& block) {
    for (const Op& op : block.ops) {
      if (op.kind != OpKind::kLinear) continue;
      SurveyedLinear linear;
      linear.module = block.full_name(op);
      linear.file = options.model;
      linear.shape = {block.out_features(op), block.in_features(op)};
      const LinearPlan& planned = plan.linear(linear.module);
      if (!planned.format->quantized) {
        survey.left_alone.push_back(linear.module);
        continue;
      }
      const GridSpec grid = grid_spec(*planned.format, plan.options);
      linear.scheme = {grid.format, input_activation(*planned.format, plan.options),
                       grid.group_size, grid.block_rows, grid.symmetric};
      survey.quantized.push_back(std::move(linear));
    }
  });
  survey.left_alone.push_back(head_module(model.graph));
  survey.cache = plan.cache;
  survey.model = model;
  return survey;
}

std::string scheme_text(const LinearScheme& scheme) {
  std::string text = weight_text(scheme.weight);
  if (scheme.block_rows > 1) {
    text += " in blocks of " + std::to_string(scheme.block_rows) + "x" +
            std::to_string(scheme.group_size);
  } else if (scheme.group_size > 0) {
    text += " in groups of " + std::to_string(scheme.group_size);
  } else if (scheme.group_size == kPerChannel) {
    text += " by output channel";
  }
  if (!scheme.symmetric) text += " with zero points";
  return text + input_text(scheme.activation);
}

void refuse_linear(const SurveyedLinear& linear, const std::string& what) {
  throw Error(ErrorCode::kInputMalformed, linear.file + ": \"" + linear.module + "\" " + what);
}

void refuse_input_scales(const SurveyedLinear& linear, const std::string& form) {
  if (!linear.scales_input) return;
  refuse_linear(linear,
                "multiplies its input by scales that no norm or linear before it could absorb; " +
                    form +
                    " has no place for them. Quantize with --no-pre-quant-scale, or with "
                    "--export, which implies it");
}

void refuse_cache(const CacheSpec& cache, const std::string& form, bool holds_int8) {
  if (cache.affine) {
    throw Error(ErrorCode::kInputMalformed,
                form + " has no offsets for keys and values: quantize without --kv-affine");
  }
  if (cache.format == CacheFormat::kInt8 && !holds_int8) {
    throw Error(ErrorCode::kInputMalformed,
                form + " has no place for a cache in INT8: quantize with --kv-cache fp8");
  }
}

}  // namespace pare
