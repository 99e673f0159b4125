// NVIDIA Model Optimizer's unified Hugging Face form: for TensorRT-LLM, vLLM and SGLang.
#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/dtype.h"
#include "engines/engine_export.h"
#include "engines/linear_survey.h"
#include "formats/modelopt_config.h"
#include "kernels/codec.h"
#include "kernels/engine_layouts.h"
#include "pare/error.h"

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

// The largest weight over that of E4M3: the kernel of W4A8 turns weights into FP8 with it.
float fp8_factor(const CompressedWeight& weight) {
  std::vector<float> row(static_cast<size_t>(weight.in_features));
  float absmax = 0;
  for (int64_t i = 0; i < weight.out_features; ++i) {
    dequantize_rows(weight, i, i + 1, row);
    for (const float value : row) absmax = std::max(absmax, std::abs(value));
  }
  return absmax > 0 ? absmax / kE4m3Max : 1.0F;
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
  std::vector<uint8_t> nibbles(codes.size() / 2);
  for (size_t i = 0; i < nibbles.size(); ++i) {
    nibbles[i] = static_cast<uint8_t>((codes[2 * i] & 15) | (codes[2 * i + 1] & 15) << 4);
  }
  return to_bytes<uint8_t>(nibbles);
}

std::vector<std::byte> bytes_of(const std::string& suffix, const CompressedWeight& weight) {
  const auto number = [](float value) { return to_bytes<float>(std::span(&value, 1)); };
  if (suffix == ".weight") return weight_bytes(weight);
  if (suffix == ".pre_quant_scale") return to_bytes<float>(weight.pre_quant_scale);
  if (suffix == ".input_scale") return number(weight.input_scale);
  if (suffix == ".weight_scale_2") {
    return number(is_fp4(weight.format) ? weight.global_scale : fp8_factor(weight));
  }
  if (!is_fp4(weight.format)) return to_bytes<float>(weight.scale);
  std::vector<uint8_t> scales(weight.scale.size());
  std::transform(weight.scale.begin(), weight.scale.end(), scales.begin(), f32_to_e4m3);
  return to_bytes<uint8_t>(scales);
}

TensorPiece linear_piece(const std::shared_ptr<const WeightSource>& source,
                         const SurveyedLinear& linear) {
  TensorPiece piece;
  piece.tensors = tensors_of(linear);
  piece.make = [source, specs = piece.tensors, linear] {
    const CompressedWeight weight = source->compressed(linear.weight_name());
    std::vector<std::vector<std::byte>> bytes;
    for (const TensorSpec& spec : specs) {
      bytes.push_back(bytes_of(spec.name.substr(linear.module.size()), weight));
    }
    source->release({linear.weight_name()});
    return bytes;
  };
  return piece;
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

class Exporter {
 public:
  Exporter(const ModelFiles& model, const LinearSurvey& survey)
      : survey_(survey), source_(model.source), turned_(transposed_weights(model.graph)) {}

  EngineExport make(const EngineOptions& options) {
    name_algorithms();
    for (const std::string& name : source_->names()) {
      if (const auto linear = linears_.find(name); linear != linears_.end()) {
        pieces_.push_back(linear_piece(source_, linear->second));
      } else if (source_->is_compressed(name)) {
        pieces_.push_back(
            dense_piece(source_, name, turned_.contains(name)));  // 2:4 alone, with its zeros
      } else if (is_cache_tensor(*source_, name)) {
        add_cache(name);
      } else {
        pieces_.push_back(copy_piece(source_, name));
      }
    }
    if (joins_heads_) {
      result_.warnings.emplace_back(
          "the form has one scale for the keys and one for the values of a layer: the largest of "
          "those of the heads; quantize with --kv-scales tensor for scales that were chosen so");
    }
    Json json = Json::parse(source_->config_json());
    json["quantization_config"] = modelopt_config_json(config_);
    result_.files = source_->text_files();
    result_.files["config.json"] = json.dump(2) + "\n";
    result_.files["hf_quant_config.json"] = modelopt_json(config_).dump(4) + "\n";
    set_shards(result_, std::move(pieces_), options);
    return std::move(result_);
  }

 private:
  void name_algorithms() {
    std::set<std::string> quantized;
    std::set<std::string> names;
    for (const SurveyedLinear& linear : survey_.quantized) {
      ModeloptAlgo algo = algo_of(linear);
      quantized.insert(linear.module);
      names.insert(algo.quant_algo + " " + std::to_string(algo.group_size));
      config_.layers[linear.module] = std::move(algo);
      linears_[linear.weight_name()] = linear;
    }
    if (names.size() == 1) {
      config_.algo = config_.layers.begin()->second;
      config_.layers.clear();
    } else {
      config_.algo.quant_algo = names.empty() ? "" : "MIXED_PRECISION";
    }
    config_.exclude_modules = exclude_patterns(survey_.left_alone, quantized);
  }

  void add_cache(const std::string& name) {
    const size_t dot = name.rfind('.');
    const std::string attention = name.substr(0, dot);
    const std::string suffix = name.substr(dot);
    config_.kv_cache_algo = survey_.cache.format == CacheFormat::kInt8 ? "INT8" : "FP8";
    if (suffix == ".kv_cache_dtype") return;
    const bool keys = suffix == ".k_scale";
    TensorPiece piece;
    piece.tensors.push_back(
        {attention + (keys ? ".k_proj.k_scale" : ".v_proj.v_scale"), DType::kF32, {}});
    joins_heads_ = joins_heads_ || element_count(source_->shape(name)) > 1;
    piece.make = [source = source_, name] {
      const std::vector<float> scales = to_f32(source->dense(name), name);
      const float largest = *std::max_element(scales.begin(), scales.end());
      return std::vector<std::vector<std::byte>>{to_bytes<float>(std::span(&largest, 1))};
    };
    pieces_.push_back(std::move(piece));
  }

  const LinearSurvey& survey_;
  std::shared_ptr<const WeightSource> source_;
  std::set<std::string> turned_;  // dense ones are stored [in, out]
  ModeloptConfig config_;
  bool joins_heads_ = false;
  std::map<std::string, SurveyedLinear> linears_;  // by "module.weight"
  std::vector<TensorPiece> pieces_;
  EngineExport result_;
};

}  // namespace

void require_modelopt(const LinearSurvey& survey, const EngineOptions& /*options*/) {
  for (const SurveyedLinear& linear : survey.quantized) algo_of(linear);
  refuse_unlike_shards(survey);
  refuse_cache(survey.cache, "Model Optimizer's form", /*holds_int8=*/true);
}

EngineExport export_modelopt(const ModelFiles& model, const LinearSurvey& survey,
                             const EngineOptions& options) {
  return Exporter(model, survey).make(options);
}

}  // namespace pare
