// The self-check: intervals of simulated data with a known loss must cover it as often as they say.
//
// 2,000 trials each, with a fixed seed, which is printed. An exact 95 % interval covers in 94 … 96
// % of such runs (two standard errors of the count); 93 … 97 % is asked for.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "eval/distribution.h"
#include "eval/intervals.h"

namespace pare {
namespace {

constexpr size_t kTrials = 2000;
constexpr uint64_t kSeed = 20240611;

/// Questions of MMLU's 57 test subjects in alphabetical order: 14,042 in all.
constexpr uint32_t kSubjectSizes[] = {
    100, 135, 152, 100, 265, 144, 100, 100, 100, 173, 102,  100, 235, 114, 145, 378, 126, 100, 310,
    203, 100, 165, 198, 193, 390, 270, 238, 151, 545, 216,  204, 237, 223, 131, 121, 108, 163, 112,
    103, 234, 100, 783, 346, 895, 306, 311, 324, 282, 1534, 272, 612, 110, 245, 201, 100, 166, 171};

class Coverage {
 public:
  explicit Coverage(const char* name) : name_(name) {}
  Coverage(const Coverage&) = delete;
  Coverage& operator=(const Coverage&) = delete;
  ~Coverage() {
    std::printf("%s: %.2f %% of %zu intervals cover (seed %llu)\n", name_, 100 * share(), trials_,
                static_cast<unsigned long long>(kSeed));
  }

  void add(const std::optional<Interval>& interval, double truth) {
    ++trials_;
    covered_ += interval && interval->contains(truth);
  }
  double share() const { return static_cast<double>(covered_) / static_cast<double>(trials_); }
  void expect_nominal() const {
    EXPECT_EQ(trials_, kTrials);
    EXPECT_GE(share(), 0.93) << name_;
    EXPECT_LE(share(), 0.97) << name_;
  }

 private:
  const char* name_;
  size_t trials_ = 0;
  size_t covered_ = 0;
};

struct Answers {
  std::vector<uint8_t> candidate;
  std::vector<uint8_t> base;

  /// One question that is lost or gained with these probabilities, else equal in both.
  void add(std::mt19937_64& random, double lost, double gained) {
    const double u = std::uniform_real_distribution<double>(0, 1)(random);
    if (u < lost + gained) {
      base.push_back(u < lost);
      candidate.push_back(u >= lost);
    } else {
      const double rest = (u - lost - gained) / (1 - lost - gained);
      base.push_back(rest < 0.79);
      candidate.push_back(rest < 0.79);
    }
  }
};

TEST(Coverage, AccuracyOfIndependentQuestions) {
  std::mt19937_64 random(kSeed);
  Coverage difference("accuracy difference, 2 % flips, n = 2,000");
  Coverage relative("accuracy, relative, 2 % flips, n = 2,000");
  Coverage wilson("Wilson, n = 2,000");
  const Clusters clusters = Clusters::independent(2000);
  const double base = 0.0125 + 0.98 * 0.79;
  for (size_t trial = 0; trial < kTrials; ++trial) {
    Answers answers;
    for (int i = 0; i < 2000; ++i) answers.add(random, 0.0125, 0.0075);
    const AccuracyComparison found = compare_accuracy(answers.candidate, answers.base, clusters);
    difference.add(found.difference.interval, -0.005);
    relative.add(found.relative.interval, -0.005 / base);
    wilson.add(found.base_accuracy.interval, base);
  }
  difference.expect_nominal();
  relative.expect_nominal();
  wilson.expect_nominal();
}

TEST(Coverage, FewFlips) {
  // Some six flips a trial: estimate ± 1.96 SE would cover in some 90 %.
  std::mt19937_64 random(kSeed);
  Coverage difference("accuracy difference, 0.3 % flips, n = 2,000");
  const Clusters clusters = Clusters::independent(2000);
  for (size_t trial = 0; trial < kTrials; ++trial) {
    Answers answers;
    for (int i = 0; i < 2000; ++i) answers.add(random, 0.002, 0.001);
    difference.add(compare_accuracy(answers.candidate, answers.base, clusters).difference.interval,
                   -0.001);
  }
  difference.expect_nominal();
}

TEST(Coverage, AccuracyClusteredBySubject) {
  std::vector<uint32_t> subject;
  for (uint32_t i = 0; i < std::size(kSubjectSizes); ++i) {
    subject.insert(subject.end(), kSubjectSizes[i], i);
  }
  ASSERT_EQ(subject.size(), 14042);
  const Clusters clusters = Clusters::by_group(subject);
  ASSERT_EQ(clusters.count(), 57);
  const Clusters independent = Clusters::independent(subject.size());

  std::mt19937_64 random(kSeed);
  Coverage difference("accuracy difference, 57 unequal subjects");
  Coverage relative("accuracy, relative, 57 unequal subjects");
  Coverage naive("the same, wrongly taken as independent");
  // Each subject has a loss of its own: 0.5 points in the mean, 1.5 points standard deviation.
  std::normal_distribution<double> spread(0, 0.015);
  for (size_t trial = 0; trial < kTrials; ++trial) {
    Answers answers;
    for (const uint32_t size : kSubjectSizes) {
      const double effect = std::clamp(spread(random), -0.035, 0.035);
      const double lost = 0.0225 + 0.5 * effect;
      const double gained = 0.0175 - 0.5 * effect;
      for (uint32_t i = 0; i < size; ++i) answers.add(random, lost, gained);
    }
    const AccuracyComparison found = compare_accuracy(answers.candidate, answers.base, clusters);
    difference.add(found.difference.interval, -0.005);
    relative.add(found.relative.interval, -0.005 / (0.0225 + 0.96 * 0.79));
    naive.add(compare_accuracy(answers.candidate, answers.base, independent).difference.interval,
              -0.005);
  }
  difference.expect_nominal();
  relative.expect_nominal();
  // The clusters of this simulation matter.
  EXPECT_LT(naive.share(), 0.85);
}

TEST(Coverage, Wilson) {
  std::mt19937_64 random(kSeed);
  for (const size_t n : {100, 500, 13795}) {
    Coverage coverage(
        n == 100 ? "Wilson, p = 0.79, n = 100"
                 : (n == 500 ? "Wilson, p = 0.79, n = 500" : "Wilson, p = 0.79, n = 13,795"));
    std::binomial_distribution<size_t> right(n, 0.79);
    for (size_t trial = 0; trial < kTrials; ++trial) {
      coverage.add(wilson_interval(right(random), n), 0.79);
    }
    coverage.expect_nominal();
  }
}

TEST(Coverage, RatioOfPerplexities) {
  std::mt19937_64 random(kSeed);
  Coverage ratio("ratio of perplexities, 60 windows");
  Coverage weighted("ratio of perplexities, 60 documents of 16 to 112 tokens");
  Coverage difference("difference of perplexities, 60 windows");
  Coverage naive("the ratio, tokens wrongly taken as independent");
  std::normal_distribution<double> normal;
  const double truth = 0.005;
  for (size_t trial = 0; trial < kTrials; ++trial) {
    for (const bool equal : {true, false}) {
      std::vector<double> losses;
      std::vector<double> base_losses;
      std::vector<double> tokens;
      std::vector<double> all_losses;
      std::vector<double> all_base_losses;
      for (int window = 0; window < 60; ++window) {
        const int count = equal ? 64 : 16 + 96 * (window % 12) / 11;
        // Windows differ in difficulty and in how compression hurts them; so do tokens.
        const double hard = 2 + 0.3 * normal(random);
        const double hurt = truth + 0.02 * normal(random);
        double sum = 0;
        double base_sum = 0;
        for (int i = 0; i < count; ++i) {
          const double base = hard + normal(random);
          const double loss = base + hurt + 0.1 * normal(random);
          base_sum += base;
          sum += loss;
          if (equal) {
            all_base_losses.push_back(base);
            all_losses.push_back(loss);
          }
        }
        losses.push_back(sum / count);
        base_losses.push_back(base_sum / count);
        tokens.push_back(count);
      }
      const PerplexityComparison found = compare_perplexity(losses, base_losses, tokens);
      (equal ? ratio : weighted).add(found.ratio.interval, std::exp(truth));
      if (!equal) continue;
      difference.add(found.difference.interval, std::exp(2 + truth) - std::exp(2.0));
      naive.add(compare_perplexity(all_losses, all_base_losses).ratio.interval, std::exp(truth));
      EXPECT_GT(found.correlation, 0.9);
    }
  }
  ratio.expect_nominal();
  weighted.expect_nominal();
  difference.expect_nominal();
  EXPECT_LT(naive.share(), 0.85);
}

TEST(Coverage, DistributionOfClusteredValues) {
  std::mt19937_64 random(kSeed);
  Coverage mean("mean of a skewed figure, 60 windows");
  Coverage rms("its RMS");
  Coverage median("its median");
  Coverage upper("its 90 % quantile");
  Coverage tail("its 99 % quantile");
  std::normal_distribution<double> normal;
  // Log-normal tokens with a window effect: all moments and quantiles are known.
  const double variance = 0.2 * 0.2 + 0.4 * 0.4;
  const auto quantile = [&](double p) {
    return std::exp(std::sqrt(variance) * normal_quantile(p));
  };
  const std::vector<double> probabilities = {0.5, 0.9, 0.99};
  const Clusters clusters = Clusters::runs(60 * 64, 64);
  std::vector<float> values(clusters.size());
  for (size_t trial = 0; trial < kTrials; ++trial) {
    double window = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      if (i % 64 == 0) window = 0.2 * normal(random);
      values[i] = static_cast<float>(std::exp(window + 0.4 * normal(random)));
    }
    const DistributionSummary found = summarize(values, clusters, probabilities);
    mean.add(found.mean.interval, std::exp(variance / 2));
    rms.add(found.rms.interval, std::exp(variance));
    median.add(found.quantiles[0].measured.interval, 1);
    upper.add(found.quantiles[1].measured.interval, quantile(0.9));
    tail.add(found.quantiles[2].measured.interval, quantile(0.99));
  }
  mean.expect_nominal();
  rms.expect_nominal();
  median.expect_nominal();
  upper.expect_nominal();
  tail.expect_nominal();
}

// One large cluster among small ones knows little of the spread between clusters: intervals must be
// at least as wide as they say, however unequal clusters are.
TEST(Coverage, VeryUnequalClusters) {
  const std::vector<std::vector<size_t>> designs = {
      std::vector<size_t>(8, 50),
      {300, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20},
      {100, 100, 3, 3, 3, 3, 3, 3},
      {200, 5, 5, 5, 5, 5, 5, 5}};
  for (const std::vector<size_t>& sizes : designs) {
    const std::string name = "mean of " + std::to_string(sizes.size()) +
                             " clusters, the largest of " + std::to_string(sizes[0]);
    Coverage coverage(name.c_str());
    std::mt19937_64 random(kSeed);
    std::normal_distribution<double> normal(0, 1);
    for (size_t trial = 0; trial < kTrials; ++trial) {
      std::vector<double> values;
      std::vector<uint32_t> groups;
      for (size_t g = 0; g < sizes.size(); ++g) {
        const double effect = normal(random);
        for (size_t i = 0; i < sizes[g]; ++i) {
          values.push_back(effect + normal(random));
          groups.push_back(static_cast<uint32_t>(g));
        }
      }
      const Clusters clusters = Clusters::between(groups);
      const std::optional<Interval> interval =
          t_interval(clustered_estimate(values, clusters), clusters.effective_count());
      // No interval is one that holds everything.
      coverage.add(interval.value_or(Interval{-1e300, 1e300}), 0);
    }
    EXPECT_GE(coverage.share(), 0.92) << name;
  }
}

}  // namespace
}  // namespace pare
