// From stored codes back to values: nibbles, E4M3, and whole rows of a CompressedWeight.
//
// A row is worked on in chunks that stay in the first-level cache: nibbles are unpacked and 2:4 is
// expanded into one-byte (or bf16) codes in dense layout, then scaled, then rounded.
#include <algorithm>
#include <cassert>
#include <cstring>

#include "kernels/codec.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/codec_expand.cpp"
#include "hwy/foreach_target.h"
// After foreach_target: both are read again for each instruction set.
#include "hwy/highway.h"
#include "kernels/codec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace pare {
namespace HWY_NAMESPACE {
namespace {

void unpack_nibbles_kernel(const uint8_t* HWY_RESTRICT in, bool is_signed, size_t count,
                           int8_t* HWY_RESTRICT codes) {
  // (n ^ 8) − 8 extends the sign of a nibble; with 0 for 8 it changes nothing.
  const int sign = is_signed ? 8 : 0;
  size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<int8_t> d8;
  const hn::Repartition<uint16_t, decltype(d8)> d16;
  const hn::Rebind<uint8_t, decltype(d16)> half;
  const size_t lanes = hn::Lanes(d8);
  const auto low = hn::Set(d16, 0x000f);
  const auto high = hn::Set(d16, 0x0f00);
  const auto signs = hn::Set(d8, static_cast<int8_t>(sign));
  for (; i + lanes <= count; i += lanes) {
    const auto bytes = hn::PromoteTo(d16, hn::LoadU(half, in + i / 2));
    const auto pairs = hn::Or(hn::And(bytes, low), hn::And(hn::ShiftLeft<4>(bytes), high));
    const auto nibbles = hn::BitCast(d8, pairs);
    hn::StoreU(hn::Sub(hn::Xor(nibbles, signs), signs), d8, codes + i);
  }
#endif
  for (; i < count; ++i) {
    const int nibble = i % 2 == 0 ? in[i / 2] & 15 : in[i / 2] >> 4;
    codes[i] = static_cast<int8_t>((nibble ^ sign) - sign);
  }
}

void pack_nibbles_kernel(const int8_t* HWY_RESTRICT codes, size_t count,
                         uint8_t* HWY_RESTRICT out) {
  size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<uint8_t> d8;
  const hn::Repartition<uint16_t, decltype(d8)> d16;
  const hn::Repartition<int16_t, decltype(d8)> d16_signed;
  const hn::Rebind<uint8_t, decltype(d16)> half;
  const hn::Rebind<int8_t, decltype(d8)> d8_signed;
  const size_t lanes = hn::Lanes(d8);
  const auto mask = hn::Set(d16, 0x0f0f);
  const auto byte = hn::Set(d16, 0x00ff);
  for (; i + lanes <= count; i += lanes) {
    const auto pairs = hn::And(hn::BitCast(d16, hn::LoadU(d8_signed, codes + i)), mask);
    const auto packed = hn::And(hn::Or(pairs, hn::ShiftRight<4>(pairs)), byte);
    hn::StoreU(hn::DemoteTo(half, hn::BitCast(d16_signed, packed)), half, out + i / 2);
  }
#endif
  for (; i < count; i += 2) {
    const int low = codes[i] & 15;
    const int high = i + 1 < count ? codes[i + 1] & 15 : 0;
    out[i / 2] = static_cast<uint8_t>(low | high << 4);
  }
}

/// Nibbles that hold E2M1 codes become twice their value, which is a small integer.
void double_e2m1_kernel(int8_t* HWY_RESTRICT codes, size_t count) {
  alignas(16) static constexpr int8_t kTwice[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                                    0, -1, -2, -3, -4, -6, -8, -12};
  size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<int8_t> d8;
  const auto table = hn::LoadDup128(d8, kTwice);
  for (; i + hn::Lanes(d8) <= count; i += hn::Lanes(d8)) {
    hn::StoreU(hn::TableLookupBytes(table, hn::LoadU(d8, codes + i)), d8, codes + i);
  }
#endif
  for (; i < count; ++i) codes[i] = kTwice[codes[i]];
}

/// out = (code − zero_point) × scale
void scale_codes_kernel(const int8_t* HWY_RESTRICT codes, size_t count, int zero_point, float scale,
                        float* HWY_RESTRICT out) {
  const hn::ScalableTag<float> df;
  const hn::RebindToSigned<decltype(df)> di;
  const hn::Rebind<int8_t, decltype(df)> d8;
  const size_t lanes = hn::Lanes(df);
  const auto zero = hn::Set(di, zero_point);
  const auto factor = hn::Set(df, scale);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto code = hn::Sub(hn::PromoteTo(di, hn::LoadU(d8, codes + i)), zero);
    hn::StoreU(hn::Mul(hn::ConvertTo(df, code), factor), df, out + i);
  }
  for (; i < count; ++i) out[i] = static_cast<float>(codes[i] - zero_point) * scale;
}

/// The float of each E4M3 code. A subnormal code m is m × 2^-9: put into the low mantissa bits of
/// 2^14, whose last bit is worth just that, it appears when 2^14 is taken off again.
template <class DF>
HWY_INLINE hn::Vec<DF> load_e4m3(DF df, const uint8_t* HWY_RESTRICT in) {
  const hn::Rebind<uint8_t, DF> d8;
  const hn::RebindToSigned<DF> di;
  const hn::RebindToUnsigned<DF> du;
  const auto bits = hn::BitCast(di, hn::PromoteTo(du, hn::LoadU(d8, in)));
  const auto magnitude = hn::And(bits, hn::Set(di, 0x7f));
  const auto normal = hn::Add(hn::ShiftLeft<20>(magnitude), hn::Set(di, 120 << 23));
  const auto magic = hn::Set(df, 16384.0F);
  const auto subnormal = hn::Sub(hn::BitCast(df, hn::Or(magnitude, hn::BitCast(di, magic))), magic);
  const auto finite =
      hn::IfThenElse(hn::Lt(magnitude, hn::Set(di, 8)), hn::BitCast(di, subnormal), normal);
  const auto value =
      hn::IfThenElse(hn::Eq(magnitude, hn::Set(di, 0x7f)), hn::Set(di, 0x7fc00000), finite);
  const auto sign = hn::ShiftLeft<24>(hn::And(bits, hn::Set(di, 0x80)));
  return hn::BitCast(df, hn::Or(value, sign));
}

void e4m3_to_bf16_kernel(const uint8_t* HWY_RESTRICT in, size_t count, uint16_t* HWY_RESTRICT out) {
  const hn::ScalableTag<float> df;
  const hn::RebindToSigned<decltype(df)> di;
  const hn::RebindToUnsigned<decltype(df)> du;
  const hn::Rebind<uint16_t, decltype(df)> d16;
  const size_t lanes = hn::Lanes(df);
  for (size_t i = 0; i < count; i += lanes) {
    const bool whole = i + lanes <= count;
    HWY_ALIGN uint8_t part[HWY_MAX_BYTES / sizeof(float)] = {};
    if (!whole) std::memcpy(part, in + i, count - i);
    const auto bits = hn::BitCast(du, load_e4m3(df, whole ? in + i : part));
    const auto bf16 = hn::DemoteTo(d16, hn::BitCast(di, hn::ShiftRight<16>(bits)));
    if (whole) {
      hn::StoreU(bf16, d16, out + i);
    } else {
      HWY_ALIGN uint16_t buffer[HWY_MAX_BYTES / sizeof(float)];
      hn::Store(bf16, d16, buffer);
      std::memcpy(out + i, buffer, (count - i) * sizeof(uint16_t));
    }
  }
}

void scale_e4m3_kernel(const uint8_t* HWY_RESTRICT in, size_t count, float scale,
                       float* HWY_RESTRICT out) {
  const hn::ScalableTag<float> df;
  const size_t lanes = hn::Lanes(df);
  const auto factor = hn::Set(df, scale);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    hn::StoreU(hn::Mul(load_e4m3(df, in + i), factor), df, out + i);
  }
  if (i < count) {
    HWY_ALIGN uint8_t part[HWY_MAX_BYTES / sizeof(float)] = {};
    HWY_ALIGN float buffer[HWY_MAX_BYTES / sizeof(float)];
    std::memcpy(part, in + i, count - i);
    hn::Store(hn::Mul(load_e4m3(df, part), factor), df, buffer);
    std::memcpy(out + i, buffer, (count - i) * sizeof(float));
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace pare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pare {
namespace {

HWY_EXPORT(unpack_nibbles_kernel);
HWY_EXPORT(pack_nibbles_kernel);
HWY_EXPORT(double_e2m1_kernel);
HWY_EXPORT(scale_codes_kernel);
HWY_EXPORT(e4m3_to_bf16_kernel);
HWY_EXPORT(scale_e4m3_kernel);

/// Columns of one chunk: a multiple of 16, so that chunks begin at whole bytes of nibbles and
/// masks.
constexpr int64_t kChunk = 1024;

/// Room for one chunk of codes in dense layout, and for the stored ones before they are expanded.
struct Scratch {
  alignas(64) int8_t dense[kChunk];
  alignas(64) int8_t stored[kChunk];
  alignas(64) uint16_t dense16[kChunk];
  alignas(64) uint16_t stored16[kChunk];
  alignas(64) float values[kChunk];
};

/// Columns [begin, begin + count) of one row.
struct Chunk {
  const CompressedWeight& weight;
  int64_t row;
  int64_t begin;
  int64_t count;

  /// First column among the stored ones.
  int64_t stored_begin() const { return weight.sparse ? begin / 2 : begin; }
  size_t stored_count() const { return static_cast<size_t>(weight.sparse ? count / 2 : count); }
  size_t size() const { return static_cast<size_t>(count); }
  const uint8_t* row_codes() const { return weight.codes.data() + row * weight.row_bytes(); }
  std::span<const uint8_t> mask() const {
    const uint8_t* first = weight.mask_index.data() + row * weight.mask_row_bytes() + begin / 8;
    return {first, static_cast<size_t>((count / 4 + 1) / 2)};
  }
};

template <typename Body>
void for_each_chunk(const CompressedWeight& weight, int64_t row_begin, int64_t row_end, Body body) {
  assert(0 <= row_begin && row_begin <= row_end && row_end <= weight.out_features);
  for (int64_t row = row_begin; row < row_end; ++row) {
    for (int64_t begin = 0; begin < weight.in_features; begin += kChunk) {
      const Chunk chunk{weight, row, begin, std::min(kChunk, weight.in_features - begin)};
      body(chunk, static_cast<size_t>((row - row_begin) * weight.in_features + begin));
    }
  }
}

/// One-byte codes in dense layout, zero where pruned; points into `scratch` or the weight itself.
/// For FP4 twice the values.
const int8_t* dense_codes(const Chunk& chunk, Scratch& scratch) {
  const CompressedWeight& weight = chunk.weight;
  const int8_t* stored = nullptr;
  if (packs_nibbles(weight.format)) {
    int8_t* target = weight.sparse ? scratch.stored : scratch.dense;
    const uint8_t* packed = chunk.row_codes() + chunk.stored_begin() / 2;
    const bool is_signed = weight.format == WeightFormat::kInt4 && weight.symmetric;
    HWY_DYNAMIC_DISPATCH(unpack_nibbles_kernel)(packed, is_signed, chunk.stored_count(), target);
    if (is_fp4(weight.format)) {
      HWY_DYNAMIC_DISPATCH(double_e2m1_kernel)(target, chunk.stored_count());
    }
    stored = target;
  } else {
    stored = reinterpret_cast<const int8_t*>(chunk.row_codes()) + chunk.stored_begin();
  }
  if (!weight.sparse) return stored;
  expand_2_4_row<int8_t>({stored, chunk.stored_count()}, chunk.mask(),
                         {scratch.dense, chunk.size()});
  return scratch.dense;
}

void dense_bf16(const Chunk& chunk, Scratch& scratch, uint16_t* out) {
  const uint8_t* stored = chunk.row_codes() + 2 * chunk.stored_begin();
  if (!chunk.weight.sparse) {
    std::memcpy(out, stored, chunk.size() * sizeof(uint16_t));
    return;
  }
  std::memcpy(scratch.stored16, stored, chunk.stored_count() * sizeof(uint16_t));
  expand_2_4_row<uint16_t>({scratch.stored16, chunk.stored_count()}, chunk.mask(),
                           {out, chunk.size()});
}

/// A pruned weight with a zero point is 0, not (0 − zero_point) × scale.
void clear_pruned(std::span<const uint8_t> mask, std::span<float> values) {
  for (size_t group = 0; group < values.size() / 4; ++group) {
    const int nibble = group % 2 == 0 ? mask[group / 2] & 15 : mask[group / 2] >> 4;
    for (int i = 0; i < 4; ++i) {
      if (i != (nibble & 3) && i != nibble >> 2) values[group * 4 + static_cast<size_t>(i)] = 0;
    }
  }
}

// `factor` multiplies each scale.
void dequantize_chunk(const Chunk& chunk, float factor, Scratch& scratch, float* out) {
  const CompressedWeight& weight = chunk.weight;
  if (weight.format == WeightFormat::kBf16) {
    dense_bf16(chunk, scratch, scratch.dense16);
    bf16_to_f32({scratch.dense16, chunk.size()}, {out, chunk.size()});
    return;
  }
  const int8_t* codes = dense_codes(chunk, scratch);
  const bool grouped = weight.group_size > 0;
  for (int64_t done = 0; done < chunk.count;) {
    const int64_t column = chunk.begin + done;
    const int64_t group = grouped ? column / weight.group_size : 0;
    const int64_t left = grouped ? (group + 1) * weight.group_size - column : chunk.count;
    const auto count = static_cast<size_t>(std::min(left, chunk.count - done));
    const size_t index = weight.scale_index(chunk.row, group);
    const float scale = weight.scale[index] * factor;
    if (weight.format == WeightFormat::kFp8E4m3) {
      HWY_DYNAMIC_DISPATCH(scale_e4m3_kernel)
      (reinterpret_cast<const uint8_t*>(codes) + done, count, scale, out + done);
    } else {
      const int zero_point = weight.symmetric ? 0 : weight.zero_point[index];
      const float step = is_fp4(weight.format) ? scale * 0.5F : scale;
      HWY_DYNAMIC_DISPATCH(scale_codes_kernel)(codes + done, count, zero_point, step, out + done);
    }
    done += static_cast<int64_t>(count);
  }
  if (weight.sparse && !weight.symmetric) clear_pruned(chunk.mask(), {out, chunk.size()});
}

[[maybe_unused]] size_t elements(const CompressedWeight& weight, int64_t rows) {
  return static_cast<size_t>(rows * weight.in_features);
}

}  // namespace

void e4m3_to_bf16(std::span<const uint8_t> in, std::span<uint16_t> out) {
  assert(in.size() == out.size());
  HWY_DYNAMIC_DISPATCH(e4m3_to_bf16_kernel)(in.data(), in.size(), out.data());
}

void pack_nibbles(std::span<const int8_t> codes, std::span<uint8_t> out) {
  assert(out.size() == (codes.size() + 1) / 2);
  HWY_DYNAMIC_DISPATCH(pack_nibbles_kernel)(codes.data(), codes.size(), out.data());
}

void unpack_nibbles(std::span<const uint8_t> in, bool is_signed, std::span<int8_t> codes) {
  assert(in.size() == (codes.size() + 1) / 2);
  HWY_DYNAMIC_DISPATCH(unpack_nibbles_kernel)(in.data(), is_signed, codes.size(), codes.data());
}

void dequantize_rows(const CompressedWeight& weight, int64_t row_begin, int64_t row_end,
                     std::span<float> out) {
  assert(out.size() == elements(weight, row_end - row_begin));
  Scratch scratch;
  for_each_chunk(weight, row_begin, row_end, [&](const Chunk& chunk, size_t place) {
    dequantize_chunk(chunk, weight.global_scale, scratch, out.data() + place);
  });
}

void expand_to_bf16(const CompressedWeight& weight, int64_t row_begin, int64_t row_end,
                    std::span<uint16_t> out) {
  assert(out.size() == elements(weight, row_end - row_begin));
  Scratch scratch;
  for_each_chunk(weight, row_begin, row_end, [&](const Chunk& chunk, size_t place) {
    uint16_t* target = out.data() + place;
    if (weight.format == WeightFormat::kBf16) {
      dense_bf16(chunk, scratch, target);
    } else if (weight.format == WeightFormat::kFp8E4m3) {
      const auto* codes = reinterpret_cast<const uint8_t*>(dense_codes(chunk, scratch));
      e4m3_to_bf16({codes, chunk.size()}, {target, chunk.size()});
    } else {
      dequantize_chunk(chunk, 1.0F, scratch, scratch.values);
      f32_to_bf16({scratch.values, chunk.size()}, {target, chunk.size()});
    }
  });
}

void expand_to_int8(const CompressedWeight& weight, int64_t row_begin, int64_t row_end,
                    std::span<int8_t> out) {
  assert(weight.format == WeightFormat::kInt8);
  assert(out.size() == elements(weight, row_end - row_begin));
  Scratch scratch;
  for_each_chunk(weight, row_begin, row_end, [&](const Chunk& chunk, size_t place) {
    std::memcpy(out.data() + place, dense_codes(chunk, scratch), chunk.size());
  });
}

}  // namespace pare
#endif  // HWY_ONCE
