#include "formats/checkpoint_layout.h"

#include <algorithm>
#include <cstring>

#include "core/sha256.h"

namespace pare {
namespace {

constexpr std::array<DType, 13> kAllDTypes{
    DType::kF64,    DType::kF32,    DType::kF16, DType::kBf16, DType::kF8E4m3,
    DType::kF8E5m2, DType::kF8E8m0, DType::kI64, DType::kI32,  DType::kI16,
    DType::kI8,     DType::kU8,     DType::kBool};

constexpr std::array<ActivationFormat, 8> kAllActivations{
    ActivationFormat::kBf16,        ActivationFormat::kFp8Static,  ActivationFormat::kInt8Static,
    ActivationFormat::kInt8Dynamic, ActivationFormat::kFp8Dynamic, ActivationFormat::kFp8Block,
    ActivationFormat::kNvfp4,       ActivationFormat::kMxfp4};

constexpr std::array<CodeLayout, 7> kCodeLayouts{{
    {"bfloat16", "bf16", "none", StoredType::kU16, WeightFormat::kBf16, true, DType::kF32},
    {"float8_e4m3fn", "fp8", "none", StoredType::kU8, WeightFormat::kFp8E4m3, true, DType::kF32},
    {"int8", "int8", "none", StoredType::kI8, WeightFormat::kInt8, true, DType::kF32},
    {"int4_packed", "int4", "lo_nibble_first", StoredType::kU8, WeightFormat::kInt4, true,
     DType::kF32},
    {"uint4_packed", "int4", "lo_nibble_first", StoredType::kU8, WeightFormat::kInt4, false,
     DType::kF32},
    {"float4_e2m1fn_packed", "nvfp4", "lo_nibble_first", StoredType::kU8, WeightFormat::kNvfp4,
     true, DType::kF8E4m3},
    {"float4_e2m1fn_packed", "mxfp4", "lo_nibble_first", StoredType::kU8, WeightFormat::kMxfp4,
     true, DType::kF8E8m0},
}};

}  // namespace

StoredType stored_type(DType dtype) noexcept {
  switch (dtype) {
    case DType::kF64:
      return StoredType::kF64;
    case DType::kF32:
      return StoredType::kF32;
    case DType::kF16:
      return StoredType::kF16;
    case DType::kBf16:
      return StoredType::kU16;
    case DType::kI64:
      return StoredType::kI64;
    case DType::kI32:
      return StoredType::kI32;
    case DType::kI16:
      return StoredType::kI16;
    case DType::kI8:
      return StoredType::kI8;
    default:
      return StoredType::kU8;
  }
}

std::optional<DType> dtype_from_name(std::string_view name) noexcept {
  for (const DType dtype : kAllDTypes) {
    if (dtype_name(dtype) == name) return dtype;
  }
  return std::nullopt;
}

const std::array<CodeLayout, 7>& code_layouts() noexcept { return kCodeLayouts; }

const CodeLayout& code_layout(WeightFormat format, bool symmetric) noexcept {
  for (const CodeLayout& layout : kCodeLayouts) {
    if (layout.format == format && layout.symmetric == symmetric) return layout;
  }
  return kCodeLayouts[0];  // Not reached: validate() refuses zero points elsewhere.
}

const char* activation_name(ActivationFormat activation) noexcept {
  switch (activation) {
    case ActivationFormat::kBf16:
      return "bf16";
    case ActivationFormat::kFp8Static:
      return "fp8_static";
    case ActivationFormat::kInt8Static:
      return "int8_static";
    case ActivationFormat::kInt8Dynamic:
      return "int8_dynamic";
    case ActivationFormat::kFp8Dynamic:
      return "fp8_dynamic";
    case ActivationFormat::kFp8Block:
      return "fp8_block";
    case ActivationFormat::kNvfp4:
      return "nvfp4";
    case ActivationFormat::kMxfp4:
      return "mxfp4";
  }
  return "unknown";
}

std::optional<ActivationFormat> activation_from_name(std::string_view name) noexcept {
  for (const ActivationFormat activation : kAllActivations) {
    if (activation_name(activation) == name) return activation;
  }
  return std::nullopt;
}

std::string header_sha256(const std::array<std::string_view, 6>& texts) {
  Sha256 hash;
  for (size_t i = 0; i < texts.size(); ++i) {
    hash.update(std::string(kHeaderTexts[i]) + " " + sha256_hex(texts[i]) + "\n");
  }
  return hash.finish();
}

Shape code_shape(const CompressedWeight& weight) {
  const auto bytes =
      static_cast<int64_t>(stored_type_size(code_layout(weight.format, weight.symmetric).type));
  return {weight.out_features, weight.row_bytes() / bytes};
}

Shape scale_shape(const CompressedWeight& weight) {
  if (weight.group_size == kPerTensor) return {1};
  return {weight.scale_rows(), weight.groups()};
}

std::vector<std::byte> encode_scales(const std::vector<float>& scale, DType dtype) {
  if (dtype == DType::kF32) {
    const auto bytes = std::as_bytes(std::span(scale));
    return {bytes.begin(), bytes.end()};
  }
  std::vector<std::byte> bytes(scale.size());
  std::transform(scale.begin(), scale.end(), bytes.begin(), [&](float value) {
    return std::byte{dtype == DType::kF8E8m0 ? f32_to_e8m0(value) : f32_to_e4m3(value)};
  });
  return bytes;
}

std::vector<float> decode_scales(std::span<const std::byte> bytes, DType dtype) {
  if (dtype == DType::kF32) {
    std::vector<float> scale(bytes.size() / sizeof(float));
    if (!bytes.empty()) std::memcpy(scale.data(), bytes.data(), bytes.size());
    return scale;
  }
  std::vector<float> scale(bytes.size());
  std::transform(bytes.begin(), bytes.end(), scale.begin(), [&](std::byte value) {
    const auto bits = static_cast<uint8_t>(value);
    return dtype == DType::kF8E8m0 ? e8m0_to_f32(bits) : e4m3_to_f32(bits);
  });
  return scale;
}

}  // namespace pare
