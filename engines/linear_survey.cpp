#include "engines/linear_survey.h"

#include "engines/engine_export.h"
#include "pare/error.h"

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

}  // namespace

LinearSurvey survey_linears(const ModelFiles& model,
                            const std::function<void(const CompressedWeight&)>& visit) {
  LinearSurvey survey;
  const WeightSource& source = *model.source;
  for (const std::string& module : linear_modules(model.graph)) {
    const std::string name = module + ".weight";
    if (!source.contains(name)) continue;
    if (!source.is_compressed(name)) {
      survey.left_alone.push_back(module);
      continue;
    }
    const CompressedWeight weight = source.compressed(name);
    if (visit) visit(weight);
    SurveyedLinear linear;
    linear.module = module;
    linear.shape = {weight.out_features, weight.in_features};
    linear.scheme = scheme_of(weight);
    linear.sparse = weight.sparse;
    linear.scales_input = !weight.pre_quant_scale.empty();
    if (weight.format == WeightFormat::kBf16) {
      survey.left_alone.push_back(module);
    } else {
      survey.quantized.push_back(std::move(linear));
    }
    source.release({name});
  }
  // The head stays as it is, and is a linear for the reader, also where it is the embedding.
  const HeadSpec& head = model.graph.head;
  const std::string matrix =
      head.matrix == model.graph.embedding.tokens ? "lm_head.weight" : head.matrix;
  survey.left_alone.push_back(matrix.substr(0, matrix.rfind('.')));
  for (const std::string& name : source.names()) {
    if (!source.is_compressed(name) && is_cache_tensor(source, name)) survey.cache.push_back(name);
  }
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

void refuse_linear(const ModelFiles& model, const SurveyedLinear& linear, const std::string& what) {
  throw Error(ErrorCode::kInputMalformed,
              model.source->file_of(linear.weight_name()) + ": \"" + linear.module + "\" " + what);
}

void refuse_input_scales(const ModelFiles& model, const SurveyedLinear& linear,
                         const std::string& form) {
  if (!linear.scales_input) return;
  refuse_linear(model, linear,
                "multiplies its input by scales that no norm or linear before it could absorb; " +
                    form +
                    " has no place for them. Quantize with --algo gptq, or with --export, which "
                    "leaves such scales out");
}

}  // namespace pare
