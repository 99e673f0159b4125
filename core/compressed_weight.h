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
};

/// How the input of the layer is rounded before the product. x below is bfloat16 already, rounded
/// from input × pre_quant_scale, and 1 / scale is a float that multiplies.
enum class ActivationFormat : uint8_t {
  kBf16,         ///< Not quantized.
  kFp8Static,    ///< e4m3(x × (1 / input_scale)), one scale from calibration.
  kInt8Static,   ///< round(x × (1 / input_scale)) to −127 … 127, one scale from calibration.
  kInt8Dynamic,  ///< The same with absmax/127 of each token, computed when it runs.
};

/// Scale layouts along in_features, for CompressedWeight::group_size.
inline constexpr int64_t kPerTensor = -1;
inline constexpr int64_t kPerChannel = 0;

struct CompressedWeight {
  WeightFormat format = WeightFormat::kBf16;
  ActivationFormat activation = ActivationFormat::kBf16;
  int64_t out_features = 0;
  int64_t in_features = 0;

  /// kPerTensor: one scale; kPerChannel: one an output channel; g > 0: one for each g consecutive
  /// input channels of each output channel, the last group may be shorter.
  int64_t group_size = kPerTensor;
  bool symmetric = true;

  /// 2:4: of each four consecutive input channels two are kept. in_features is a multiple of 4.
  bool sparse = false;

  /// Stored codes, row-major, each row starting at a byte: [out, in] codes, or [out, in / 2] when
  /// sparse. kBf16: two bytes little-endian; kInt4: two a byte, the lower index in the low nibble;
  /// an odd row ends with a zero nibble.
  std::vector<uint8_t> codes;

  /// When sparse: one nibble for each four input channels, idx0 | idx1 << 2 with idx0 < idx1 the
  /// kept positions; two nibbles a byte, the lower group in the low nibble; each row starts at a
  /// byte: [out, ceil(in / 8)].
  std::vector<uint8_t> mask_index;

  std::vector<float> scale;            ///< [1], [out] or [out, groups]; empty for kBf16.
  std::vector<uint8_t> zero_point;     ///< [out] or [out, groups], 0 … 15; empty when symmetric.
  float input_scale = 0;               ///< For the static activation formats, else 0.
  std::vector<float> pre_quant_scale;  ///< [in], multiplies the input; empty means ones.

  /// Number of scale groups along one row: 1 for kPerTensor and kPerChannel.
  int64_t groups() const noexcept {
    return group_size > 0 ? (in_features + group_size - 1) / group_size : 1;
  }
  /// Codes stored for one row.
  int64_t stored_columns() const noexcept { return sparse ? in_features / 2 : in_features; }
  /// Bytes of one row of `codes`.
  int64_t row_bytes() const noexcept {
    switch (format) {
      case WeightFormat::kBf16:
        return 2 * stored_columns();
      case WeightFormat::kInt4:
        return (stored_columns() + 1) / 2;
      default:
        return stored_columns();
    }
  }
  /// Bytes of one row of `mask_index`, 0 when dense.
  int64_t mask_row_bytes() const noexcept { return sparse ? (in_features / 4 + 1) / 2 : 0; }
};

/// Throws Error(kInputMalformed), naming `name`, when sizes disagree with each other, a scale is
/// not finite and positive, a zero point exceeds 15, or a mask nibble is not one of the six.
void validate(const CompressedWeight& weight, std::string_view name);

}  // namespace pare
