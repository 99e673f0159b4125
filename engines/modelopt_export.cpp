// NVIDIA Model Optimizer's unified Hugging Face form: for TensorRT-LLM, vLLM and SGLang.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/dtype.h"
#include "engines/engine_export.h"
#include "engines/folder_check.h"
#include "formats/modelopt_config.h"
#include "kernels/codec.h"
#include "kernels/engine_layouts.h"

namespace pare {
namespace {

using Json = nlohmann::ordered_json;

bool is_w4a8(const LinearScheme& scheme) {
  return scheme.weight == WeightFormat::kInt4 && scheme.activation == ActivationFormat::kFp8Static;
}

std::vector<TensorSpec> tensors_of(const SurveyedLinear& linear) {
  const LinearScheme& scheme = linear.scheme;
  const int64_t out = linear.shape[0];
  const int64_t in = linear.shape[1];
  const auto named = [&](const char* suffix, DType dtype, Shape shape) {
    return TensorSpec{linear.module + suffix, dtype, std::move(shape)};
  };
  const int64_t groups =
      scheme.group_size > 0 ? (in + scheme.group_size - 1) / scheme.group_size : 1;
  std::vector<TensorSpec> specs;
  switch (scheme.weight) {
    case WeightFormat::kFp8E4m3:
      specs = {named(".weight", DType::kF8E4m3, {out, in}),
               named(".weight_scale", DType::kF32,
                     scheme.group_size == kPerTensor ? Shape{} : Shape{out})};
      break;
    case WeightFormat::kInt8:
      specs = {named(".weight", DType::kI8, {out, in}), named(".weight_scale", DType::kF32, {out})};
      break;
    case WeightFormat::kInt4:
      specs = {named(".weight", DType::kU8, {out / 2, in}),
               named(".weight_scale", DType::kF32, {out, groups})};
      break;
    default:
      specs = {named(".weight", DType::kU8, {out, in / 2}),
               named(".weight_scale", DType::kF8E4m3, {out, groups})};
  }
  if (is_w4a8(scheme) || is_fp4(scheme.weight)) {
    specs.push_back(named(".weight_scale_2", DType::kF32, {}));
  }
  if (has_input_scale(scheme.activation)) specs.push_back(named(".input_scale", DType::kF32, {}));
  if (linear.scales_input) specs.push_back(named(".pre_quant_scale", DType::kF32, {in}));
  return specs;
}

std::vector<std::byte> weight_bytes(const CompressedWeight& weight) {
  std::vector<int8_t> codes = dense_codes(weight);
  const MatrixSize size{weight.out_features, weight.in_features};
  if (weight.format == WeightFormat::kInt4) {
    std::vector<uint8_t> pairs(codes.size() / 2);
    pack_row_pairs(codes, size, pairs);
    return to_bytes<uint8_t>(pairs);
  }
  if (!is_fp4(weight.format)) return to_bytes<int8_t>(codes);
  return nibble_bytes(codes);
}

std::vector<std::byte> bytes_of(const std::string& suffix, const CompressedWeight& weight) {
  const auto number = [](float value) { return to_bytes<float>(std::span(&value, 1)); };
  if (suffix == ".weight") return weight_bytes(weight);
  if (suffix == ".pre_quant_scale") return to_bytes<float>(weight.pre_quant_scale);
  if (suffix == ".input_scale") return number(weight.input_scale);
  if (suffix == ".weight_scale_2") {
    return number(is_fp4(weight.format) ? weight.global_scale
                                        : symmetric_scale(largest_value(weight), kE4m3Max));
  }
  if (!is_fp4(weight.format)) return to_bytes<float>(weight.scale);
  std::vector<uint8_t> scales(weight.scale.size());
  std::transform(weight.scale.begin(), weight.scale.end(), scales.begin(), f32_to_e4m3);
  return to_bytes<uint8_t>(scales);
}

// Throws Error(kInputMalformed) where the form has no name for it.
ModeloptAlgo algo_of(const SurveyedLinear& linear) {
  LinearScheme scheme = linear.scheme;
  if (scheme.weight == WeightFormat::kInt4 && scheme.group_size == kPerChannel) {
    scheme.group_size = linear.shape[1];
  }
  std::optional<ModeloptAlgo> algo = modelopt_algo(scheme);
  if (!algo) {
    refuse_linear(linear,
                  "is " + scheme_text(linear.scheme) +
                      ", for which Model Optimizer has no name. Use --export compressed-tensors");
  }
  if (linear.scales_input) {
    if (algo->quant_algo == "NVFP4") algo->quant_algo = "NVFP4_AWQ";
    const bool has_place =
        algo->quant_algo.ends_with("_AWQ") || algo->quant_algo == "W8A8_SQ_PER_CHANNEL";
    if (!has_place) refuse_input_scales(linear, algo->quant_algo);
  }
  if (scheme.weight == WeightFormat::kInt4 &&
      (linear.shape[0] % 2 != 0 || linear.shape[1] % scheme.group_size != 0)) {
    refuse_linear(linear, "has shape " + shape_text(linear.shape) +
                              "; the form needs an even number of "
                              "outputs, and inputs that groups of " +
                              std::to_string(scheme.group_size) +
                              " divide. Choose another --group-size");
  }
  return *algo;
}

ModeloptConfig config_of(const LinearSurvey& survey) {
  ModeloptConfig config;
  std::set<std::string> quantized;
  std::set<std::string> names;
  for (const SurveyedLinear& linear : survey.quantized) {
    ModeloptAlgo algo = algo_of(linear);
    quantized.insert(linear.module);
    names.insert(algo.quant_algo + " " + std::to_string(algo.group_size));
    config.layers[linear.module] = std::move(algo);
  }
  if (names.size() == 1) {
    config.algo = config.layers.begin()->second;
    config.layers.clear();
  } else {
    config.algo.quant_algo = names.empty() ? "" : "MIXED_PRECISION";
  }
  config.exclude_modules = exclude_patterns(survey.left_alone, quantized);
  if (survey.cache.format != CacheFormat::kNone) {
    config.kv_cache_algo = survey.cache.format == CacheFormat::kInt8 ? "INT8" : "FP8";
  }
  return config;
}

// The one scale of keys or values: the largest of the heads'.
std::vector<TensorPiece> cache_pieces(const std::shared_ptr<const WeightSource>& source,
                                      const std::string& name) {
  const size_t dot = name.rfind('.');
  const std::string suffix = name.substr(dot);
  if (suffix == ".kv_cache_dtype") return {};  // kv_cache_quant_algo says it.
  TensorPiece piece;
  const char* target = suffix == ".k_scale" ? ".k_proj.k_scale" : ".v_proj.v_scale";
  piece.tensors.push_back({name.substr(0, dot) + target, DType::kF32, {}});
  piece.make = [source, name] {
    const std::vector<float> scales = to_f32(source->dense(name), name);
    const float largest = *std::max_element(scales.begin(), scales.end());
    return std::vector<std::vector<std::byte>>{to_bytes<float>(std::span(&largest, 1))};
  };
  return {std::move(piece)};
}

}  // namespace

void require_modelopt(const LinearSurvey& survey, const EngineOptions& /*options*/) {
  for (const SurveyedLinear& linear : survey.quantized) algo_of(linear);
  refuse_unlike_shards(survey);
  refuse_cache(survey.cache, "Model Optimizer's form", /*holds_int8=*/true);
}

EngineExport export_modelopt(const LinearSurvey& survey, const EngineOptions& options) {
  const std::shared_ptr<const WeightSource>& source = survey.model.source;
  const auto linear = [&](const SurveyedLinear& each) {
    return linear_piece(source, each, tensors_of(each), bytes_of);
  };
  bool joins_heads = false;
  const auto cache = [&](const std::string& name) {
    const bool is_scale = name.ends_with("_scale");
    joins_heads = joins_heads || (is_scale && element_count(source->shape(name)) > 1);
    return cache_pieces(source, name);
  };
  const ModeloptConfig config = config_of(survey);
  EngineExport made;
  made.files = source->text_files();
  Json json = Json::parse(source->config_json());
  if (is_quantized(survey)) {
    json["quantization_config"] = modelopt_config_json(config);
  } else {
    made.warnings.emplace_back(kNothingQuantized);
  }
  made.files["config.json"] = json.dump(2) + "\n";
  if (is_quantized(survey)) {
    made.files["hf_quant_config.json"] = modelopt_json(config).dump(4) + "\n";
  }
  set_shards(made, folder_pieces(survey, linear, cache), options);
  if (joins_heads) {
    made.warnings.emplace_back(
        "the form has one scale for the keys and one for the values of a layer: the largest of "
        "those of the heads; quantize with --kv-scales tensor for scales that were chosen so");
  }
  return made;
}

}  // namespace pare
