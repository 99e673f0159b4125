#include "model/linear.h"

#include <algorithm>
#include <cmath>

#include "kernels/codec.h"
#include "kernels/vector_math.h"
#include "pare/error.h"

namespace pare {
namespace {

constexpr float kInt8Max = 127.0F;

bool is_int8(ActivationFormat format) {
  return format == ActivationFormat::kInt8Static || format == ActivationFormat::kInt8Dynamic;
}

bool is_static(ActivationFormat format) {
  return format == ActivationFormat::kFp8Static || format == ActivationFormat::kInt8Static;
}

}  // namespace

Linear Linear::dense(const TensorView& weight, const std::string& name, std::vector<float> bias,
                     Precision precision) {
  Linear linear;
  linear.precision_ = precision;
  linear.bias_ = std::move(bias);
  const int64_t out = weight.shape[0];
  const int64_t in = weight.shape[1];
  if (precision != Precision::kF32) {
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
  const bool integer = weight.format == WeightFormat::kInt8 && is_int8(weight.activation);
  linear.format_ = {weight.activation, weight.input_scale, weight.pre_quant_scale, integer};
  const int64_t out = weight.out_features;
  const int64_t in = weight.in_features;
  const auto size = static_cast<size_t>(out * in);
  // INT8 and FP8 codes multiply as they are; their scale follows the product.
  const bool scale_after = integer || weight.format == WeightFormat::kFp8E4m3;
  if (scale_after && weight.group_size > 0) {
    throw Error(ErrorCode::kInputMalformed,
                "a linear " + shape_text({out, in}) + " has scales in groups of " +
                    std::to_string(weight.group_size) +
                    ", which INT8 and FP8 products do not take; expected one a tensor or one "
                    "an output channel");
  }
  if (scale_after) {
    linear.output_scale_ = weight.scale;
  } else if (weight.activation != ActivationFormat::kBf16) {
    linear.output_scale_ = {1.0F};
  }
  if (is_static(weight.activation)) {
    for (float& scale : linear.output_scale_) scale *= weight.input_scale;
  }
  if (integer) {
    std::vector<int8_t> codes(size);
    expand_to_int8(weight, 0, out, codes);
    if (precision != Precision::kF32) {
      linear.matrix_ = PackedMatrix::int8(codes, out, in);
    } else {
      linear.matrix_ = PackedMatrix::f32(std::vector<float>(codes.begin(), codes.end()), out, in);
    }
  } else if (precision != Precision::kF32 || scale_after) {
    std::vector<uint16_t> values(size);
    expand_to_bf16(weight, 0, out, values);
    if (precision != Precision::kF32) {
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
  const bool quantized = format_.activation != ActivationFormat::kBf16;
  const bool pairs = in_pairs();
  input.rows = rows;
  input.row_scale.assign(static_cast<size_t>(rows), 1.0F);
  if (wide) {
    input.f32.resize(static_cast<size_t>(rows * in));
  } else if (format_.integer) {
    input.int8.resize(static_cast<size_t>(padded_rows(rows) * in));
  } else {
    input.bf16.resize(static_cast<size_t>(padded_rows(rows) * in));
  }
  if (pairs) input.bf16_low.resize(input.bf16.size());
  if (!quantized && format_.pre_quant_scale.empty()) {
    const std::span<const float> all(x, static_cast<size_t>(rows * in));
    if (wide) {
      std::copy(all.begin(), all.end(), input.f32.begin());
    } else if (pairs) {
      split_bf16(all, {input.bf16.data(), all.size()}, {input.bf16_low.data(), all.size()});
    } else {
      f32_to_bf16(all, {input.bf16.data(), all.size()});
    }
    return;
  }
  input.bf16_row.resize(width);
  for (int64_t row = 0; row < rows; ++row) {
    std::span<const float> values(x + row * in, width);
    if (!format_.pre_quant_scale.empty()) {
      input.scaled_row.assign(values.begin(), values.end());
      multiply_in_place(input.scaled_row, format_.pre_quant_scale);
      values = input.scaled_row;
    }
    if (wide && !quantized) {
      std::copy(values.begin(), values.end(), input.f32.begin() + row * in);
      continue;
    }
    if (pairs) {
      split_bf16(values, {input.bf16.data() + row * in, width},
                 {input.bf16_low.data() + row * in, width});
      continue;
    }
    const bool in_place = !wide && !format_.integer;
    const std::span<uint16_t> row16(in_place ? input.bf16.data() + row * in : input.bf16_row.data(),
                                    width);
    // The engine's activations are bfloat16 before they are quantized.
    f32_to_bf16(values, row16);
    if (quantized) quantize_row(row, row16, input);
    if (wide) bf16_to_f32(row16, {input.f32.data() + row * in, width});
  }
}

void Linear::quantize_row(int64_t row, std::span<uint16_t> values, LinearInput& input) const {
  const float amax = absmax_bf16(values);
  if (!std::isfinite(amax)) {
    throw Error(ErrorCode::kNonFinite, "the input of a quantized layer holds NaN or infinity");
  }
  float inverse = 1.0F / format_.input_scale;
  if (is_static(format_.activation)) {
    // Halfway to the next code that there would be.
    const bool fp8 = format_.activation == ActivationFormat::kFp8Static;
    const float limit = format_.input_scale * (fp8 ? kE4m3Max * (1 + 1.0F / 28) : kInt8Max + 0.5F);
    input.clamps.values += static_cast<int64_t>(values.size());
    if (amax > limit) {
      input.clamps.clamped += std::count_if(values.begin(), values.end(), [&](uint16_t value) {
        return std::abs(pare::bf16_to_f32(value)) > limit;
      });
    }
  }
  if (format_.activation == ActivationFormat::kFp8Static) {
    input.fp8_row.resize(values.size());
    quantize_e4m3_bf16(values, inverse, input.fp8_row);
    e4m3_to_bf16(input.fp8_row, values);
    return;
  }
  if (format_.activation == ActivationFormat::kInt8Dynamic) {
    const float scale = symmetric_scale(amax, kInt8Max);
    input.row_scale[static_cast<size_t>(row)] = scale;
    inverse = 1.0F / scale;
  }
  if (format_.integer && precision_ != Precision::kF32) {
    quantize_int8_bf16(values, inverse, {input.int8.data() + row * in_features(), values.size()});
    return;
  }
  input.int8_row.resize(values.size());
  quantize_int8_bf16(values, inverse, input.int8_row);
  // Codes are exact in bfloat16.
  std::transform(input.int8_row.begin(), input.int8_row.end(), values.begin(),
                 [](int8_t code) { return pare::f32_to_bf16(static_cast<float>(code)); });
}

void Linear::multiply(LinearInput& input, float* y) const {
  const int64_t out = out_features();
  const auto width = static_cast<size_t>(out);
  if (precision_ == Precision::kF32) {
    const int64_t together = rows_apart_ ? 1 : input.rows;
    for (int64_t row = 0; row < input.rows; row += together) {
      matrix_.multiply_f32(input.f32.data() + row * in_features(), together, y + row * out);
    }
  } else if (format_.integer) {
    input.sums.resize(static_cast<size_t>(padded_rows(input.rows) * out));
    matrix_.multiply_int8(input.int8.data(), input.rows, input.sums.data(), input.scratch);
    for (int64_t row = 0; row < input.rows; ++row) {
      scale_to_f32({input.sums.data() + row * out, width}, output_scale_,
                   input.row_scale[static_cast<size_t>(row)], {y + row * out, width});
    }
  } else {
    matrix_.multiply_bf16(input.bf16.data(), input.rows, y, input.scratch);
    if (in_pairs()) {
      input.low_sums.resize(static_cast<size_t>(padded_rows(input.rows) * out));
      matrix_.multiply_bf16(input.bf16_low.data(), input.rows, input.low_sums.data(),
                            input.scratch);
      const auto size = static_cast<size_t>(input.rows * out);
      add_in_place({y, size}, {input.low_sums.data(), size});
    }
  }
  if (!output_scale_.empty() && !(format_.integer && precision_ != Precision::kF32)) {
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
