// The weight that matches the original's output against the normal equations.
#include "quant/gptaq.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "pare/error.h"
#include "tests/quant/random_layer.h"

namespace pare {
namespace {

constexpr int64_t kTokens = 400;
constexpr int64_t kIn = 70;
constexpr int64_t kOut = 65;

struct Inputs {
  std::vector<float> compressed;  // x
  std::vector<float> original;    // x̃
  InputStatistics statistics;

  explicit Inputs(uint32_t seed, float distance) {
    compressed = test::random_activations(seed, kTokens, kIn, 4);
    const auto other = test::random_activations(seed + 1, kTokens, kIn, 4);
    original = compressed;
    for (size_t i = 0; i < original.size(); ++i) {
      original[i] = (1 - distance) * compressed[i] + distance * other[i];
    }
    statistics = test::statistics_of(compressed, kTokens, kIn);
    statistics.mismatch.assign(statistics.gram.size(), 0);
    constexpr auto n = static_cast<size_t>(kIn);
    for (size_t token = 0; token < kTokens; ++token) {
      for (size_t i = 0; i < n; ++i) {
        const double distance_of = static_cast<double>(original[token * n + i]) -
                                   static_cast<double>(compressed[token * n + i]);
        for (size_t j = 0; j < n; ++j) {
          statistics.mismatch[i * n + j] +=
              distance_of * static_cast<double>(compressed[token * n + j]);
        }
      }
    }
  }

  // Σ ‖ŵ x − w x̃‖²
  double error(const std::vector<float>& weight, const std::vector<float>& found) const {
    double sum = 0;
    for (int64_t token = 0; token < kTokens; ++token) {
      for (int64_t row = 0; row < kOut; ++row) {
        double y = 0;
        for (int64_t i = 0; i < kIn; ++i) {
          const auto at = static_cast<size_t>(token * kIn + i);
          const auto of = static_cast<size_t>(row * kIn + i);
          y += static_cast<double>(found[of]) * static_cast<double>(compressed[at]) -
               static_cast<double>(weight[of]) * static_cast<double>(original[at]);
        }
        sum += y * y;
      }
    }
    return sum;
  }
};

TEST(Gptaq, TheWholeCorrectionIsTheMinimum) {
  for (const uint32_t seed : {3U, 4U}) {
    SCOPED_TRACE(test::seed_text(seed));
    const Inputs inputs(seed, 0.3F);
    ThreadPool pool(2);
    const auto weight = test::random_weight(seed + 9, kOut, kIn);
    const auto correction = mismatch_correction(inputs.statistics, 1, 1e-9, "layer", pool);
    const auto best = match_original(weight, kOut, kIn, correction, pool);
    const double least = inputs.error(weight, best);
    EXPECT_LT(least, 0.9 * inputs.error(weight, weight));
    // A step to any side is worse.
    for (const uint32_t side : {1U, 2U, 3U, 4U}) {
      auto moved = best;
      const auto step = test::random_weight(side, kOut, kIn);
      for (size_t i = 0; i < moved.size(); ++i) moved[i] += 0.05F * step[i];
      EXPECT_GT(inputs.error(weight, moved), least) << side;
    }
    // A share of it lies on the line.
    const auto half = mismatch_correction(inputs.statistics, 0.5, 1e-9, "layer", pool);
    for (size_t i = 0; i < half.size(); ++i) ASSERT_FLOAT_EQ(half[i], 0.5F * correction[i]);
  }
}

TEST(Gptaq, EqualInputsNeedNoCorrection) {
  const Inputs inputs(5, 0);
  ThreadPool pool(1);
  const auto correction = mismatch_correction(inputs.statistics, 1, 0.01, "layer", pool);
  for (const float value : correction) ASSERT_EQ(value, 0);
  const auto weight = test::random_weight(6, kOut, kIn);
  EXPECT_EQ(match_original(weight, kOut, kIn, correction, pool), weight);
}

TEST(Gptaq, ThreadsDoNotChangeABit) {
  const Inputs inputs(7, 0.5F);
  ThreadPool one(1);
  ThreadPool three(3);
  EXPECT_EQ(mismatch_correction(inputs.statistics, 0.5, 0.01, "layer", one),
            mismatch_correction(inputs.statistics, 0.5, 0.01, "layer", three));
}

TEST(Gptaq, WhatIsNotFiniteIsNamed) {
  Inputs inputs(8, 0.5F);
  ThreadPool pool(1);
  inputs.statistics.mismatch[3] = std::numeric_limits<double>::quiet_NaN();
  try {
    mismatch_correction(inputs.statistics, 0.5, 0.01, "model.layers.3.mlp.down_proj", pool);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNonFinite);
    EXPECT_NE(std::string(error.what()).find("layers.3.mlp"), std::string::npos);
  }
}

}  // namespace
}  // namespace pare
