#include "model/linear.h"

#include <algorithm>
#include <cmath>

#include "kernels/codec.h"
#include "kernels/vector_math.h"

namespace pare {
namespace {

constexpr float kInt8Max = 127.0F;

bool is_int8(ActivationFormat format) {
  return format == ActivationFormat::kInt8Static || format == ActivationFormat::kInt8Dynamic;
}

}  // namespace

Linear Linear::dense(const TensorView& weight, const std::string& name, std::vector<float> bias,
                     Precision precision) {
  Linear linear;
  linear.precision_ = precision;
  linear.bias_ = std::move(bias);
  const int64_t out = weight.shape[0];
  const int64_t in = weight.shape[1];
  if (precision == Precision::kBf16) {
    linear.matrix_ = PackedMatrix::bf16(to_bf16(weight, name), out, in);
  } else {
    linear.matrix_ = PackedMatrix::f32(to_f32(weight, name), out, in);
  }
  return linear;
}

Linear Linear::compressed(const CompressedWeight& weight, std::vector<float> bias,
                          Precision precision) {
  Linear linear;
  linear.precision_ = precision;
  linear.bias_ = std::move(bias);
  linear.format_ = {weight.activation, weight.input_scale, weight.pre_quant_scale};
  linear.integer_ = weight.format == WeightFormat::kInt8 && is_int8(weight.activation);
  const int64_t out = weight.out_features;
  const int64_t in = weight.in_features;
  const auto size = static_cast<size_t>(out * in);
  // INT8 and FP8 codes multiply as they are; their scale follows the product.
  const bool scale_after = linear.integer_ || weight.format == WeightFormat::kFp8E4m3;
  if (scale_after) {
    linear.output_scale_ = weight.scale;
    if (weight.activation == ActivationFormat::kFp8Static ||
        weight.activation == ActivationFormat::kInt8Static) {
      for (float& scale : linear.output_scale_) scale *= weight.input_scale;
    }
  }
  if (linear.integer_) {
    std::vector<int8_t> codes(size);
    expand_to_int8(weight, 0, out, codes);
    if (precision == Precision::kBf16) {
      linear.matrix_ = PackedMatrix::int8(codes, out, in);
    } else {
      linear.matrix_ = PackedMatrix::f32(std::vector<float>(codes.begin(), codes.end()), out, in);
    }
  } else if (precision == Precision::kBf16 || scale_after) {
    std::vector<uint16_t> values(size);
    expand_to_bf16(weight, 0, out, values);
    if (precision == Precision::kBf16) {
      linear.matrix_ = PackedMatrix::bf16(values, out, in);
    } else {
      std::vector<float> wide(size);
      bf16_to_f32(values, wide);
      linear.matrix_ = PackedMatrix::f32(wide, out, in);
    }
  } else {
    std::vector<float> values(size);
    dequantize_rows(weight, 0, out, values);
    linear.matrix_ = PackedMatrix::f32(values, out, in);
  }
  return linear;
}

void Linear::prepare(const float* x, int64_t rows, LinearInput& input) const {
  const int64_t in = in_features();
  const auto width = static_cast<size_t>(in);
  const bool wide = precision_ == Precision::kF32;
  input.rows = rows;
  input.row_scale.assign(static_cast<size_t>(rows), 1.0F);
  if (integer_) input.int8.resize(static_cast<size_t>(padded_rows(rows) * in));
  if (wide) {
    input.f32.resize(static_cast<size_t>(rows * in));
  } else if (!integer_) {
    input.bf16.resize(static_cast<size_t>(padded_rows(rows) * in));
  }
  if (format_.activation == ActivationFormat::kBf16 && format_.pre_quant_scale.empty()) {
    const std::span<const float> all(x, static_cast<size_t>(rows * in));
    if (wide) {
      std::copy(all.begin(), all.end(), input.f32.begin());
    } else {
      f32_to_bf16(all, {input.bf16.data(), all.size()});
    }
    return;
  }
  std::vector<uint16_t>& row16 = input.bf16;
  if (integer_ || wide) row16.resize(std::max(row16.size(), width));
  for (int64_t row = 0; row < rows; ++row) {
    std::span<const float> values(x + row * in, width);
    // The engine's activations are bfloat16 before they are quantized.
    const std::span<uint16_t> rounded(row16.data() + (integer_ || wide ? 0 : row * in), width);
    if (!format_.pre_quant_scale.empty()) {
      input.scaled_row.assign(values.begin(), values.end());
      multiply_in_place(input.scaled_row, format_.pre_quant_scale);
      values = input.scaled_row;
    }
    f32_to_bf16(values, rounded);
    if (format_.activation == ActivationFormat::kFp8Static) {
      input.fp8_row.resize(width);
      quantize_e4m3_bf16(rounded, 1.0F / format_.input_scale, input.fp8_row);
      e4m3_to_bf16(input.fp8_row, rounded);
    } else if (integer_) {
      float inverse = 1.0F / format_.input_scale;
      if (format_.activation == ActivationFormat::kInt8Dynamic) {
        const float scale = symmetric_scale(absmax_bf16(rounded), kInt8Max);
        input.row_scale[static_cast<size_t>(row)] = scale;
        inverse = 1.0F / scale;
      }
      const std::span<int8_t> codes(input.int8.data() + row * in, width);
      quantize_int8_bf16(rounded, inverse, codes);
      if (wide) std::copy(codes.begin(), codes.end(), input.f32.begin() + row * in);
      continue;
    }
    if (wide) bf16_to_f32(rounded, {input.f32.data() + row * in, width});
  }
}

void Linear::multiply(LinearInput& input, float* y) const {
  const int64_t out = out_features();
  const auto width = static_cast<size_t>(out);
  if (precision_ == Precision::kF32) {
    matrix_.multiply_f32(input.f32.data(), input.rows, y);
  } else if (integer_) {
    input.sums.resize(static_cast<size_t>(padded_rows(input.rows) * out));
    matrix_.multiply_int8(input.int8.data(), input.rows, input.sums.data(), input.scratch);
    for (int64_t row = 0; row < input.rows; ++row) {
      scale_to_f32({input.sums.data() + row * out, width}, output_scale_,
                   input.row_scale[static_cast<size_t>(row)], {y + row * out, width});
    }
  } else {
    matrix_.multiply_bf16(input.bf16.data(), input.rows, y, input.scratch);
  }
  if (!output_scale_.empty() && !(integer_ && precision_ == Precision::kBf16)) {
    for (int64_t row = 0; row < input.rows; ++row) {
      const std::span<float> values(y + row * out, width);
      scale_in_place(values, input.row_scale[static_cast<size_t>(row)]);
      if (output_scale_.size() == 1) {
        scale_in_place(values, output_scale_[0]);
      } else {
        multiply_in_place(values, output_scale_);
      }
    }
  }
  if (!bias_.empty()) {
    add_bias_rows({y, static_cast<size_t>(input.rows * out)}, input.rows, bias_);
  }
}

}  // namespace pare
