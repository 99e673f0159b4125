#include <map>
#include <nlohmann/json.hpp>

#include "engines/engine_export.h"
#include "engines/folder_check.h"
#include "formats/compressed_tensors_config.h"
#include "kernels/codec.h"
#include "kernels/engine_layouts.h"

namespace pare {
namespace {

using Json = nlohmann::ordered_json;

std::vector<TensorSpec> tensors_of(const SurveyedLinear& linear) {
  const LinearScheme& scheme = linear.scheme;
  const int64_t out = linear.shape[0];
  const int64_t in = linear.shape[1];
  CompressedWeight sizes;  // for the numbers of scales
  sizes.out_features = out;
  sizes.in_features = in;
  sizes.group_size = scheme.group_size;
  sizes.block_rows = scheme.block_rows;
  const auto named = [&](const char* suffix, DType dtype, Shape shape) {
    return TensorSpec{linear.module + suffix, dtype, std::move(shape)};
  };
  const std::string format = compressed_tensors_format(scheme);
  const Shape scales =
      scheme.group_size == kPerTensor ? Shape{1} : Shape{sizes.scale_rows(), sizes.groups()};
  std::vector<TensorSpec> specs;
  if (is_fp4(scheme.weight)) {
    const bool nvfp4 = scheme.weight == WeightFormat::kNvfp4;
    specs = {named(".weight_packed", DType::kU8, {out, in / 2}),
             named(".weight_scale", nvfp4 ? DType::kF8E4m3 : DType::kU8, scales)};
    if (nvfp4) specs.push_back(named(".weight_global_scale", DType::kF32, {1}));
  } else if (format == "pack-quantized") {
    const int bits = scheme.weight == WeightFormat::kInt4 ? 4 : 8;
    specs = {named(".weight_packed", DType::kI32, {out, bit_stream_words(in, bits)}),
             named(".weight_scale", DType::kF32, scales), named(".weight_shape", DType::kI64, {2})};
    if (!scheme.symmetric) {
      specs.push_back(
          named(".weight_zero_point", DType::kI32, {bit_stream_words(out, bits), scales[1]}));
    }
  } else {
    const bool int8 = scheme.weight == WeightFormat::kInt8;
    specs = {named(".weight", int8 ? DType::kI8 : DType::kF8E4m3, {out, in}),
             named(".weight_scale", DType::kF32, scales)};
  }
  if (scheme.activation == ActivationFormat::kNvfp4) {
    specs.push_back(named(".input_global_scale", DType::kF32, {1}));
  } else if (has_input_scale(scheme.activation)) {
    specs.push_back(named(".input_scale", DType::kF32, {1}));
  }
  return specs;
}

std::vector<std::byte> packed_zero_points(const CompressedWeight& weight) {
  const int64_t out = weight.out_features;
  const int64_t groups = weight.groups();
  std::vector<int8_t> turned(static_cast<size_t>(out * groups));
  for (int64_t row = 0; row < out; ++row) {
    for (int64_t group = 0; group < groups; ++group) {
      turned[static_cast<size_t>(group * out + row)] =
          static_cast<int8_t>(weight.zero_point[static_cast<size_t>(row * groups + group)] - 8);
    }
  }
  const int64_t words = bit_stream_words(out, 4);
  std::vector<uint32_t> rows(static_cast<size_t>(groups * words));
  pack_bit_stream(turned, {groups, out}, 4, rows);
  std::vector<uint32_t> columns(rows.size());
  for (int64_t group = 0; group < groups; ++group) {
    for (int64_t word = 0; word < words; ++word) {
      columns[static_cast<size_t>(word * groups + group)] =
          rows[static_cast<size_t>(group * words + word)];
    }
  }
  return to_bytes<uint32_t>(columns);
}

// The bytes of one tensor of tensors_of(), by the end of its name.
std::vector<std::byte> bytes_of(const std::string& suffix, const CompressedWeight& weight) {
  const auto number = [](float value) { return to_bytes<float>(std::span(&value, 1)); };
  if (suffix == ".weight_scale") {
    if (!is_fp4(weight.format)) return to_bytes<float>(weight.scale);
    std::vector<uint8_t> codes;
    for (const float scale : weight.scale) {
      codes.push_back(weight.format == WeightFormat::kNvfp4 ? f32_to_e4m3(scale)
                                                            : f32_to_e8m0(scale));
    }
    return to_bytes<uint8_t>(codes);
  }
  if (suffix == ".weight_global_scale") return number(1.0F / weight.global_scale);
  if (suffix == ".input_global_scale") return number(1.0F / weight.input_scale);
  if (suffix == ".input_scale") return number(weight.input_scale);
  if (suffix == ".weight_zero_point") return packed_zero_points(weight);
  if (suffix == ".weight_shape") {
    const std::vector<int64_t> shape = {weight.out_features, weight.in_features};
    return to_bytes<int64_t>(shape);
  }
  std::vector<int8_t> codes = dense_codes(weight);
  if (suffix == ".weight") return to_bytes<int8_t>(codes);
  const MatrixSize size{weight.out_features, weight.in_features};
  if (is_fp4(weight.format)) return nibble_bytes(codes);
  const int bits = weight.format == WeightFormat::kInt4 ? 4 : 8;
  if (!weight.symmetric) {
    for (int8_t& code : codes) code = static_cast<int8_t>(code - 8);
  }
  std::vector<uint32_t> words(
      static_cast<size_t>(size.rows * bit_stream_words(size.columns, bits)));
  pack_bit_stream(codes, size, bits, words);
  return to_bytes<uint32_t>(words);
}

// From the schemes of all linears groups, and what is left alone.
CompressedTensorsConfig config_of(const LinearSurvey& survey) {
  CompressedTensorsConfig config;
  std::map<LinearScheme, std::vector<std::string>> modules;
  std::vector<LinearScheme> order;
  for (const SurveyedLinear& linear : survey.quantized) {
    if (!modules.contains(linear.scheme)) order.push_back(linear.scheme);
    modules[linear.scheme].push_back(linear.module);
  }
  config.ignore = survey.left_alone;
  for (const LinearScheme& scheme : order) {
    CompressedTensorsGroup group;
    group.scheme = scheme;
    group.format = compressed_tensors_format(scheme);
    group.targets = order.size() == 1 ? std::vector<std::string>{"Linear"} : modules[scheme];
    config.groups.push_back(std::move(group));
  }
  config.kv_cache_fp8 = survey.cache.format != CacheFormat::kNone;
  config.kv_cache_per_head = survey.cache.per_head;
  return config;
}

}  // namespace

void require_compressed_tensors(const LinearSurvey& survey, const EngineOptions& /*options*/) {
  for (const SurveyedLinear& linear : survey.quantized) {
    refuse_input_scales(linear, "compressed-tensors");
  }
  refuse_unlike_shards(survey);
  refuse_cache(survey.cache, "compressed-tensors", /*holds_int8=*/false);
}

EngineExport export_compressed_tensors(const LinearSurvey& survey, const EngineOptions& options) {
  const std::shared_ptr<const WeightSource>& source = survey.model.source;
  const auto linear = [&](const SurveyedLinear& each) {
    return linear_piece(source, each, tensors_of(each), bytes_of);
  };
  const auto cache = [&](const std::string& name) -> std::vector<TensorPiece> {
    if (name.ends_with(".kv_cache_dtype")) return {};  // kv_cache_scheme says it.
    return {copy_piece(source, name)};
  };
  EngineExport made;
  made.files = source->text_files();
  Json json = Json::parse(source->config_json());
  if (is_quantized(survey)) {
    json["quantization_config"] = compressed_tensors_json(config_of(survey));
  } else {
    made.warnings.emplace_back(kNothingQuantized);
  }
  made.files["config.json"] = json.dump(2) + "\n";
  set_shards(made, folder_pieces(survey, linear, cache), options);
  return made;
}

}  // namespace pare
