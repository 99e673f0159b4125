#include "engines/gguf_weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <span>

#include "engines/engine_export.h"
#include "formats/gguf_names.h"
#include "pare/error.h"

namespace pare {
namespace {

constexpr float kSmallestNormal = 0x1p-14F;  // of F16

uint32_t type_of(const CompressedWeight& weight) {
  switch (weight.format) {
    case WeightFormat::kInt4:
      return weight.symmetric ? kGgmlQ40 : kGgmlQ41;
    case WeightFormat::kInt8:
      return kGgmlQ80;
    case WeightFormat::kMxfp4:
      return kGgmlMxfp4;
    default:
      return kGgmlBf16;
  }
}

bool has_whole_blocks(const CompressedWeight& weight) {
  return weight.in_features % kGgmlBlock == 0 &&
         (weight.group_size <= 0 || weight.group_size % kGgmlBlock == 0);
}

// The group of a row that a block of 32 lies in.
int64_t group_of(const CompressedWeight& weight, int64_t block) {
  return weight.group_size > 0 ? block * kGgmlBlock / weight.group_size : 0;
}

struct BlockScale {
  uint16_t scale = 0;
  uint16_t minimum = 0;  ///< Q4_1
};

BlockScale scale_of(const CompressedWeight& weight, size_t index) {
  BlockScale found{f32_to_f16(weight.scale[index]), 0};
  if (!weight.symmetric) {
    // From the scale as it is stored, so that the code of zero stays as near to zero as it can.
    const auto zero = static_cast<float>(weight.zero_point[index]);
    found.minimum = f32_to_f16(-zero * f16_to_f32(found.scale));
  }
  return found;
}

void check_scales(const CompressedWeight& weight, const std::string& name, GgufWeightPlan& plan) {
  for (size_t i = 0; i < weight.scale.size(); ++i) {
    const BlockScale found = scale_of(weight, i);
    const float scale = f16_to_f32(found.scale);
    if (!std::isfinite(scale) || !std::isfinite(f16_to_f32(found.minimum))) {
      throw Error(ErrorCode::kInputMalformed,
                  "tensor \"" + name + "\" has a scale of " + std::to_string(weight.scale[i]) +
                      ", beyond the F16 of GGUF; export as \"dense\" instead");
    }
    plan.small_scales += scale < kSmallestNormal ? 1 : 0;
    const double exact = static_cast<double>(weight.scale[i]);
    plan.largest_change =
        std::max(plan.largest_change, std::abs(static_cast<double>(scale) - exact) / exact);
  }
}

// Calls visit(row, block of the row, its codes) for a weight of whole blocks.
template <typename Visit>
void for_blocks(const CompressedWeight& weight, Visit visit) {
  const std::vector<int8_t> codes = dense_codes(weight);
  const int64_t blocks = weight.in_features / kGgmlBlock;
  for (int64_t row = 0; row < weight.out_features; ++row) {
    for (int64_t block = 0; block < blocks; ++block) {
      const auto first = static_cast<size_t>(row * weight.in_features + block * kGgmlBlock);
      visit(row, block, std::span<const int8_t, 32>(codes.data() + first, 32));
    }
  }
}

void pack_block(const CompressedWeight& weight, uint32_t type, size_t index,
                std::span<const int8_t, 32> codes, std::byte* out) {
  const BlockScale found = scale_of(weight, index);
  std::array<int8_t, 32> raised{};  // −8 … 7 as 0 … 15
  switch (type) {
    case kGgmlQ40:
      std::transform(codes.begin(), codes.end(), raised.begin(),
                     [](int8_t code) { return static_cast<int8_t>(code + 8); });
      pack_q4_0(raised, found.scale, std::span<std::byte, kQ40Bytes>(out, kQ40Bytes));
      break;
    case kGgmlQ41:
      pack_q4_1(codes, found.scale, found.minimum, std::span<std::byte, kQ41Bytes>(out, kQ41Bytes));
      break;
    case kGgmlQ80:
      pack_q8_0(codes, found.scale, std::span<std::byte, kQ80Bytes>(out, kQ80Bytes));
      break;
    default:
      pack_mxfp4(codes, f32_to_e8m0(weight.scale[index]),
                 std::span<std::byte, kMxfp4Bytes>(out, kMxfp4Bytes));
  }
}

// Where a row goes.
int64_t target_row(int64_t row, int64_t head_dim) {
  return head_dim > 0 ? interleaved_row(row, head_dim) : row;
}

}  // namespace

GgufWeightPlan plan_gguf_weight(const CompressedWeight& weight, const std::string& name) {
  GgufWeightPlan plan;
  uint32_t type = type_of(weight);
  plan.rounds_inputs = weight.activation != ActivationFormat::kBf16;
  plan.scaled = type != kGgmlBf16 && !weight.pre_quant_scale.empty();
  plan.uneven = type != kGgmlBf16 && !plan.scaled && !has_whole_blocks(weight);
  if (plan.scaled || plan.uneven) type = kGgmlBf16;
  plan.type = find_ggml_type(type);
  if (type != kGgmlBf16 && type != kGgmlMxfp4) check_scales(weight, name, plan);
  return plan;
}

std::vector<float> gguf_values(const CompressedWeight& weight, const GgmlType& type) {
  std::vector<float> values(static_cast<size_t>(weight.out_features * weight.in_features));
  if (type.id == kGgmlBf16) {
    const std::vector<uint16_t> rounded = dense_values(weight);
    std::transform(rounded.begin(), rounded.end(), values.begin(), bf16_to_f32);
    return values;
  }
  for_blocks(weight, [&](int64_t row, int64_t block, std::span<const int8_t, 32> codes) {
    const size_t index = weight.scale_index(row, group_of(weight, block));
    const BlockScale found = scale_of(weight, index);
    const float scale = type.id == kGgmlMxfp4 ? weight.scale[index] : f16_to_f32(found.scale);
    const float minimum = f16_to_f32(found.minimum);
    float* out = values.data() + row * weight.in_features + block * kGgmlBlock;
    for (const int8_t code : codes) {
      const float number = type.id == kGgmlMxfp4 ? e2m1_to_f32(static_cast<uint8_t>(code))
                                                 : static_cast<float>(code);
      *out++ = number * scale + minimum;
    }
  });
  return values;
}

std::vector<std::byte> gguf_bytes(const CompressedWeight& weight, const GgmlType& type,
                                  int64_t head_dim) {
  const auto row_bytes = static_cast<size_t>(weight.in_features / type.block * type.bytes);
  std::vector<std::byte> bytes(static_cast<size_t>(weight.out_features) * row_bytes);
  if (type.id == kGgmlBf16) {
    const std::vector<uint16_t> values = dense_values(weight);
    for (int64_t row = 0; row < weight.out_features; ++row) {
      std::memcpy(bytes.data() + static_cast<size_t>(target_row(row, head_dim)) * row_bytes,
                  values.data() + row * weight.in_features, row_bytes);
    }
    return bytes;
  }
  for_blocks(weight, [&](int64_t row, int64_t block, std::span<const int8_t, 32> codes) {
    std::byte* out = bytes.data() + static_cast<size_t>(target_row(row, head_dim)) * row_bytes +
                     block * type.bytes;
    pack_block(weight, type.id, weight.scale_index(row, group_of(weight, block)), codes, out);
  });
  return bytes;
}

}  // namespace pare
