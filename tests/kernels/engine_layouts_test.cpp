// The layouts of engines against vectors that were computed from their definitions, and round
// trips.
#include "kernels/engine_layouts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "kernels/codec.h"

namespace pare {
namespace {

using Words = std::vector<uint32_t>;
using Codes = std::vector<int8_t>;
using Bytes = std::vector<uint8_t>;

constexpr uint32_t kRandomSeed = 20261122;

Words bit_stream(const Codes& row, int bits) {
  const auto columns = static_cast<int64_t>(row.size());
  Words words(static_cast<size_t>(bit_stream_words(columns, bits)));
  pack_bit_stream(row, {1, columns}, bits, words);
  return words;
}

Bytes counting_up(int count) {
  Bytes codes(static_cast<size_t>(count));
  std::iota(codes.begin(), codes.end(), uint8_t{0});
  return codes;
}

Codes counting(int first, int count) {
  Codes codes(static_cast<size_t>(count));
  std::iota(codes.begin(), codes.end(), static_cast<int8_t>(first));
  return codes;
}

TEST(EngineLayouts, BitStreamsOfCompressedTensors) {
  EXPECT_EQ(bit_stream(counting(-8, 16), 4), (Words{0x76543210, 0xFEDCBA98}));
  EXPECT_EQ(bit_stream({-128, -1, 0, 127}, 8), (Words{0xFF807F00}));
  EXPECT_EQ(bit_stream({-4, -3, -2, -1, 0, 1, 2, 3, 0, 0, 0}, 3), (Words{0x24FAC688, 0x00000001}));
  EXPECT_EQ(bit_stream({-2, -1, 0, 1, -2, -1, 0, 1, -2, -1, 0, 1, -2, -1, 0, 1}, 2),
            (Words{0xE4E4E4E4}));
  EXPECT_EQ(bit_stream({-16, -1, 0, 15, 1, -5, 7}, 5), (Words{0xD71FC1E0, 0x00000005}));
}

TEST(EngineLayouts, AwqOrdersNibbles) {
  Words words(1);
  pack_awq(counting_up(8), {8, 1}, words);
  EXPECT_EQ(words, (Words{0x75316420}));
  pack_awq(Bytes(8, 8), {8, 1}, words);
  EXPECT_EQ(words, (Words{0x88888888}));
}

TEST(EngineLayouts, GptqPacksInputChannels) {
  Words words(1);
  pack_gptq(counting_up(8), {1, 8}, 4, words);
  EXPECT_EQ(words, (Words{0x76543210}));
  const Bytes symmetric(8, 8);
  pack_gptq_zeros(symmetric, {8, 1}, 4, 1, words);
  EXPECT_EQ(words, (Words{0x77777777}));
  pack_gptq_zeros(symmetric, {8, 1}, 4, 0, words);
  EXPECT_EQ(words, (Words{0x88888888}));
  pack_gptq_zeros(Bytes(4, 128), {4, 1}, 8, 1, words);
  EXPECT_EQ(words, (Words{0x7F7F7F7F}));
  // 32 codes of three bits fill three words: code 10 has its low two bits in the first.
  Bytes three(32, 0);
  three[10] = 7;
  three[21] = 5;
  Words triple(3);
  pack_gptq(three, {1, 32}, 3, triple);
  EXPECT_EQ(triple, (Words{0xC0000000, 0x80000001, 0x00000002}));
}

TEST(EngineLayouts, ModelOptPairsRows) {
  Bytes bytes(4);
  pack_row_pairs(Codes{1, -1, 7, -8, 2, 3, -2, 0}, {2, 4}, bytes);
  EXPECT_EQ(bytes, (Bytes{0x21, 0x3F, 0xE7, 0x08}));
}

TEST(EngineLayouts, GgmlNibblesAreHalvesOfABlock) {
  Codes codes(32);
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<int8_t>(i / 2);
  Bytes bytes(16);
  pack_ggml_nibbles(std::span<const int8_t, 32>(codes), std::span<uint8_t, 16>(bytes));
  EXPECT_EQ(bytes, (Bytes{0x80, 0x80, 0x91, 0x91, 0xA2, 0xA2, 0xB3, 0xB3, 0xC4, 0xC4, 0xD5, 0xD5,
                          0xE6, 0xE6, 0xF7, 0xF7}));
}

TEST(EngineLayouts, NumbersOfEightBitsAndFour) {
  const auto e4m3 = [](std::initializer_list<float> values) {
    Bytes bytes;
    for (const float value : values) bytes.push_back(f32_to_e4m3(value));
    return bytes;
  };
  EXPECT_EQ(e4m3({1, -1, 0.5F, 240, 256, 448}), (Bytes{0x38, 0xB8, 0x30, 0x77, 0x78, 0x7E}));
  EXPECT_EQ(e4m3({0x1p-9F, 0x1p-10F, 3 * 0x1p-10F, 0x1p-6F}), (Bytes{0x01, 0x00, 0x02, 0x08}));
  EXPECT_EQ(e4m3({1.0625F, 1.1875F, 500, 0.1F}), (Bytes{0x38, 0x3A, 0x7E, 0x1D}));
  Bytes packed;
  for (const auto& [low, high] :
       {std::pair{0.0F, 0.5F}, {1.0F, 1.5F}, {2.0F, 3.0F}, {4.0F, 6.0F}}) {
    packed.push_back(static_cast<uint8_t>(f32_to_e2m1(low) | f32_to_e2m1(high) << 4));
  }
  EXPECT_EQ(packed, (Bytes{0x10, 0x32, 0x54, 0x76}));
  // A scale of 1 / 7.5 that is stored in BF16 rounds both ends inwards.
  const float scale = round_to_bf16(1 / 7.5F);
  EXPECT_EQ(f32_to_bf16(1 / 7.5F), 0x3E09);
  EXPECT_EQ(scale, 0.1337890625F);
  EXPECT_EQ(std::nearbyint(1 / scale), 7);
  EXPECT_EQ(std::nearbyint(-1 / scale), -7);
  EXPECT_EQ(std::clamp(std::nearbyint(-7.5), -8.0, 7.0), -8);
}

TEST(EngineLayouts, FactorsOfNvfp4AreReciprocalsOfTheirReciprocals) {
  std::mt19937 random(kRandomSeed);
  std::lognormal_distribution<float> any(0, 4);
  for (int i = 0; i < 100000; ++i) {
    const float scale = nvfp4_global_scale(any(random));
    const float stored = 1 / scale;
    ASSERT_EQ(1 / stored, scale);
  }
  EXPECT_EQ(nvfp4_global_scale(0), 1);
}

// Where element (row, column) of AWQ and GPTQ lies, in the words of their definitions.
TEST(EngineLayouts, PlacesOfOneElement) {
  const MatrixSize size{24, 16};
  Bytes codes(static_cast<size_t>(size.count()), 0);
  codes[13 * 16 + 5] = 9;  // output channel 13, input channel 5
  Words awq(codes.size() / 8);
  pack_awq(codes, size, awq);
  // Row 5 of [16, 3], word 13 / 8; channel 5 of the eight is the nibble that holds 5.
  EXPECT_EQ(awq[5 * 3 + 1], 9U << (4 * 6));
  EXPECT_EQ(std::accumulate(awq.begin(), awq.end(), uint64_t{0}), uint64_t{9} << 24);
  Words gptq(codes.size() / 8);
  pack_gptq(codes, size, 4, gptq);
  EXPECT_EQ(gptq[0 * 24 + 13], 9U << (4 * 5));
  EXPECT_EQ(std::accumulate(gptq.begin(), gptq.end(), uint64_t{0}), uint64_t{9} << 20);
}

template <typename Code>
std::vector<Code> random_codes(int64_t count, int lowest, int highest) {
  std::mt19937 random(kRandomSeed);
  std::uniform_int_distribution<int> any(lowest, highest);
  std::vector<Code> codes(static_cast<size_t>(count));
  for (Code& code : codes) code = static_cast<Code>(any(random));
  return codes;
}

TEST(EngineLayouts, UnpackingGivesTheCodesBack) {
  SCOPED_TRACE("seed " + std::to_string(kRandomSeed));
  for (const MatrixSize size : {MatrixSize{8, 8}, MatrixSize{136, 72}, MatrixSize{64, 320}}) {
    const auto words_of = [&](auto pack, const auto& codes, size_t count) {
      Words words(count, 0xDEADBEEF);
      pack(codes, words);
      return words;
    };
    for (int bits = 1; bits <= 8; ++bits) {
      const MatrixSize odd{size.rows, size.columns - 3};
      const auto codes =
          random_codes<int8_t>(odd.count(), -(1 << (bits - 1)), (1 << (bits - 1)) - 1);
      const Words words =
          words_of([&](const Codes& in, Words& out) { pack_bit_stream(in, odd, bits, out); }, codes,
                   static_cast<size_t>(odd.rows * bit_stream_words(odd.columns, bits)));
      Codes back(codes.size());
      unpack_bit_stream(words, odd, bits, back);
      ASSERT_EQ(back, codes) << bits;
    }
    const auto unsigned_codes = random_codes<uint8_t>(size.count(), 0, 15);
    Bytes unsigned_back(unsigned_codes.size());
    unpack_awq(words_of([&](const Bytes& in, Words& out) { pack_awq(in, size, out); },
                        unsigned_codes, unsigned_codes.size() / 8),
               size, unsigned_back);
    EXPECT_EQ(unsigned_back, unsigned_codes);
    for (const int bits : {2, 3, 4, 8}) {
      const MatrixSize whole{64, size.columns / 32 * 32 + 32};
      const auto drawn = random_codes<uint8_t>(whole.count(), 0, (1 << bits) - 1);
      const size_t words = drawn.size() * static_cast<size_t>(bits) / 32;
      Bytes back(drawn.size());
      unpack_gptq(words_of([&](const Bytes& in, Words& out) { pack_gptq(in, whole, bits, out); },
                           drawn, words),
                  whole, bits, back);
      EXPECT_EQ(back, drawn) << bits;
      for (const int offset : {0, 1}) {
        unpack_gptq_zeros(
            words_of(
                [&](const Bytes& in, Words& out) { pack_gptq_zeros(in, whole, bits, offset, out); },
                drawn, words),
            whole, bits, offset, back);
        EXPECT_EQ(back, drawn) << bits;
      }
    }
    const auto signed_codes = random_codes<int8_t>(size.count(), -8, 7);
    Bytes bytes(signed_codes.size() / 2);
    Codes back(signed_codes.size());
    pack_row_pairs(signed_codes, size, bytes);
    unpack_row_pairs(bytes, size, back);
    EXPECT_EQ(back, signed_codes);
  }
  const auto block = random_codes<int8_t>(32, 0, 15);
  Bytes bytes(16);
  Codes back(32);
  pack_ggml_nibbles(std::span<const int8_t, 32>(block), std::span<uint8_t, 16>(bytes));
  unpack_ggml_nibbles(std::span<const uint8_t, 16>(bytes), std::span<int8_t, 32>(back));
  EXPECT_EQ(back, block);
}

}  // namespace
}  // namespace pare
