// Each sentence, word for word, and that it follows from the interval.
#include "eval/verdict.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace pare {
namespace {

VerdictInput points(double loss, double lower, double upper) {
  VerdictInput input;
  input.loss = loss;
  input.interval = Interval{lower, upper};
  input.n = 13795;
  return input;
}

TEST(Verdict, NoLoss) {
  const Verdict found = verdict(points(0.001, -0.0011, 0.0031));
  EXPECT_EQ(found.kind, VerdictKind::kNoDifference);
  EXPECT_EQ(found.sentence,
            "no loss detectable at n = 13,795 questions; a loss above 0.31 percentage points of "
            "accuracy is excluded at 95 %");
}

TEST(Verdict, LossInPointsAndRelative) {
  VerdictInput input = points(0.0052, 0.0031, 0.0074);
  input.clusters = 57;
  EXPECT_EQ(verdict(input).kind, VerdictKind::kLoss);
  EXPECT_EQ(verdict(input).sentence,
            "a loss of 0.52 percentage points of accuracy: between 0.31 and 0.74 at 95 % "
            "(n = 13,795 questions in 57 subjects)");
  input.unit = EffectUnit::kRelative;
  input.confidence = 0.999;
  input.clusters = 0;
  EXPECT_EQ(verdict(input).sentence,
            "a loss of 0.52 % of the baseline's accuracy: between 0.31 % and 0.74 % at "
            "99.9 % (n = 13,795 questions)");
}

TEST(Verdict, Gain) {
  const Verdict found = verdict(points(-0.0052, -0.0074, -0.0031));
  EXPECT_EQ(found.kind, VerdictKind::kGain);
  EXPECT_EQ(found.sentence,
            "a gain of 0.52 percentage points of accuracy: between 0.31 and 0.74 at 95 % "
            "(n = 13,795 questions)");
}

TEST(Verdict, Undecided) {
  VerdictInput input = points(0.005, -0.015, 0.025);
  input.n = 200;
  const Verdict found = verdict(input);
  EXPECT_EQ(found.kind, VerdictKind::kUndecided);
  EXPECT_EQ(found.sentence,
            "undecided at n = 200 questions: between a gain of 1.50 and a loss of 2.50 percentage "
            "points of accuracy at 95 %; about 800 questions would narrow this to ± 1.00 points");
}

TEST(Verdict, TooSmall) {
  VerdictInput input = points(0.5, 0.4, 0.6);
  input.n = 4;
  EXPECT_EQ(verdict(input).kind, VerdictKind::kUndecided);
  EXPECT_EQ(verdict(input).sentence,
            "undecided: n = 4 questions is too small; at least 10 questions are needed");
  input.n = 4000;
  input.clusters = 3;
  EXPECT_EQ(verdict(input).sentence,
            "undecided: n = 4,000 questions in 3 subjects is too small; at least 10 subjects are "
            "needed");
  input.n = 0;
  EXPECT_EQ(verdict(input).sentence, "undecided: no questions");
  VerdictInput without = points(0, 0, 0);
  without.interval.reset();
  EXPECT_EQ(verdict(without).kind, VerdictKind::kUndecided);
  EXPECT_NE(verdict(without).sentence.find("no finite interval"), std::string::npos);
}

TEST(Verdict, OnlyTheIntervalDecides) {
  // A positive estimate is no loss while 0 is inside, and the ends are inclusive.
  EXPECT_EQ(verdict(points(0.003, 0, 0.006)).kind, VerdictKind::kNoDifference);
  EXPECT_EQ(verdict(points(0.003, 1e-9, 0.006)).kind, VerdictKind::kLoss);
  EXPECT_EQ(verdict(points(-0.003, -0.006, 0)).kind, VerdictKind::kNoDifference);
  EXPECT_EQ(verdict(points(0.003, -0.001, 0.0100001)).kind, VerdictKind::kUndecided);
  EXPECT_EQ(verdict(points(0.003, -0.001, 0.01)).kind, VerdictKind::kNoDifference);
}

TEST(Verdict, RoundsOutward) {
  const std::string none = verdict(points(0, -0.003, 0.003101)).sentence;
  EXPECT_NE(none.find("above 0.32 "), std::string::npos) << none;
  const std::string loss = verdict(points(0.0052, 0.003199, 0.007301)).sentence;
  EXPECT_NE(loss.find("between 0.31 and 0.74"), std::string::npos) << loss;
  // A lower end that is not 0 is not printed as 0.
  const std::string small = verdict(points(0.003, 0.0000042, 0.006)).sentence;
  EXPECT_NE(small.find("between 0.0004 and 0.6000"), std::string::npos) << small;
  const std::string narrow = verdict(points(2e-6, -1e-6, 5e-6)).sentence;
  EXPECT_NE(narrow.find("above 0.00050 "), std::string::npos) << narrow;
}

TEST(Verdict, OfAnAccuracy) {
  std::vector<uint8_t> base(2000, 1);
  for (size_t i = 1500; i < 2000; ++i) base[i] = 0;
  const AccuracyComparison same = compare_accuracy(base, base, Clusters::independent(2000));
  EXPECT_EQ(verdict(verdict_input(same, EffectUnit::kPercentagePoints)).sentence,
            "no loss detectable at n = 2,000 questions; a loss above 0.20 percentage points of "
            "accuracy is excluded at 95 %");
  std::vector<uint8_t> worse = base;
  for (size_t i = 0; i < 300; ++i) worse[5 * i] = 0;
  const AccuracyComparison lost = compare_accuracy(worse, base, Clusters::runs(2000, 20));
  const VerdictInput input = verdict_input(lost, EffectUnit::kRelative);
  EXPECT_DOUBLE_EQ(input.loss, 0.2);
  EXPECT_EQ(input.clusters, 100);
  EXPECT_EQ(verdict(input).kind, VerdictKind::kLoss);
  EXPECT_EQ(verdict(verdict_input(compare_accuracy(base, worse, Clusters::runs(2000, 20)),
                                  EffectUnit::kRelative))
                .kind,
            VerdictKind::kGain);
}

TEST(Verdict, OfAPerplexity) {
  std::vector<double> base(20);
  std::vector<double> worse(20);
  for (size_t i = 0; i < 20; ++i) {
    base[i] = 2 + 0.1 * static_cast<double>(i % 7);
    worse[i] = base[i] + 0.01 + 0.001 * static_cast<double>(i % 3);
  }
  EXPECT_EQ(verdict(verdict_input(compare_perplexity(base, base))).sentence,
            "identical: the perplexity of each of 20 windows equals the baseline's exactly");
  EXPECT_EQ(verdict(verdict_input(compare_perplexity(base, base))).kind, VerdictKind::kIdentical);
  const Verdict found = verdict(verdict_input(compare_perplexity(worse, base)));
  EXPECT_EQ(found.kind, VerdictKind::kLoss);
  EXPECT_EQ(found.sentence.rfind("a rise of 1.10", 0), 0) << found.sentence;
  EXPECT_NE(found.sentence.find("% of the baseline's perplexity: between"), std::string::npos);
  EXPECT_EQ(verdict(verdict_input(compare_perplexity(base, worse))).kind, VerdictKind::kGain);
}

TEST(Verdict, Names) {
  EXPECT_STREQ(verdict_kind_name(VerdictKind::kNoDifference), "no_difference");
  EXPECT_STREQ(verdict_kind_name(VerdictKind::kUndecided), "undecided");
}

}  // namespace
}  // namespace pare
