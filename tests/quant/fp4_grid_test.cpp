// Grids of FP4, whose scales are themselves rounded, and of FP8 in blocks.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "core/dtype.h"
#include "core/fp4_rounding.h"
#include "pare/error.h"
#include "quant/clip_search.h"
#include "quant/gptq.h"
#include "quant/grid_rounding.h"
#include "quant/output_error.h"
#include "quant/weight_grid.h"
#include "tests/quant/random_layer.h"

namespace pare {
namespace {

constexpr GridSpec kNvfp4 = {
    .format = WeightFormat::kNvfp4, .group_size = kNvfp4Group, .global_scale = 0.03F / 2688};
constexpr GridSpec kMxfp4 = {.format = WeightFormat::kMxfp4, .group_size = kMxfp4Group};
constexpr GridSpec kFp8Blocks = {
    .format = WeightFormat::kFp8E4m3, .group_size = 16, .block_rows = 4};

bool is_stored(const GridSpec& spec, float scale) {
  if (spec.format == WeightFormat::kMxfp4) return std::ldexp(1.0F, std::ilogb(scale)) == scale;
  const float found = scale / spec.global_scale;
  return std::abs(nvfp4_scale(found) / found - 1) < 1e-6F;
}

TEST(Fp4Grid, ScalesAreOnesThatTheFormatStores) {
  const auto weight = test::random_weight(3, 9, 100);
  ThreadPool pool(2);
  const std::vector<float> gram(100, 1.0F);
  for (const GridSpec& spec : {kNvfp4, kMxfp4}) {
    for (const WeightGrid& grid :
         {absmax_grid(weight, 9, 100, spec), search_clip(weight, 9, 100, spec, gram, {}, pool)}) {
      EXPECT_EQ(grid.scale.size(), static_cast<size_t>(9 * grid.groups()));
      for (const float scale : grid.scale) EXPECT_TRUE(is_stored(spec, scale)) << scale;
    }
  }
}

TEST(Fp4Grid, MxScalesWithoutSearchClipNothing) {
  for (const float absmax : {6.0F, 6.01F, 5.9F, 1e-3F, 3.0F}) {
    std::vector<float> weight(32, 0.0F);
    weight[7] = -absmax;
    const WeightGrid grid = absmax_grid(weight, 1, 32, kMxfp4);
    EXPECT_LE(absmax / grid.scale[0], 6.0F) << absmax;
    EXPECT_GT(absmax / grid.scale[0], 3.0F) << absmax;
  }
}

// "Four over six": with the largest weight at 4 the others have finer steps near it.
TEST(Fp4Grid, TheSweepMapsTheLargestWeightToFourWhereThatIsBetter) {
  std::vector<float> weight(16, 0.0F);
  const std::vector<float> values = {4, 3, 3, 2, 1.5F, 1, 0.5F, -3};
  std::copy(values.begin(), values.end(), weight.begin());
  GridSpec spec = kNvfp4;
  spec.global_scale = 1;
  ThreadPool pool(1);
  const WeightGrid grid = search_clip(weight, 1, 16, spec, std::vector<float>(16, 1.0F), {}, pool);
  EXPECT_EQ(grid.scale[0], 1.0F);
  EXPECT_EQ(round_trip(grid, weight, pool), weight);
}

// Against all scales that there are.
TEST(Fp4Grid, TheSweepFindsTheBestOfAllScales) {
  const auto x = test::random_activations(5, 200, 32, 4);
  const auto gram = mean_gram(test::statistics_of(x, 200, 32).gram, 200);
  ThreadPool pool(2);
  for (const uint32_t seed : {1U, 2U, 3U}) {
    const auto weight = test::random_weight(seed, 8, 32);
    for (const GridSpec& spec : {kNvfp4, kMxfp4}) {
      const WeightGrid grid = search_clip(weight, 8, 32, spec, gram, {}, pool);
      const int64_t length = spec.group_size;
      for (int64_t row = 0; row < 8; ++row) {
        for (int64_t first = 0; first < 32; first += length) {
          const auto error = [&](float scale) {
            std::vector<float> delta(weight.begin() + row * 32 + first,
                                     weight.begin() + row * 32 + first + length);
            for (float& value : delta) value -= round_to_e2m1(value * (1.0F / scale)) * scale;
            double sum = 0;
            for (int64_t i = 0; i < length; ++i) {
              for (int64_t j = 0; j < length; ++j) {
                sum +=
                    static_cast<double>(delta[static_cast<size_t>(i)]) *
                    static_cast<double>(gram[static_cast<size_t>((first + i) * 32 + first + j)]) *
                    static_cast<double>(delta[static_cast<size_t>(j)]);
              }
            }
            return sum;
          };
          double best = HUGE_VAL;
          for (int code = 1; code < 255; ++code) {
            const bool mx = spec.format == WeightFormat::kMxfp4;
            if (!mx && code > 0x7e) break;
            if (mx && (code < 80 || code > 160)) continue;
            const auto bits = static_cast<uint8_t>(code);
            best = std::min(best,
                            error(mx ? e8m0_to_f32(bits) : e4m3_to_f32(bits) * spec.global_scale));
          }
          EXPECT_NEAR(error(grid.scale[grid.scale_index(row, first)]), best, 1e-5 * best)
              << test::seed_text(seed) << ", row " << row << ", column " << first;
        }
      }
    }
  }
}

TEST(Fp4Grid, EmptyAndTinyBlocks) {
  std::vector<float> weight(64, 0.0F);
  for (size_t i = 32; i < 64; ++i) weight[i] = 1e-30F;
  ThreadPool pool(1);
  for (const GridSpec& spec : {kNvfp4, kMxfp4}) {
    for (const WeightGrid& grid :
         {absmax_grid(weight, 2, 32, spec),
          search_clip(weight, 2, 32, spec, std::vector<float>(32, 1.0F), {}, pool)}) {
      for (const float scale : grid.scale) {
        EXPECT_TRUE(std::isfinite(1.0F / scale) && scale > 0);
        EXPECT_TRUE(is_stored(spec, scale));
      }
      for (size_t i = 0; i < 32; ++i) EXPECT_EQ(round_trip(grid, weight, pool)[i], 0.0F);
    }
  }
}

TEST(Fp4Grid, CodesAreThoseOfTheValues) {
  const auto weight = test::random_weight(8, 5, 80);
  ThreadPool pool(1);
  for (const GridSpec& spec : {kNvfp4, kMxfp4}) {
    const WeightGrid grid = absmax_grid(weight, 5, 80, spec);
    const auto codes = encode(grid, weight, pool);
    const auto values = round_trip(grid, weight, pool);
    for (size_t i = 0; i < codes.size(); ++i) {
      const auto row = static_cast<int64_t>(i) / 80;
      const auto column = static_cast<int64_t>(i) % 80;
      const float scale = grid.scale[grid.scale_index(row, column)];
      EXPECT_EQ(e2m1_to_f32(static_cast<uint8_t>(codes[i])) * scale, values[i]);
      EXPECT_EQ(round_to_grid(grid, row, column, weight[i]).code, codes[i]);
    }
  }
}

TEST(BlockGrid, EachBlockHasItsLargestMagnitude) {
  const auto weight = test::random_weight(4, 10, 40);  // blocks of 4 rows: 4, 4, 2
  const WeightGrid grid = absmax_grid(weight, 10, 40, kFp8Blocks);
  ASSERT_EQ(grid.scale.size(), 9U);
  for (int64_t block = 0; block < 9; ++block) {
    float absmax = 0;
    for (int64_t row = block / 3 * 4; row < std::min<int64_t>(10, block / 3 * 4 + 4); ++row) {
      for (int64_t i = block % 3 * 16; i < std::min<int64_t>(40, block % 3 * 16 + 16); ++i) {
        absmax = std::max(absmax, std::abs(weight[static_cast<size_t>(row * 40 + i)]));
      }
    }
    EXPECT_EQ(grid.scale[static_cast<size_t>(block)], absmax / 448.0F);
  }
  const GridSpec zero_points = {
      .format = WeightFormat::kInt4, .group_size = 16, .symmetric = false, .block_rows = 4};
  EXPECT_THROW(absmax_grid(weight, 10, 40, zero_points), Error);
}

// GPTQ takes these grids as they are, in activation order and, under a mask, column by column.
TEST(BlockGrid, GptqLosesLessThanRounding) {
  constexpr int64_t kRows = 40;
  constexpr int64_t kColumns = 160;
  const auto x = test::random_activations(6, 600, kColumns, 5);
  const auto sums = test::statistics_of(x, 600, kColumns).gram;
  const auto gram = mean_gram(sums, 600);
  const OrderedFactor factor = factorize_by_activation(sums, kColumns, 0.01, "layer");
  const auto weight = test::random_weight(7, kRows, kColumns);
  ThreadPool pool(2);
  for (const GridSpec& spec : {kNvfp4, kMxfp4, kFp8Blocks}) {
    const WeightGrid grid = search_clip(weight, kRows, kColumns, spec, gram, {}, pool);
    const auto error = [&](const std::vector<int8_t>& codes) {
      std::vector<float> delta = weight;
      for (size_t i = 0; i < delta.size(); ++i) {
        const auto column = static_cast<int64_t>(i) % kColumns;
        const float scale =
            grid.scale[grid.scale_index(static_cast<int64_t>(i) / kColumns, column)];
        const auto bits = static_cast<uint8_t>(codes[i]);
        delta[i] -= (is_fp4(spec.format) ? e2m1_to_f32(bits) : e4m3_to_f32(bits)) * scale;
      }
      return output_error(delta, kRows, kColumns, gram, pool);
    };
    EXPECT_LT(error(gptq_codes(weight, {}, grid, factor, pool)),
              0.8 * error(encode(grid, weight, pool)));
  }
}

}  // namespace
}  // namespace pare
