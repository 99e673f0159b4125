#include "core/compressed_weight.h"

#include <cmath>
#include <string>

#include "core/dtype.h"
#include "pare/error.h"

namespace pare {
namespace {

[[noreturn]] void fail(std::string_view name, const std::string& what) {
  throw Error(ErrorCode::kInputMalformed, "tensor \"" + std::string(name) + "\": " + what);
}

void check_size(std::string_view name, const char* part, size_t found, int64_t expected) {
  if (found != static_cast<size_t>(expected)) {
    fail(name, std::string(part) + " has " + std::to_string(found) + " elements, expected " +
                   std::to_string(expected));
  }
}

void check_scales(std::string_view name, const char* part, const std::vector<float>& scales) {
  for (const float scale : scales) {
    if (!(scale > 0) || !std::isfinite(scale)) {
      fail(name, std::string(part) + " holds " + std::to_string(scale) +
                     ", expected a positive finite number");
    }
  }
}

/// The scales of FP4 are stored in one byte each.
void check_fp4(std::string_view name, const CompressedWeight& weight) {
  const bool nvfp4 = weight.format == WeightFormat::kNvfp4;
  for (const float scale : weight.scale) {
    int exponent = 0;
    const bool stored =
        nvfp4 ? e4m3_to_f32(f32_to_e4m3(scale)) == scale : std::frexp(scale, &exponent) == 0.5F;
    if (!stored) {
      fail(name, "weight_scale holds " + std::to_string(scale) + ", which is not a value of " +
                     (nvfp4 ? "E4M3" : "E8M0"));
    }
  }
}

void check_mask(std::string_view name, const CompressedWeight& weight) {
  const int64_t row_bytes = weight.mask_row_bytes();
  const int64_t groups = weight.in_features / 4;
  check_size(name, "mask_index", weight.mask_index.size(), weight.out_features * row_bytes);
  for (int64_t row = 0; row < weight.out_features; ++row) {
    for (int64_t group = 0; group < groups; ++group) {
      const uint8_t byte = weight.mask_index[static_cast<size_t>(row * row_bytes + group / 2)];
      const int nibble = group % 2 == 0 ? byte & 15 : byte >> 4;
      if ((nibble & 3) >= (nibble >> 2)) {
        fail(name, "mask_index of row " + std::to_string(row) + ", group " + std::to_string(group) +
                       " is " + std::to_string(nibble) + ", expected idx0 < idx1");
      }
    }
  }
}

}  // namespace

void validate(const CompressedWeight& weight, std::string_view name) {
  constexpr int64_t kLimit = int64_t{1} << 31;
  if (weight.out_features <= 0 || weight.in_features <= 0 || weight.out_features > kLimit ||
      weight.in_features > kLimit || weight.group_size < kPerTensor || weight.block_rows < 1 ||
      weight.block_rows > kLimit || (weight.group_size <= 0 && weight.block_rows != 1)) {
    fail(name, "impossible shape [" + std::to_string(weight.out_features) + ", " +
                   std::to_string(weight.in_features) + "] or group size " +
                   std::to_string(weight.group_size) + " with blocks of " +
                   std::to_string(weight.block_rows) + " rows");
  }
  const int64_t fp4_group = weight.format == WeightFormat::kNvfp4 ? kNvfp4Group : kMxfp4Group;
  if (is_fp4(weight.format) && weight.group_size != fp4_group) {
    fail(name, "group size " + std::to_string(weight.group_size) + ", expected " +
                   std::to_string(fp4_group) + " for this FP4 format");
  }
  if (weight.sparse && weight.in_features % 4 != 0) {
    fail(name, "2:4 needs in_features divisible by 4, found " + std::to_string(weight.in_features));
  }
  check_size(name, "weight", weight.codes.size(), weight.out_features * weight.row_bytes());
  if (weight.sparse) {
    check_mask(name, weight);
  } else {
    check_size(name, "mask_index", weight.mask_index.size(), 0);
  }
  const int64_t scales =
      weight.format == WeightFormat::kBf16 ? 0 : weight.scale_rows() * weight.groups();
  check_size(name, "weight_scale", weight.scale.size(), scales);
  check_scales(name, "weight_scale", weight.scale);
  if (is_fp4(weight.format)) check_fp4(name, weight);
  check_scales(name, "weight_global_scale", {weight.global_scale});
  if (weight.global_scale != 1 && weight.format != WeightFormat::kNvfp4) {
    fail(name, "a global scale is defined for nvfp4 only");
  }
  if (!weight.symmetric && (weight.format != WeightFormat::kInt4 || weight.block_rows != 1)) {
    fail(name, "zero points are defined for int4 in groups of one row only");
  }
  check_size(name, "weight_zero_point", weight.zero_point.size(), weight.symmetric ? 0 : scales);
  for (const uint8_t zero_point : weight.zero_point) {
    if (zero_point > 15) fail(name, "weight_zero_point exceeds 15");
  }
  if (has_input_scale(weight.activation)) check_scales(name, "input_scale", {weight.input_scale});
  if (!weight.pre_quant_scale.empty()) {
    check_size(name, "pre_quant_scale", weight.pre_quant_scale.size(), weight.in_features);
    check_scales(name, "pre_quant_scale", weight.pre_quant_scale);
  }
}

}  // namespace pare
