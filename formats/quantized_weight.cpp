#include "formats/quantized_weight.h"

#include <array>
#include <string_view>

#include "formats/checkpoint_layout.h"
#include "kernels/codec.h"
#include "pare/error.h"

namespace pare {
namespace {

[[noreturn]] void fail(const std::string& name, const std::string& what) {
  throw Error(ErrorCode::kUsage, "tensor \"" + name + "\": " + what);
}

WeightFormat format_from(const WeightScheme& scheme, const std::string& name) {
  std::string known;
  for (const CodeLayout& layout : code_layouts()) {
    if (scheme.scheme == layout.scheme) return layout.format;
    if (known.find(layout.scheme) == std::string::npos) {
      known += (known.empty() ? "" : ", ") + std::string(layout.scheme);
    }
  }
  fail(name, "scheme \"" + scheme.scheme + "\" is not known; known: " + known);
}

}  // namespace

WeightScheme scheme_of(const CompressedWeight& weight, bool pre_quant_scaled) {
  return {.scheme = code_layout(weight.format, weight.symmetric).scheme,
          .activation = activation_name(weight.activation),
          .group_size = weight.group_size,
          .block_rows = weight.block_rows,
          .symmetric = weight.symmetric,
          .sparse = weight.sparse,
          .pre_quant_scaled = pre_quant_scaled};
}

QuantizedWeight to_public(const CompressedWeight& weight) {
  return {.scheme = scheme_of(weight, !weight.pre_quant_scale.empty()),
          .shape = {weight.out_features, weight.in_features},
          .codes = weight.codes,
          .mask_index = weight.mask_index,
          .scale = weight.scale,
          .global_scale = weight.global_scale,
          .zero_point = weight.zero_point,
          .input_scale = weight.input_scale,
          .pre_quant_scale = weight.pre_quant_scale};
}

CompressedWeight to_compressed(const QuantizedWeight& weight, const std::string& name) {
  const WeightScheme& scheme = weight.scheme;
  if (weight.shape.size() != 2) {
    fail(name, "a compressed weight has the shape [out, in], found " + shape_text(weight.shape));
  }
  const auto activation = activation_from_name(scheme.activation);
  if (!activation) fail(name, "activation \"" + scheme.activation + "\" is not known");
  if (scheme.pre_quant_scaled != !weight.pre_quant_scale.empty()) {
    fail(name, "pre_quant_scale and what its scheme says of it contradict each other");
  }
  CompressedWeight result{.format = format_from(scheme, name),
                          .activation = *activation,
                          .out_features = weight.shape[0],
                          .in_features = weight.shape[1],
                          .group_size = scheme.group_size,
                          .block_rows = scheme.block_rows,
                          .symmetric = scheme.symmetric,
                          .sparse = scheme.sparse,
                          .codes = weight.codes,
                          .mask_index = weight.mask_index,
                          .scale = weight.scale,
                          .global_scale = weight.global_scale,
                          .zero_point = weight.zero_point,
                          .input_scale = weight.input_scale,
                          .pre_quant_scale = weight.pre_quant_scale};
  try {
    validate(result, name);
  } catch (const Error& error) {
    // No file is damaged: the caller put it together like this.
    throw Error(ErrorCode::kUsage, error.what());
  }
  return result;
}

void check_rows(const std::string& name, int64_t first, int64_t count, int64_t rows) {
  if (first < 0 || count < 0 || first > rows || count > rows - first) {
    fail(name, "rows from " + std::to_string(first) + ", " + std::to_string(count) +
                   " of them, are not among its " + std::to_string(rows));
  }
}

std::vector<float> dequantize(const QuantizedWeight& weight, int64_t first, int64_t count,
                              const std::string& name) {
  const CompressedWeight compressed = to_compressed(weight, name);
  check_rows(name, first, count, compressed.out_features);
  std::vector<float> values(static_cast<size_t>(count * compressed.in_features));
  dequantize_rows(compressed, first, first + count, values);
  return values;
}

}  // namespace pare
