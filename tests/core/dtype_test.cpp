#include "core/dtype.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "core/fp4_rounding.h"

namespace pare {
namespace {

TEST(Bf16, AllPatternsRoundTrip) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto pattern = static_cast<uint16_t>(bits);
    const float value = bf16_to_f32(pattern);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(value))));
    } else {
      EXPECT_EQ(f32_to_bf16(value), pattern);
    }
  }
}

TEST(Bf16, TiesGoToEven) {
  EXPECT_EQ(round_to_bf16(1.0F + 0x1p-8F), 1.0F);
  EXPECT_EQ(round_to_bf16(1.0F + 3 * 0x1p-8F), 1.0F + 0x1p-6F);
  EXPECT_EQ(round_to_bf16(std::numeric_limits<float>::max()),
            std::numeric_limits<float>::infinity());
}

TEST(F16, AllPatternsRoundTrip) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto pattern = static_cast<uint16_t>(bits);
    const float value = f16_to_f32(pattern);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(value))));
    } else {
      EXPECT_EQ(f32_to_f16(value), pattern);
    }
  }
  EXPECT_EQ(f16_to_f32(f32_to_f16(65519.0F)), 65504.0F);
  EXPECT_TRUE(std::isinf(f16_to_f32(f32_to_f16(65520.0F))));
}

// OCP 8-bit floating point specification, table of E4M3 values.
TEST(E4m3, KnownValues) {
  EXPECT_EQ(e4m3_to_f32(0x7e), 448.0F);
  EXPECT_EQ(e4m3_to_f32(0x78), 256.0F);
  EXPECT_EQ(e4m3_to_f32(0x08), 0x1p-6F);
  EXPECT_EQ(e4m3_to_f32(0x07), 0.875F * 0x1p-6F);
  EXPECT_EQ(e4m3_to_f32(0x01), 0x1p-9F);
  EXPECT_TRUE(std::isnan(e4m3_to_f32(0x7f)));
  EXPECT_TRUE(std::isnan(e4m3_to_f32(0xff)));
}

TEST(E4m3, CodesRoundTripAndSaturate) {
  for (uint32_t code = 0; code < 256; ++code) {
    const auto byte = static_cast<uint8_t>(code);
    EXPECT_EQ(f32_to_e4m3(e4m3_to_f32(byte)), byte) << code;
  }
  EXPECT_EQ(f32_to_e4m3(1e9F), 0x7e);
  EXPECT_EQ(f32_to_e4m3(-std::numeric_limits<float>::infinity()), 0xfe);
  EXPECT_EQ(f32_to_e4m3(464.0F), 0x7e);
}

TEST(E4m3, NearestNeighbourWithTiesToEven) {
  for (uint32_t code = 0; code < 0x7e; ++code) {
    const float low = e4m3_to_f32(static_cast<uint8_t>(code));
    const float high = e4m3_to_f32(static_cast<uint8_t>(code + 1));
    const float middle = low + (high - low) / 2;
    EXPECT_EQ(f32_to_e4m3(std::nextafter(middle, 0.0F)), code);
    EXPECT_EQ(f32_to_e4m3(std::nextafter(middle, 1e9F)), code + 1);
    EXPECT_EQ(f32_to_e4m3(middle), code % 2 == 0 ? code : code + 1);
  }
}

// OCP Microscaling Formats 1.0, table of E2M1 values.
TEST(E2m1, CodesAndTies) {
  const std::vector<float> values = {0, 0.5F, 1, 1.5F, 2, 3, 4, 6};
  for (uint8_t code = 0; code < 16; ++code) {
    const float value = e2m1_to_f32(code);
    EXPECT_EQ(value, (code & 8) != 0 ? -values[code & 7] : values[code & 7]);
    EXPECT_EQ(f32_to_e2m1(value), code == 8 ? 0 : code) << "−0 is stored as 0";
  }
  // Halfway between two codes the even one is taken.
  for (uint8_t code = 0; code < 7; ++code) {
    const float middle = (values[code] + values[code + 1U]) / 2;
    const uint8_t even = code % 2 == 0 ? code : code + 1;
    EXPECT_EQ(f32_to_e2m1(middle), even);
    EXPECT_EQ(f32_to_e2m1(std::nextafter(middle, 0.0F)), code);
    EXPECT_EQ(f32_to_e2m1(std::nextafter(middle, 9.0F)), code + 1);
  }
  EXPECT_EQ(f32_to_e2m1(1e30F), 7);
  EXPECT_EQ(f32_to_e2m1(-std::numeric_limits<float>::infinity()), 15);
  EXPECT_EQ(f32_to_e2m1(std::nanf("")), 0);
}

TEST(E2m1, TheRoundingForLoopsIsTheSame) {
  std::mt19937 random(31);
  std::uniform_real_distribution<float> wide(-8, 8);
  for (int i = 0; i < 100000; ++i) {
    // Multiples of 1/16 hit every tie.
    const float value = i % 2 == 0 ? wide(random) : static_cast<float>(random() % 257) / 16 - 8;
    EXPECT_EQ(std::bit_cast<uint32_t>(round_to_e2m1(value)),
              std::bit_cast<uint32_t>(e2m1_to_f32(f32_to_e2m1(value))))
        << value;
  }
}

TEST(E8m0, PowersOfTwo) {
  for (int bits = 0; bits < 255; ++bits) {
    const auto byte = static_cast<uint8_t>(bits);
    EXPECT_EQ(e8m0_to_f32(byte), std::ldexp(1.0F, bits - 127));
    EXPECT_EQ(f32_to_e8m0(e8m0_to_f32(byte)), byte);
  }
  EXPECT_TRUE(std::isnan(e8m0_to_f32(255)));
}

}  // namespace
}  // namespace pare
