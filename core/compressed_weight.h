// One linear layer's weight after compression: codes, scales, mask, and how its input is quantized.
//
// This is the common currency of the house: quant/ and sparsity/ decide its numbers, kernels/
// packs, unpacks and multiplies it, formats/ stores it. It holds exactly what a checkpoint holds.
//
//   weight[o, i] = code[o, i] × scale          (symmetric)
//   weight[o, i] = (code[o, i] − zero_point) × scale
//   y = (x · pre_quant_scale) weightᵀ + bias
//
// A scale always multiplies.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace pare {

enum class WeightFormat : uint8_t {
  kBf16,     ///< Not quantized; present here only with a 2:4 mask or an input scale.
  kFp8E4m3,  ///< One byte, OCP E4M3FN.
  kInt8,     ///< One byte, two's complement, −127 … 127.
  kInt4,     ///< Half a byte; two's complement −8 … 7, or 0 … 15 with zero points.
  kNvfp4,    ///< Half a byte, OCP E2M1; E4M3 scales for 16 weights each, times a global one.
  kMxfp4,    ///< Half a byte, OCP E2M1; E8M0 scales for 32 weights each (OCP MX 1.0).
};

/// How the input of the layer is rounded before the product. x below is bfloat16 already, rounded
/// from input × pre_quant_scale, and 1 / scale is a float that multiplies.
enum class ActivationFormat : uint8_t {
  kBf16,         ///< Not quantized.
  kFp8Static,    ///< e4m3(x × (1 / input_scale)), one scale from calibration.
  kInt8Static,   ///< round(x × (1 / input_scale)) to −127 … 127, one scale from calibration.
  kInt8Dynamic,  ///< The same with absmax/127 of each token, computed when it runs.
  kFp8Dynamic,   ///< E4M3 with absmax/448 of each token.
  kFp8Block,     ///< E4M3 with absmax/448 of each 128 channels of a token.
  kNvfp4,        ///< E2M1; each 16 channels of a token have a scale e4m3(absmax / 6 / input_scale).
  kMxfp4,        ///< E2M1; each 32 channels have the scale 2^(floor(log2 absmax) − 2).
};

/// Scale layouts along in_features, for CompressedWeight::group_size.
inline constexpr int64_t kPerTensor = -1;
inline constexpr int64_t kPerChannel = 0;

/// Channels that share a scale, where the format says so.
inline constexpr int64_t kFp8BlockSize = 128;
inline constexpr int64_t kNvfp4Group = 16;
inline constexpr int64_t kMxfp4Group = 32;

/// Whether CompressedWeight::input_scale belongs to the format: the scale itself, or for kNvfp4 the
/// factor that the scales of all blocks have in common.
inline bool has_input_scale(ActivationFormat activation) noexcept {
  return activation == ActivationFormat::kFp8Static ||
         activation == ActivationFormat::kInt8Static || activation == ActivationFormat::kNvfp4;
}

/// Codes of E2M1: two a byte.
inline bool is_fp4(WeightFormat format) noexcept {
  return format == WeightFormat::kNvfp4 || format == WeightFormat::kMxfp4;
}
inline bool packs_nibbles(WeightFormat format) noexcept {
  return format == WeightFormat::kInt4 || is_fp4(format);
}

struct CompressedWeight {
  WeightFormat format = WeightFormat::kBf16;
  ActivationFormat activation = ActivationFormat::kBf16;
  int64_t out_features = 0;
  int64_t in_features = 0;

  /// kPerTensor: one scale; kPerChannel: one an output channel; g > 0: one for each g consecutive
  /// input channels of each output channel, the last group may be shorter.
  int64_t group_size = kPerTensor;
  /// With a group size: this many consecutive output channels share each scale; the last ones may
  /// be fewer. Zero points need 1.
  int64_t block_rows = 1;
  bool symmetric = true;

  /// 2:4: of each four consecutive input channels two are kept. in_features is a multiple of 4.
  bool sparse = false;

  /// Stored codes, row-major, each row starting at a byte: [out, in] codes, or [out, in / 2] when
  /// sparse. kBf16: two bytes little-endian; kInt4 and FP4: two a byte, the lower index in the low
  /// nibble; an odd row ends with a zero nibble.
  std::vector<uint8_t> codes;

  /// When sparse: one nibble for each four input channels, idx0 | idx1 << 2 with idx0 < idx1 the
  /// kept positions; two nibbles a byte, the lower group in the low nibble; each row starts at a
  /// byte: [out, ceil(in / 8)].
  std::vector<uint8_t> mask_index;

  /// [1], [out] or [blocks of rows, groups]; empty for kBf16. For kNvfp4 values of E4M3, for kMxfp4
  /// powers of two.
  std::vector<float> scale;
  float global_scale = 1;              ///< kNvfp4: multiplies all scales; else 1.
  std::vector<uint8_t> zero_point;     ///< [out] or [out, groups], 0 … 15; empty when symmetric.
  float input_scale = 0;               ///< See has_input_scale(); else 0.
  std::vector<float> pre_quant_scale;  ///< [in], multiplies the input; empty means ones.

  /// Number of scale groups along one row: 1 for kPerTensor and kPerChannel.
  int64_t groups() const noexcept {
    return group_size > 0 ? (in_features + group_size - 1) / group_size : 1;
  }
  /// Rows of scales.
  int64_t scale_rows() const noexcept {
    return group_size == kPerTensor ? 1 : (out_features + block_rows - 1) / block_rows;
  }
  /// Which scale the group of a row has.
  size_t scale_index(int64_t row, int64_t group) const noexcept {
    if (group_size == kPerTensor) return 0;
    return static_cast<size_t>(row / block_rows * groups() + group);
  }
  /// Codes stored for one row.
  int64_t stored_columns() const noexcept { return sparse ? in_features / 2 : in_features; }
  /// Bytes of one row of `codes`.
  int64_t row_bytes() const noexcept {
    switch (format) {
      case WeightFormat::kBf16:
        return 2 * stored_columns();
      case WeightFormat::kInt4:
      case WeightFormat::kNvfp4:
      case WeightFormat::kMxfp4:
        return (stored_columns() + 1) / 2;
      default:
        return stored_columns();
    }
  }
  /// Bytes of one row of `mask_index`, 0 when dense.
  int64_t mask_row_bytes() const noexcept { return sparse ? (in_features / 4 + 1) / 2 : 0; }
};

/// Throws Error(kInputMalformed), naming `name`, when sizes disagree with each other, a scale is
/// not finite and positive or not one that its format stores, a zero point exceeds 15, or a mask
/// nibble is not one of the six.
void validate(const CompressedWeight& weight, std::string_view name);

}  // namespace pare
