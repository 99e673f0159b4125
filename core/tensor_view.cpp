#include "core/tensor_view.h"

#include <cstring>

#include "pare/error.h"

namespace pare {
namespace {

template <typename Output, typename Convert16, typename Convert32>
std::vector<Output> convert(const TensorView& view, const std::string& name,
                            const Convert16& from_bf16, const Convert16& from_f16,
                            const Convert32& from_f32) {
  const auto count = static_cast<size_t>(element_count(view.shape));
  if (view.bytes.size() != count * dtype_size(view.dtype)) {
    throw Error(ErrorCode::kInputMalformed,
                "tensor \"" + name + "\": " + std::to_string(view.bytes.size()) +
                    " bytes do not hold shape " + shape_text(view.shape));
  }
  std::vector<Output> result(count);
  const auto each16 = [&](const Convert16& from) {
    for (size_t i = 0; i < count; ++i) {
      uint16_t bits = 0;
      std::memcpy(&bits, view.bytes.data() + 2 * i, 2);
      result[i] = from(bits);
    }
  };
  switch (view.dtype) {
    case DType::kBf16:
      each16(from_bf16);
      return result;
    case DType::kF16:
      each16(from_f16);
      return result;
    case DType::kF32:
      for (size_t i = 0; i < count; ++i) {
        float value = 0;
        std::memcpy(&value, view.bytes.data() + 4 * i, 4);
        result[i] = from_f32(value);
      }
      return result;
    default:
      throw Error(ErrorCode::kInputMalformed,
                  "tensor \"" + name + "\": expected float32, float16 or bfloat16, found " +
                      std::string(dtype_name(view.dtype)));
  }
}

}  // namespace

int64_t element_count(const Shape& shape) {
  int64_t count = 1;
  for (const int64_t dimension : shape) {
    if (dimension < 0 || __builtin_mul_overflow(count, dimension, &count)) {
      throw Error(ErrorCode::kInputMalformed, "shape " + shape_text(shape) + " is not possible");
    }
  }
  return count;
}

std::string shape_text(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i != 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

std::vector<float> to_f32(const TensorView& view, const std::string& name) {
  using From16 = float (*)(uint16_t);
  return convert<float>(view, name, From16([](uint16_t bits) { return bf16_to_f32(bits); }),
                        From16([](uint16_t bits) { return f16_to_f32(bits); }),
                        [](float value) { return value; });
}

std::vector<uint16_t> to_bf16(const TensorView& view, const std::string& name) {
  using From16 = uint16_t (*)(uint16_t);
  return convert<uint16_t>(view, name, From16([](uint16_t bits) { return bits; }),
                           From16([](uint16_t bits) { return f32_to_bf16(f16_to_f32(bits)); }),
                           [](float value) { return f32_to_bf16(value); });
}

}  // namespace pare
