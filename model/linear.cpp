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

bool is_fp8(ActivationFormat format) {
  return format == ActivationFormat::kFp8Static || format == ActivationFormat::kFp8Dynamic ||
         format == ActivationFormat::kFp8Block;
}

// One scale from calibration multiplies all codes: values beyond its range are clamped.
bool is_static(ActivationFormat format) {
  return format == ActivationFormat::kFp8Static || format == ActivationFormat::kInt8Static;
}

// Columns [begin, begin + count) of all rows.
std::vector<uint16_t> columns_of(std::span<const uint16_t> values, int64_t in, int64_t begin,
                                 int64_t count) {
  std::vector<uint16_t> result;
  result.reserve(values.size() / static_cast<size_t>(in) * static_cast<size_t>(count));
  for (auto row = values.begin(); row != values.end(); row += in) {
    result.insert(result.end(), row + begin, row + begin + count);
  }
  return result;
}

}  // namespace

Linear Linear::dense(const TensorView& weight, const std::string& name, std::vector<float> bias,
                     Precision precision) {
  Linear linear;
  linear.precision_ = precision;
  linear.bias_ = std::move(bias);
  const int64_t out = weight.shape[0];
  const int64_t in = weight.shape[1];
  linear.out_features_ = out;
  linear.in_features_ = in;
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
  linear.out_features_ = out;
  linear.in_features_ = in;
  const bool fp8 = weight.format == WeightFormat::kFp8E4m3;
  const bool spans =
      fp8 && weight.activation == ActivationFormat::kFp8Block && weight.group_size == kFp8BlockSize;
  // INT8 and FP8 codes multiply as they are; their scale follows the product.
  const bool scale_after = integer || fp8;
  if (scale_after && weight.group_size > 0 && !spans) {
    throw Error(ErrorCode::kInputMalformed,
                "a linear " + shape_text({out, in}) + " has scales in groups of " +
                    std::to_string(weight.group_size) +
                    ", which INT8 and FP8 products do not take; expected one a tensor or one "
                    "an output channel, or FP8 blocks of 128 for both weight and input");
  }
  if (spans) return std::move(linear.pack_spans(weight));
  if (weight.activation == ActivationFormat::kFp8Block) {
    throw Error(ErrorCode::kInputMalformed, "a linear " + shape_text({out, in}) +
                                                " has its input in FP8 blocks, but not its weight");
  }
  if (scale_after) {
    linear.output_scale_ = weight.scale;
  } else if (weight.format == WeightFormat::kNvfp4 && precision != Precision::kF32) {
    linear.output_scale_ = {weight.global_scale};
  } else if (weight.activation != ActivationFormat::kBf16) {
    linear.output_scale_ = {1.0F};
  }
  if (has_input_scale(weight.activation)) {
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

Linear& Linear::pack_spans(const CompressedWeight& weight) {
  const int64_t out = out_features_;
  const int64_t in = in_features_;
  if (precision_ == Precision::kF32) {
    std::vector<float> values(static_cast<size_t>(out * in));
    dequantize_rows(weight, 0, out, values);
    matrix_ = PackedMatrix::f32(values, out, in);
    return *this;
  }
  std::vector<uint16_t> values(static_cast<size_t>(out * in));
  expand_to_bf16(weight, 0, out, values);
  for (int64_t span = 0; span < weight.groups(); ++span) {
    const int64_t begin = span * kFp8BlockSize;
    const int64_t count = std::min(kFp8BlockSize, in - begin);
    spans_.push_back(PackedMatrix::bf16(columns_of(values, in, begin, count), out, count));
    for (int64_t row = 0; row < out; ++row) {
      span_scale_.push_back(weight.scale[weight.scale_index(row, span)]);
    }
  }
  return *this;
}

void Linear::prepare(const float* x, int64_t rows, LinearInput& input) const {
  const int64_t in = in_features();
  const auto width = static_cast<size_t>(in);
  const bool wide = precision_ == Precision::kF32;
  const bool quantized = format_.activation != ActivationFormat::kBf16;
  const bool pairs = in_pairs();
  input.rows = rows;
  const auto scales = static_cast<size_t>(rows) * std::max<size_t>(1, spans_.size());
  input.row_scale.assign(scales, 1.0F);
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
    const bool in_place = !wide && !format_.integer && !in_spans();
    const std::span<uint16_t> row16(in_place ? input.bf16.data() + row * in : input.bf16_row.data(),
                                    width);
    // The engine's activations are bfloat16 before they are quantized.
    f32_to_bf16(values, row16);
    if (quantized) quantize_row(row, row16, input);
    if (wide && format_.activation != ActivationFormat::kFp8Block)
      bf16_to_f32(row16, {input.f32.data() + row * in, width});
  }
}

void Linear::quantize_row(int64_t row, std::span<uint16_t> values, LinearInput& input) const {
  const float amax = absmax_bf16(values);
  if (!std::isfinite(amax)) {
    throw Error(ErrorCode::kNonFinite, "the input of a quantized layer holds NaN or infinity");
  }
  if (is_static(format_.activation)) count_clamps(values, amax, input);
  if (format_.activation == ActivationFormat::kNvfp4) {
    round_to_nvfp4_bf16(values, format_.input_scale);
    return;
  }
  if (format_.activation == ActivationFormat::kMxfp4) {
    round_to_mxfp4_bf16(values);
    return;
  }
  if (format_.activation == ActivationFormat::kFp8Block) return quantize_spans(row, values, input);
  float inverse = 1.0F / format_.input_scale;
  if (is_fp8(format_.activation)) {
    if (format_.activation == ActivationFormat::kFp8Dynamic) {
      const float scale = symmetric_scale(amax, kE4m3Max);
      input.row_scale[static_cast<size_t>(row)] = scale;
      inverse = 1.0F / scale;
    }
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

void Linear::count_clamps(std::span<const uint16_t> values, float amax, LinearInput& input) const {
  // Halfway to the next code that there would be.
  const bool fp8 = format_.activation == ActivationFormat::kFp8Static;
  const float limit = format_.input_scale * (fp8 ? kE4m3Max * (1 + 1.0F / 28) : kInt8Max + 0.5F);
  input.clamps.values += static_cast<int64_t>(values.size());
  if (!(amax > limit)) return;
  input.clamps.clamped += std::count_if(values.begin(), values.end(), [&](uint16_t value) {
    return std::abs(pare::bf16_to_f32(value)) > limit;
  });
}

// In FP32 the values themselves take the scale, so that one product does.
void Linear::quantize_spans(int64_t row, std::span<uint16_t> values, LinearInput& input) const {
  const auto step = static_cast<size_t>(kFp8BlockSize);
  const auto padded = static_cast<size_t>(padded_rows(input.rows));
  input.fp8_row.resize(values.size());
  for (size_t begin = 0; begin < values.size(); begin += step) {
    const auto span = values.subspan(begin, std::min(step, values.size() - begin));
    const std::span<uint8_t> codes(input.fp8_row.data() + begin, span.size());
    const float scale = symmetric_scale(absmax_bf16(span), kE4m3Max);
    quantize_e4m3_bf16(span, 1.0F / scale, codes);
    e4m3_to_bf16(codes, span);
    if (precision_ == Precision::kF32) {
      float* out = input.f32.data() + row * in_features() + static_cast<int64_t>(begin);
      bf16_to_f32(span, {out, span.size()});
      scale_in_place({out, span.size()}, scale);
      continue;
    }
    std::copy(span.begin(), span.end(),
              input.bf16.begin() + static_cast<int64_t>(begin * padded) +
                  row * static_cast<int64_t>(span.size()));
    input.row_scale[begin / step * static_cast<size_t>(input.rows) + static_cast<size_t>(row)] =
        scale;
  }
}

void Linear::multiply_spans(LinearInput& input, float* y) const {
  const int64_t out = out_features();
  const int64_t padded = padded_rows(input.rows);
  const auto width = static_cast<size_t>(out);
  input.low_sums.resize(static_cast<size_t>(padded * out));
  for (size_t span = 0; span < spans_.size(); ++span) {
    const int64_t begin = static_cast<int64_t>(span) * kFp8BlockSize;
    const std::span<const float> scale(span_scale_.data() + span * width, width);
    float* sums = span == 0 ? y : input.low_sums.data();
    spans_[span].multiply_bf16(input.bf16.data() + begin * padded, input.rows, sums, input.scratch);
    for (int64_t row = 0; row < input.rows; ++row) {
      const float of_row =
          input.row_scale[span * static_cast<size_t>(input.rows) + static_cast<size_t>(row)];
      float* target = y + row * out;
      const float* found = sums + row * out;
      for (size_t i = 0; i < width; ++i) {
        const float part = found[i] * (of_row * scale[i]);
        target[i] = span == 0 ? part : target[i] + part;
      }
    }
  }
}

void Linear::multiply(LinearInput& input, float* y) const {
  const int64_t out = out_features();
  const auto width = static_cast<size_t>(out);
  if (precision_ == Precision::kF32) {
    const int64_t together = rows_apart_ ? 1 : input.rows;
    for (int64_t row = 0; row < input.rows; row += together) {
      matrix_.multiply_f32(input.f32.data() + row * in_features(), together, y + row * out);
    }
  } else if (in_spans()) {
    multiply_spans(input, y);
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
