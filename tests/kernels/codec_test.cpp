#include "kernels/codec.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include "core/dtype.h"
#include "kernels/codec_reference.h"
#include "tests/kernels/each_target.h"

namespace pare {
namespace {

constexpr unsigned kSeed = 90210;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

uint32_t bits_of(float value) { return std::bit_cast<uint32_t>(value); }

/// Values that rounding gets wrong first: ties, limits, subnormals, zeros of both signs, NaN.
std::vector<float> special_values() {
  std::vector<float> values = {0.0F,    1.0F,    0.5F,    1.5F,      2.5F,     3.5F,     6.5F,
                               7.5F,    8.5F,    126.5F,  127.0F,    127.5F,   128.0F,   447.9F,
                               448.0F,  464.0F,  465.0F,  1e30F,     3.4e38F,  1e-30F,   1e-40F,
                               0x1p-6F, 0x1p-7F, 0x1p-9F, 0x1p-10F,  0x3p-10F, 0x1p-11F, 0x1.fp-7F,
                               17.0F,   18.0F,   19.0F,   kInfinity, kNan};
  const size_t count = values.size();
  for (size_t i = 0; i < count; ++i) {
    values.push_back(-values[i]);
    values.push_back(std::nextafter(values[i], kInfinity));
    values.push_back(std::nextafter(values[i], -kInfinity));
  }
  return values;
}

/// `size` values of widely different magnitude, special ones among them, not aligned to a vector.
struct MixedRow {
  MixedRow(size_t size, unsigned seed) : floats(size + 1), bf16s(size + 1) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal(0.0F, 40.0F);
    std::uniform_int_distribution<int> exponent(-12, 6);
    const auto special = special_values();
    for (size_t i = 0; i < floats.size(); ++i) {
      floats[i] = i % 7 == 3 ? special[generator() % special.size()]
                             : std::ldexp(normal(generator), exponent(generator));
      bf16s[i] = f32_to_bf16(floats[i]);
    }
  }
  std::span<const float> f32() const { return std::span(floats).subspan(1); }
  std::span<const uint16_t> bf16() const { return std::span(bf16s).subspan(1); }

  std::vector<float> floats;
  std::vector<uint16_t> bf16s;
};

template <typename Code, typename In, typename Function>
void expect_same_codes(std::span<const In> in, Function function, Function plain) {
  std::vector<Code> found(in.size() + 1, Code{99});
  std::vector<Code> expected(in.size());
  function(in, std::span(found).first(in.size()));
  plain(in, expected);
  EXPECT_EQ(found.back(), Code{99}) << "wrote past the end";
  for (size_t i = 0; i < in.size(); ++i) {
    ASSERT_EQ(found[i], expected[i])
        << "element " << i << " of " << in.size() << ": " << +in[i] << ", seed " << kSeed;
  }
}

template <typename Code, typename In>
using ScaledFunction = void (*)(std::span<const In>, float, std::span<Code>);

template <typename Code, typename In>
void check_scaled(std::span<const In> in, ScaledFunction<Code, In> function,
                  ScaledFunction<Code, In> plain) {
  using Bound = std::function<void(std::span<const In>, std::span<Code>)>;
  for (const float inverse_scale : {1.0F, 0.37F, 100.0F, 1e-20F, 1e30F}) {
    const Bound bound = [&](auto x, auto out) { function(x, inverse_scale, out); };
    const Bound bound_plain = [&](auto x, auto out) { plain(x, inverse_scale, out); };
    expect_same_codes<Code, In>(in, bound, bound_plain);
  }
}

void check_split(std::span<const float> in) {
  const size_t size = in.size();
  std::vector<uint16_t> high(size + 1, 99);
  std::vector<uint16_t> low(size + 1, 99);
  std::vector<uint16_t> plain_high(size);
  std::vector<uint16_t> plain_low(size);
  split_bf16(in, std::span(high).first(size), std::span(low).first(size));
  reference::split_bf16(in, plain_high, plain_low);
  EXPECT_EQ(high.back(), 99) << "wrote past the end";
  EXPECT_EQ(low.back(), 99) << "wrote past the end";
  for (size_t i = 0; i < size; ++i) {
    ASSERT_EQ(high[i], plain_high[i]) << in[i];
    ASSERT_EQ(low[i], plain_low[i]) << in[i];
    if (!(std::abs(in[i]) < 0x1p127F)) continue;  // might round to infinity
    const float sum = bf16_to_f32(high[i]) + bf16_to_f32(low[i]);
    ASSERT_LE(std::abs(sum - in[i]), std::abs(in[i]) * 0x1p-16F + 0x1p-134F) << in[i];
  }
}

void check_all_conversions(std::span<const float> f32, std::span<const uint16_t> bf16) {
  using ToBf16 = void (*)(std::span<const float>, std::span<uint16_t>);
  expect_same_codes<uint16_t, float, ToBf16>(f32, &f32_to_bf16, &reference::f32_to_bf16);
  check_split(f32);
  check_scaled<uint8_t, float>(f32, &quantize_e4m3, &reference::quantize_e4m3);
  check_scaled<int8_t, float>(f32, &quantize_int8, &reference::quantize_int8);
  check_scaled<uint8_t, uint16_t>(bf16, &quantize_e4m3_bf16, &reference::quantize_e4m3_bf16);
  check_scaled<int8_t, uint16_t>(bf16, &quantize_int8_bf16, &reference::quantize_int8_bf16);
}

TEST(Codec, EqualsReferenceForAllSizes) {
  for_each_target([] {
    for (const size_t size : kOddSizes) {
      const MixedRow row(size, kSeed + static_cast<unsigned>(size));
      check_all_conversions(row.f32(), row.bf16());
    }
  });
}

TEST(Codec, EqualsReferenceForEveryBf16) {
  for_each_target([] {
    std::vector<uint16_t> all(65536);
    std::vector<float> floats(65536);
    for (size_t i = 0; i < all.size(); ++i) {
      all[i] = static_cast<uint16_t>(i);
      floats[i] = bf16_to_f32(all[i]);
    }
    check_all_conversions(floats, all);
    std::vector<float> widened(all.size());
    bf16_to_f32(all, widened);
    for (size_t i = 0; i < all.size(); ++i) ASSERT_EQ(bits_of(widened[i]), bits_of(floats[i]));
  });
}

TEST(Codec, EqualsReferenceForFloatsOfAllKinds) {
  // Every 10007th float, NaN with their payloads included.
  std::vector<float> floats;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 10007) {
    floats.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  }
  const auto special = special_values();
  floats.insert(floats.end(), special.begin(), special.end());
  for_each_target([&] { check_all_conversions(floats, {}); });
}

TEST(Codec, KnownCodes) {
  for_each_target([] {
    const std::vector<float> in = {0.5F, 1.5F, 2.5F, -0.5F, -126.5F, 127.5F, -1e9F, kNan, -0.0F};
    std::vector<int8_t> int8(in.size());
    quantize_int8(in, 1.0F, int8);
    EXPECT_EQ(int8, (std::vector<int8_t>{0, 2, 2, 0, -126, 127, -127, 0, 0}));
    const std::vector<float> e4m3_in = {1.0F, -448.0F, 1e9F, 0x1p-9F, 0x1p-10F, kNan, -0.0F, 17.0F};
    std::vector<uint8_t> e4m3(e4m3_in.size());
    quantize_e4m3(e4m3_in, 1.0F, e4m3);
    EXPECT_EQ(e4m3, (std::vector<uint8_t>{0x38, 0xfe, 0x7e, 0x01, 0x00, 0x7f, 0x80, 0x58}));
  });
}

TEST(Codec, E4m3ToBf16ForAllCodes) {
  for_each_target([] {
    for (const size_t size : {256U, 255U, 250U, 7U}) {
      std::vector<uint8_t> codes(size);
      for (size_t i = 0; i < size; ++i) codes[i] = static_cast<uint8_t>(i);
      std::vector<uint16_t> found(size);
      std::vector<uint16_t> expected(size);
      e4m3_to_bf16(codes, found);
      reference::e4m3_to_bf16(codes, expected);
      EXPECT_EQ(found, expected);
    }
  });
}

TEST(Codec, E4m3CodesSurviveARoundTrip) {
  for_each_target([] {
    std::vector<uint8_t> codes(256);
    for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i);
    std::vector<uint16_t> values(256);
    e4m3_to_bf16(codes, values);
    std::vector<uint8_t> again(256);
    quantize_e4m3_bf16(values, 1.0F, again);
    EXPECT_EQ(again, codes);
  });
}

TEST(Absmax, EqualsReference) {
  for_each_target([] {
    for (const size_t size : kOddSizes) {
      std::mt19937 generator(kSeed);
      std::normal_distribution<float> normal(0, 1);
      std::vector<float> x(size);
      std::vector<uint16_t> bf16(size);
      for (size_t i = 0; i < size; ++i) bf16[i] = f32_to_bf16(x[i] = normal(generator));
      EXPECT_EQ(absmax(x), reference::absmax(x));
      EXPECT_EQ(absmax_bf16(bf16), reference::absmax_bf16(bf16));
    }
  });
}

TEST(Absmax, FindsLargestInfinityAndNanAnywhere) {
  for_each_target([] {
    for (const size_t size : {1U, 3U, 16U, 33U, 64U, 150U, 300U}) {
      for (size_t place = 0; place < size; ++place) {
        for (const float value : {-2.0F, -kInfinity, kNan, -kNan}) {
          std::vector<float> x(size, 1.0F);
          x[place] = value;
          std::vector<uint16_t> bf16(size);
          for (size_t i = 0; i < size; ++i) bf16[i] = f32_to_bf16(x[i]);
          if (std::isnan(value)) {
            EXPECT_EQ(bits_of(absmax(x)), bits_of(kNan));
            EXPECT_EQ(bits_of(absmax_bf16(bf16)), bits_of(kNan));
          } else {
            EXPECT_EQ(absmax(x), -value) << place << " of " << size;
            EXPECT_EQ(absmax_bf16(bf16), -value) << place << " of " << size;
          }
        }
      }
    }
    // NaN wins over infinity wherever both are.
    EXPECT_TRUE(std::isnan(absmax(std::vector<float>{kInfinity, kNan, kInfinity})));
  });
}

TEST(SymmetricScale, IsAlwaysPositiveAndNormalForFiniteInput) {
  EXPECT_EQ(symmetric_scale(254.0F, 127.0F), 2.0F);
  EXPECT_EQ(symmetric_scale(0.0F, 127.0F), 1.0F);
  EXPECT_EQ(symmetric_scale(1e-38F, 127.0F), 1.0F);
  EXPECT_EQ(symmetric_scale(1e-36F, 7.0F), 1e-36F / 7.0F);
  EXPECT_TRUE(std::isinf(symmetric_scale(kInfinity, 7.0F)));
  EXPECT_TRUE(std::isnan(symmetric_scale(kNan, 7.0F)));
}

TEST(ScaleAndQuantize, Int8EqualsReference) {
  for_each_target([] {
    for (const size_t size : kOddSizes) {
      for (const float spread : {1.0F, 1e-37F, 0.0F}) {
        MixedRow row(size, kSeed);
        for (size_t i = 0; i < row.floats.size(); ++i) {
          if (!std::isfinite(row.floats[i])) row.floats[i] = 3.0F;
          row.bf16s[i] = f32_to_bf16(row.floats[i] = std::fmod(row.floats[i], 64.0F) * spread);
        }
        std::vector<int8_t> found(size);
        std::vector<int8_t> expected(size);
        EXPECT_EQ(scale_and_quantize_int8(row.f32(), 127.0F, found),
                  reference::scale_and_quantize_int8(row.f32(), 127.0F, expected));
        EXPECT_EQ(found, expected);
        EXPECT_EQ(scale_and_quantize_int8_bf16(row.bf16(), 127.5F, found),
                  reference::scale_and_quantize_int8_bf16(row.bf16(), 127.5F, expected));
        EXPECT_EQ(found, expected);
      }
    }
  });
}

void check_int4(size_t size, int64_t group_size) {
  const MixedRow row(size, kSeed);
  const size_t step = static_cast<size_t>(group_size);
  const size_t groups = (size + step - 1) / step;
  std::vector<float> inverse(groups);
  for (size_t i = 0; i < groups; ++i) inverse[i] = 0.01F * static_cast<float>(i % 40 + 1);
  std::vector<uint8_t> found((size + 1) / 2, 0xee);
  std::vector<uint8_t> expected(found.size());
  SCOPED_TRACE(testing::Message() << size << " columns in groups of " << group_size);
  quantize_int4_row(row.f32(), group_size, inverse, found);
  reference::quantize_int4_row(row.f32(), group_size, inverse, expected);
  EXPECT_EQ(found, expected);
  quantize_int4_row_bf16(row.bf16(), group_size, inverse, found);
  reference::quantize_int4_row_bf16(row.bf16(), group_size, inverse, expected);
  EXPECT_EQ(found, expected);

  MixedRow finite = row;
  for (float& value : finite.floats) value = std::isfinite(value) ? std::fmod(value, 9.0F) : 0.0F;
  for (size_t i = 0; i < finite.bf16s.size(); ++i) finite.bf16s[i] = f32_to_bf16(finite.floats[i]);
  std::vector<float> scale(groups);
  std::vector<float> expected_scale(groups);
  scale_and_quantize_int4_row(finite.f32(), group_size, 7.0F, scale, found);
  reference::scale_and_quantize_int4_row(finite.f32(), group_size, 7.0F, expected_scale, expected);
  EXPECT_EQ(found, expected);
  EXPECT_EQ(scale, expected_scale);
  scale_and_quantize_int4_row_bf16(finite.bf16(), group_size, 7.5F, scale, found);
  reference::scale_and_quantize_int4_row_bf16(finite.bf16(), group_size, 7.5F, expected_scale,
                                              expected);
  EXPECT_EQ(found, expected);
  EXPECT_EQ(scale, expected_scale);
}

TEST(Int4, EqualsReferenceForGroupsThatDivideAndThatDoNot) {
  for_each_target([] {
    for (const size_t size : kOddSizes) {
      if (size == 0) continue;
      for (const int64_t group_size : {2, 6, 10, 16, 32, 64, 128, 2048})
        check_int4(size, group_size);
    }
    check_int4(4096, 128);
    check_int4(577, 577);
  });
}

TEST(Int4, KnownCodes) {
  for_each_target([] {
    // scale = 3.5 / 7.5; −3.5 gives exactly −7.5 → −8, 3.5 is clamped to 7 before rounding.
    const std::vector<float> in = {-3.5F, 3.5F, 0.0F, 1.0F, -1.0F};
    std::vector<float> scale(1);
    std::vector<uint8_t> out(3);
    scale_and_quantize_int4_row(in, 128, 7.0F, scale, out);
    EXPECT_EQ(scale[0], 0.5F);
    EXPECT_EQ(out, (std::vector<uint8_t>{0x79, 0x20, 0x0e}));
    const std::vector<float> inverse = {2.0F};
    const std::vector<float> ties = {-3.75F, 3.75F, 0.25F, 0.75F, kNan};
    quantize_int4_row(ties, 6, inverse, out);  // −7.5, 7.5, 0.5, 1.5, NaN
    EXPECT_EQ(out, (std::vector<uint8_t>{0x78, 0x20, 0x00}));
  });
}

TEST(Int4, AllEqualGroupHasItsExactScale) {
  for_each_target([] {
    const std::vector<float> in(256, 0.875F);
    std::vector<float> scale(2);
    std::vector<uint8_t> out(128);
    scale_and_quantize_int4_row(in, 128, 7.0F, scale, out);
    EXPECT_EQ(scale, (std::vector<float>{0.125F, 0.125F}));
    EXPECT_EQ(out, std::vector<uint8_t>(128, 0x77));
  });
}

}  // namespace
}  // namespace pare
