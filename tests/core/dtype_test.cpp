#include "core/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

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

}  // namespace
}  // namespace pare
