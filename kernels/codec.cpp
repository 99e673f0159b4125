#include "kernels/codec.h"

#include <cassert>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/codec.cpp"
#include "hwy/foreach_target.h"
// After foreach_target: both are read again for each instruction set.
#include "hwy/highway.h"
#include "kernels/codec_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace pare {
namespace HWY_NAMESPACE {
namespace {

template <class From, class To>
HWY_INLINE void to_bytes(const From& from, const To& to, size_t size, uint8_t* HWY_RESTRICT out) {
  const hn::ScalableTag<float> df;
  const hn::Rebind<uint8_t, decltype(df)> d8;
  const size_t lanes = hn::Lanes(df);
  size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::RebindToUnsigned<decltype(df)> du;
  const hn::Rebind<uint16_t, decltype(df)> d16;
  const hn::Repartition<uint8_t, decltype(d16)> bytes;
  const auto mask = hn::Set(du, 0xff);
  for (; i + 2 * lanes <= size; i += 2 * lanes) {
    auto even = hn::Zero(df);
    auto odd = hn::Zero(df);
    from.pairs(df, i, even, odd);
    const auto codes = hn::Or(hn::And(to(df, even), mask), hn::ShiftLeft<8>(to(df, odd)));
    hn::StoreU(hn::BitCast(bytes, hn::TruncateTo(d16, codes)), bytes, out + i);
  }
#endif
  for (; i < size; i += lanes) {
    const size_t count = size - i < lanes ? size - i : lanes;
    HWY_ALIGN uint8_t buffer[HWY_MAX_BYTES / sizeof(float)];
    hn::Store(hn::TruncateTo(d8, to(df, from.part(df, i, count))), d8, buffer);
    std::memcpy(out + i, buffer, count);
  }
}

float absmax_f32_kernel(const float* in, size_t size) { return absmax_of(FromF32{in}, size); }
float absmax_bf16_kernel(const uint16_t* in, size_t size) { return absmax_of(FromBf16{in}, size); }

void bf16_to_f32_kernel(const uint16_t* HWY_RESTRICT in, size_t size, float* HWY_RESTRICT out) {
  const hn::ScalableTag<float> df;
  const size_t lanes = hn::Lanes(df);
  size_t i = 0;
  for (; i + lanes <= size; i += lanes) hn::StoreU(load_bf16(df, in + i), df, out + i);
  for (; i < size; ++i) {
    const uint32_t bits = static_cast<uint32_t>(in[i]) << 16;
    std::memcpy(out + i, &bits, sizeof(bits));
  }
}

void f32_to_bf16_kernel(const float* HWY_RESTRICT in, size_t size, uint16_t* HWY_RESTRICT out) {
  const hn::ScalableTag<float> df;
  const size_t lanes = hn::Lanes(df);
  size_t i = 0;
  for (; i + lanes <= size; i += lanes) store_bf16(df, hn::LoadU(df, in + i), out + i);
  if (i < size) {
    HWY_ALIGN uint16_t buffer[HWY_MAX_BYTES / sizeof(float)];
    store_bf16(df, FromF32{in}.part(df, i, size - i), buffer);
    std::memcpy(out + i, buffer, (size - i) * sizeof(uint16_t));
  }
}

void split_bf16_kernel(const float* HWY_RESTRICT in, size_t size, uint16_t* HWY_RESTRICT high,
                       uint16_t* HWY_RESTRICT low) {
  const hn::ScalableTag<float> df;
  const size_t lanes = hn::Lanes(df);
  HWY_ALIGN uint16_t buffer[HWY_MAX_BYTES / sizeof(float)];
  size_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    const auto value = hn::LoadU(df, in + i);
    store_bf16(df, value, high + i);
    store_bf16(df, hn::Sub(value, load_bf16(df, high + i)), low + i);
  }
  if (i < size) {
    const auto value = FromF32{in}.part(df, i, size - i);
    store_bf16(df, value, buffer);
    std::memcpy(high + i, buffer, (size - i) * sizeof(uint16_t));
    store_bf16(df, hn::Sub(value, load_bf16(df, buffer)), buffer);
    std::memcpy(low + i, buffer, (size - i) * sizeof(uint16_t));
  }
}

void e4m3_f32_kernel(const float* in, float inverse_scale, size_t size, uint8_t* out) {
  to_bytes(FromF32{in}, ToE4m3{inverse_scale}, size, out);
}
void e4m3_bf16_kernel(const uint16_t* in, float inverse_scale, size_t size, uint8_t* out) {
  to_bytes(FromBf16{in}, ToE4m3{inverse_scale}, size, out);
}
void int8_f32_kernel(const float* in, float inverse_scale, size_t size, uint8_t* out) {
  to_bytes(FromF32{in}, ToInteger{inverse_scale, -127.0F, 127.0F}, size, out);
}
void int8_bf16_kernel(const uint16_t* in, float inverse_scale, size_t size, uint8_t* out) {
  to_bytes(FromBf16{in}, ToInteger{inverse_scale, -127.0F, 127.0F}, size, out);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace pare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pare {
namespace {

HWY_EXPORT(absmax_f32_kernel);
HWY_EXPORT(absmax_bf16_kernel);
HWY_EXPORT(bf16_to_f32_kernel);
HWY_EXPORT(f32_to_bf16_kernel);
HWY_EXPORT(split_bf16_kernel);
HWY_EXPORT(e4m3_f32_kernel);
HWY_EXPORT(e4m3_bf16_kernel);
HWY_EXPORT(int8_f32_kernel);
HWY_EXPORT(int8_bf16_kernel);

uint8_t* as_bytes(std::span<int8_t> codes) { return reinterpret_cast<uint8_t*>(codes.data()); }

}  // namespace

float absmax(std::span<const float> values) {
  return HWY_DYNAMIC_DISPATCH(absmax_f32_kernel)(values.data(), values.size());
}

float absmax_bf16(std::span<const uint16_t> values) {
  return HWY_DYNAMIC_DISPATCH(absmax_bf16_kernel)(values.data(), values.size());
}

void bf16_to_f32(std::span<const uint16_t> in, std::span<float> out) {
  assert(in.size() == out.size());
  HWY_DYNAMIC_DISPATCH(bf16_to_f32_kernel)(in.data(), in.size(), out.data());
}

void f32_to_bf16(std::span<const float> in, std::span<uint16_t> out) {
  assert(in.size() == out.size());
  HWY_DYNAMIC_DISPATCH(f32_to_bf16_kernel)(in.data(), in.size(), out.data());
}

void split_bf16(std::span<const float> in, std::span<uint16_t> high, std::span<uint16_t> low) {
  assert(in.size() == high.size() && in.size() == low.size());
  HWY_DYNAMIC_DISPATCH(split_bf16_kernel)(in.data(), in.size(), high.data(), low.data());
}

void quantize_e4m3(std::span<const float> in, float inverse_scale, std::span<uint8_t> out) {
  assert(in.size() == out.size());
  HWY_DYNAMIC_DISPATCH(e4m3_f32_kernel)(in.data(), inverse_scale, in.size(), out.data());
}

void quantize_e4m3_bf16(std::span<const uint16_t> in, float inverse_scale, std::span<uint8_t> out) {
  assert(in.size() == out.size());
  HWY_DYNAMIC_DISPATCH(e4m3_bf16_kernel)(in.data(), inverse_scale, in.size(), out.data());
}

void quantize_int8(std::span<const float> in, float inverse_scale, std::span<int8_t> out) {
  assert(in.size() == out.size());
  HWY_DYNAMIC_DISPATCH(int8_f32_kernel)(in.data(), inverse_scale, in.size(), as_bytes(out));
}

void quantize_int8_bf16(std::span<const uint16_t> in, float inverse_scale, std::span<int8_t> out) {
  assert(in.size() == out.size());
  HWY_DYNAMIC_DISPATCH(int8_bf16_kernel)(in.data(), inverse_scale, in.size(), as_bytes(out));
}

float scale_and_quantize_int8(std::span<const float> in, float divisor, std::span<int8_t> out) {
  const float scale = symmetric_scale(absmax(in), divisor);
  quantize_int8(in, 1.0F / scale, out);
  return scale;
}

float scale_and_quantize_int8_bf16(std::span<const uint16_t> in, float divisor,
                                   std::span<int8_t> out) {
  const float scale = symmetric_scale(absmax_bf16(in), divisor);
  quantize_int8_bf16(in, 1.0F / scale, out);
  return scale;
}

}  // namespace pare
#endif  // HWY_ONCE
