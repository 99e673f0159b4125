// From token scores to figures: identities, slices, agreement among the most likely tokens.
#include "eval/divergence.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "eval/token_class.h"
#include "eval/top_tokens.h"
#include "tests/eval/eval_fixture.h"

namespace pare::testing {
namespace {

ScoredWindows windows(int64_t count, int64_t length) {
  TokenWindows tokens;
  tokens.count = count;
  tokens.length = length;
  tokens.ids.assign(static_cast<size_t>(count * length), 0);
  return scored_windows(std::move(tokens),
                        std::vector<ScoredRange>(static_cast<size_t>(count), {1, length}));
}

// A candidate whose losses are the baseline's and noise.
struct Pair {
  TokenScores baseline;
  TokenScores candidate;
};

Pair random_pair(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::exponential_distribution<float> loss(0.5F);
  std::normal_distribution<float> noise(0.01F, 0.1F);
  Pair pair;
  for (size_t i = 0; i < count; ++i) {
    pair.baseline.nll.push_back(loss(random));
    pair.candidate.nll.push_back(std::max(0.0F, pair.baseline.nll.back() + noise(random)));
    pair.candidate.kl.push_back(0.01F * loss(random));
    pair.candidate.same_top.push_back(random() % 10 != 0);
    pair.candidate.common_top5.push_back(static_cast<uint8_t>(random() % 6));
  }
  return pair;
}

double mean(const std::vector<float>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

TEST(Divergence, FiguresAreWhatTheyAreCalled) {
  constexpr uint32_t kSeed = 7;
  SCOPED_TRACE(kSeed);
  const ScoredWindows text = windows(20, 33);
  const Pair pair = random_pair(text.scores(), kSeed);
  const PerplexityResult found = summarize_candidate(pair.candidate, pair.baseline, text, {});
  EXPECT_NEAR(found.ppl.value, std::exp(mean(pair.candidate.nll)), 1e-9);
  EXPECT_NEAR(found.ratio.value, std::exp(mean(pair.candidate.nll) - mean(pair.baseline.nll)),
              1e-9);
  EXPECT_NEAR(found.log_ratio.value, std::log(found.ratio.value), 1e-12);
  EXPECT_NEAR(found.difference.value, found.ppl.value - found.ppl.value / found.ratio.value, 1e-9);
  EXPECT_GT(found.correlation, 0.5);
  const Divergence& d = found.divergence;
  EXPECT_NEAR(d.kl_mean.value, mean(pair.candidate.kl), 1e-9);
  EXPECT_EQ(d.kl_max, *std::max_element(pair.candidate.kl.begin(), pair.candidate.kl.end()));
  std::vector<float> sorted = pair.candidate.kl;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_NEAR(d.kl_p90.value, sorted[static_cast<size_t>(0.9 * 639)], 0.01 * d.kl_p90.value);
  EXPECT_LE(d.kl_median.value, d.kl_p90.value);
  EXPECT_LE(d.kl_p90.value, d.kl_p95.value);
  EXPECT_LE(d.kl_p95.value, d.kl_p99.value);
  EXPECT_LE(d.kl_p99.value, d.kl_p999.value);
  EXPECT_LE(d.kl_p999.value, d.kl_max);
  double change = 0;
  double squares = 0;
  double agree = 0;
  double common = 0;
  for (size_t i = 0; i < text.scores(); ++i) {
    const double p = std::exp(-static_cast<double>(pair.candidate.nll[i])) -
                     std::exp(-static_cast<double>(pair.baseline.nll[i]));
    change += p;
    squares += p * p;
    agree += pair.candidate.same_top[i];
    common += pair.candidate.common_top5[i] / 5.0;
  }
  const auto n = static_cast<double>(text.scores());
  EXPECT_NEAR(d.delta_p_mean.value, change / n, 1e-7);
  EXPECT_NEAR(d.delta_p_rms.value, std::sqrt(squares / n), 1e-7);
  EXPECT_NEAR(d.top1_agreement.value, agree / n, 1e-12);
  EXPECT_NEAR(d.top5_agreement.value, common / n, 1e-12);
  for (const Measured& figure : {found.ppl, found.ratio, d.kl_mean, d.kl_p90, d.top5_agreement}) {
    EXPECT_GT(figure.standard_error, 0);
    ASSERT_TRUE(figure.interval);
    EXPECT_TRUE(figure.interval->contains(figure.value));
  }
}

TEST(Divergence, SlicesPartTheTokens) {
  const ScoredWindows text = windows(20, 33);
  const Pair pair = random_pair(text.scores(), 8);
  ScoreClasses classes(text.scores());
  for (size_t i = 0; i < classes.size(); ++i) classes[i] = static_cast<uint8_t>(i % 3);
  const Divergence found =
      summarize_candidate(pair.candidate, pair.baseline, text, classes).divergence;
  std::vector<std::string> names;
  for (const DivergenceSlice& slice : found.by_position) names.push_back(slice.name);
  EXPECT_THAT(names, ::testing::ElementsAre("1", "2–3", "4–7", "8–15", "16–31", "32"));
  EXPECT_EQ(found.by_token_class.size(), 3U);
  EXPECT_EQ(found.by_token_class[1].name, kTokenClassNames[1]);
  for (const auto& slices : {found.by_position, found.by_token_class}) {
    int64_t tokens = 0;
    double kl = 0;
    for (const DivergenceSlice& slice : slices) {
      tokens += slice.tokens;
      kl += slice.kl_mean.value * static_cast<double>(slice.tokens);
    }
    EXPECT_EQ(tokens, static_cast<int64_t>(text.scores()));
    EXPECT_NEAR(kl / static_cast<double>(tokens), found.kl_mean.value, 1e-12);
  }
  EXPECT_EQ(std::accumulate(found.kl_histogram.counts.begin(), found.kl_histogram.counts.end(),
                            int64_t{0}),
            static_cast<int64_t>(text.scores()));
}

TEST(Divergence, AModelIsItself) {
  for (const int64_t count : {1, 2, 9}) {
    const ScoredWindows text = windows(count, 9);
    Pair pair = random_pair(text.scores(), 9);
    pair.candidate.nll = pair.baseline.nll;
    std::fill(pair.candidate.kl.begin(), pair.candidate.kl.end(), 0.0F);
    std::fill(pair.candidate.same_top.begin(), pair.candidate.same_top.end(), uint8_t{1});
    std::fill(pair.candidate.common_top5.begin(), pair.candidate.common_top5.end(), uint8_t{5});
    const PerplexityResult found = summarize_candidate(pair.candidate, pair.baseline, text, {});
    EXPECT_EQ(found.ratio.value, 1);
    EXPECT_EQ(found.ratio.standard_error, 0);
    EXPECT_EQ(found.difference.value, 0);
    EXPECT_EQ(found.divergence.kl_mean.value, 0);
    EXPECT_EQ(found.divergence.kl_max, 0);
    EXPECT_EQ(found.divergence.kl_p999.value, 0);
    EXPECT_EQ(found.divergence.delta_p_rms.value, 0);
    EXPECT_EQ(found.divergence.top1_agreement.value, 1);
    EXPECT_EQ(found.divergence.top5_agreement.value, 1);
    if (count == 9) {
      EXPECT_THAT(found.verdict, ::testing::HasSubstr("identical"));
    }
    EXPECT_EQ(found.divergence.kl_histogram.counts[0], found.tokens);
  }
}

TEST(Divergence, HistogramHasAPlaceForEverything) {
  const Histogram found = kl_histogram({0.0F, 1e-9F, 1e-6F, 0.9F, 1.0F, 1e9F});
  ASSERT_EQ(found.edges.size(), found.counts.size() + 1);
  EXPECT_TRUE(std::is_sorted(found.edges.begin(), found.edges.end()));
  // The float nearest to 1e-6 is below it.
  EXPECT_EQ(found.counts.front(), 3);
  EXPECT_EQ(found.counts.back(), 1);
  EXPECT_EQ(std::accumulate(found.counts.begin(), found.counts.end(), int64_t{0}), 6);
}

TEST(TopTokens, AreThoseOfASort) {
  constexpr uint32_t kSeed = 3;
  SCOPED_TRACE(kSeed);
  std::mt19937 random(kSeed);
  for (const size_t size : {1U, 4U, 5U, 6U, 511U, 512U, 513U, 3000U}) {
    for (int repeat = 0; repeat < 20; ++repeat) {
      std::vector<float> logits(size);
      // Few different values, so that equal ones are common.
      for (float& logit : logits) logit = static_cast<float>(random() % 50) - 25;
      std::vector<int32_t> order(size);
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
      });
      const auto found = top_tokens(logits);
      for (size_t i = 0; i < kTopTokens; ++i) {
        EXPECT_EQ(found[i], i < size ? order[i] : -1) << size << " " << i;
      }
    }
  }
}

TEST(TopTokens, NegativeInfinityCountsAndNanDoesNot) {
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(top_tokens(std::vector<float>{-inf, std::nanf(""), 1, -inf}),
            (std::array<int32_t, 5>{2, 0, 3, -1, -1}));
  EXPECT_EQ(common_tokens({1, 2, 3, -1, -1}, {3, 1, 7, -1, -1}), 2);
}

TEST(TokenClass, ByWhatATokenSpells) {
  const auto name = [](std::string_view text) { return kTokenClassNames[token_class(text)]; };
  EXPECT_EQ(name(" the"), "word start");
  EXPECT_EQ(name("ing"), "word continuation");
  EXPECT_EQ(name(" 1984"), "number");
  EXPECT_EQ(name("7"), "number");
  EXPECT_EQ(name(" ("), "punctuation");
  EXPECT_EQ(name("'s"), "punctuation");
  EXPECT_EQ(name("\n\n"), "white space");
  EXPECT_EQ(name(" "), "white space");
  EXPECT_EQ(name("  "), "white space");
  EXPECT_EQ(name(" é"), "other script");
  EXPECT_EQ(name("\xe4"), "other script");
  EXPECT_EQ(name(""), "special");
}

}  // namespace
}  // namespace pare::testing
