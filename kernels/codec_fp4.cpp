// Inputs rounded to FP4 in blocks, as tensor cores take them.
#include <algorithm>
#include <limits>

#include "core/fp4_rounding.h"
#include "kernels/codec.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/codec_fp4.cpp"
#include "hwy/foreach_target.h"
// After foreach_target: it is read again for each instruction set.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace pare {
namespace HWY_NAMESPACE {
namespace {

// Plain loops: the compiler vectorises them for each instruction set. values → e2m1(value ×
// inverse) × scale.
void round_block_kernel(uint16_t* HWY_RESTRICT values, size_t count, float inverse, float scale) {
  for (size_t i = 0; i < count; ++i) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(values[i]) << 16);
    // Exact in bfloat16: six significant bits at most.
    const float rounded = round_to_e2m1(value * inverse) * scale;
    values[i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(rounded) >> 16);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace pare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pare {
namespace {

HWY_EXPORT(round_block_kernel);

// scale_of(absmax) of a block that is not zero: the block's scale, and what multiplies the values
// before they are rounded.
struct BlockScale {
  float scale;
  float inverse;
};
template <typename ScaleOf>
void round_blocks(std::span<uint16_t> values, int64_t group, const ScaleOf& scale_of) {
  const auto step = static_cast<size_t>(group);
  for (size_t first = 0; first < values.size(); first += step) {
    const auto block = values.subspan(first, std::min(step, values.size() - first));
    const float absmax = absmax_bf16(block);
    if (!(absmax >= std::numeric_limits<float>::min())) {
      std::fill(block.begin(), block.end(), uint16_t{0});
      continue;
    }
    const BlockScale found = scale_of(absmax);
    HWY_DYNAMIC_DISPATCH(round_block_kernel)
    (block.data(), block.size(), found.inverse, found.scale);
  }
}

}  // namespace

void round_to_nvfp4_bf16(std::span<uint16_t> values, float input_scale) {
  const float to_scale = 1.0F / (kE2m1Max * input_scale);
  round_blocks(values, kNvfp4Group, [&](float absmax) -> BlockScale {
    const float scale = nvfp4_scale(absmax * to_scale);
    return {scale, 1.0F / (scale * input_scale)};
  });
}

void round_to_mxfp4_bf16(std::span<uint16_t> values) {
  round_blocks(values, kMxfp4Group, [](float absmax) -> BlockScale {
    const float scale = mxfp4_floor_scale(absmax);
    return {scale, 1.0F / scale};
  });
}

}  // namespace pare
#endif  // HWY_ONCE
