// A linear layer ready to run: weight packed for the matrix kernels, input rounded as deployed.
//
// BF16 and INT4 weights multiply as bfloat16, FP8 as E4M3 values and FP4 as values with the scales
// of their blocks (both exact in bfloat16) with FP32 sums, INT8 with 32-bit integer sums. FP8 in
// blocks makes a sum for each 128 channels, which the scales of weight and input multiply. With
// Precision::kF32 the same stored values multiply in FP32: it is the reference, and rounds only
// what is stored or quantized. Precision::kBf16Pairs gives a bfloat16 product a second one with
// what rounding its input left.
//
// Codes of a quantized input are exact in bfloat16 too, so any weight goes with any input; only
// INT8 with INT8 makes integer sums.
//
// A Linear is immutable and safe to use from several threads, each with its LinearInput.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/compressed_weight.h"
#include "core/tensor_view.h"
#include "kernels/attention.h"
#include "kernels/matmul.h"

namespace pare {

/// How a layer wants its input: layers that share one often agree, and then it is rounded once.
struct InputFormat {
  ActivationFormat activation = ActivationFormat::kBf16;
  float input_scale = 0;
  std::vector<float> pre_quant_scale;
  bool integer = false;  ///< INT8 codes for integer products; otherwise values in floating point.
  bool operator==(const InputFormat&) const = default;
};

/// How many input values fell outside the range of a static scale and were clamped.
struct ClampCount {
  int64_t clamped = 0;
  int64_t values = 0;  ///< Of all that met a static scale.

  void add(const ClampCount& other) {
    clamped += other.clamped;
    values += other.values;
  }
};

/// A block of input rows in the form that a layer multiplies, with one thread's working memory.
struct LinearInput {
  int64_t rows = 0;
  std::vector<uint16_t> bf16;      ///< [padded rows, in]; kFp8Block: [spans][padded rows, span]
  std::vector<uint16_t> bf16_low;  ///< [padded rows, in], what rounding left, for pairs
  std::vector<int8_t> int8;        ///< [padded rows, in], for integer products
  std::vector<float> f32;          ///< [rows, in]
  std::vector<float> row_scale;    ///< [rows], of dynamic inputs; kFp8Block: [spans, rows]
  std::vector<int32_t> sums;       ///< [padded rows, out]
  std::vector<float> low_sums;     ///< [padded rows, out], of bf16_low, or of a span
  std::vector<uint16_t> bf16_row;
  std::vector<uint8_t> fp8_row;
  std::vector<int8_t> int8_row;
  std::vector<float> scaled_row;
  MatmulScratch scratch;
  ClampCount clamps;  ///< Running total; an input that several layers share counts once.
};

class Linear {
 public:
  Linear() = default;

  /// A dense layer from a stored tensor [out, in].
  static Linear dense(const TensorView& weight, const std::string& name, std::vector<float> bias,
                      Precision precision);

  /// Throws Error(kInputMalformed) for scales in groups where they cannot follow the product: INT8
  /// weights with INT8 inputs, and FP8 weights unless both weight and input are in blocks of 128.
  static Linear compressed(const CompressedWeight& weight, std::vector<float> bias,
                           Precision precision);

  const InputFormat& input_format() const noexcept { return format_; }
  Precision precision() const noexcept { return precision_; }

  /// Rounds x [rows, in] as this layer wants it. Layers with an equal input_format() and the same
  /// precision may then use `input` too. Throws Error(kNonFinite) where NaN or infinity would be
  /// quantized: integers cannot hold it, so it would go unseen.
  void prepare(const float* x, int64_t rows, LinearInput& input) const;

  /// y [padded_rows(rows), out] from a prepared input; rows beyond input.rows are meaningless.
  void multiply(LinearInput& input, float* y) const;

  /// From now on each row is multiplied by itself: a fast product may sum in another order when
  /// there are more rows, and where little decides much, as in routers, not even the last digit
  /// may depend on that. For FP32 only.
  void multiply_rows_apart() noexcept { rows_apart_ = true; }

  int64_t out_features() const noexcept { return out_features_; }
  int64_t in_features() const noexcept { return in_features_; }

 private:
  // Codes are exact in bfloat16 and need no second number.
  bool in_pairs() const noexcept {
    return precision_ == Precision::kBf16Pairs && format_.activation == ActivationFormat::kBf16;
  }

  // Replaces values by the codes of their quantization; INT8 for integer products goes to `input`.
  void quantize_row(int64_t row, std::span<uint16_t> values, LinearInput& input) const;
  void count_clamps(std::span<const uint16_t> values, float amax, LinearInput& input) const;
  void quantize_spans(int64_t row, std::span<uint16_t> values, LinearInput& input) const;
  Linear& pack_spans(const CompressedWeight& weight);
  void multiply_spans(LinearInput& input, float* y) const;
  bool in_spans() const noexcept { return !spans_.empty(); }

  Precision precision_ = Precision::kBf16;
  int64_t out_features_ = 0;
  int64_t in_features_ = 0;
  InputFormat format_;
  std::vector<float> output_scale_;  // [1] or [out], times the row scale of the input; or empty
  std::vector<float> bias_;
  PackedMatrix matrix_;
  std::vector<PackedMatrix> spans_;  // instead of matrix_: [out, 128] each
  std::vector<float> span_scale_;    // [spans, out], of the weight
  bool rows_apart_ = false;
};

}  // namespace pare
