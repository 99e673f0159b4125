// A report that is written, read and written again has the same bytes.
#include <gtest/gtest.h>

#include <random>

#include "pare/evaluate.h"
#include "tests/eval_report/sample_report.h"

namespace pare {
namespace {

void expect_round_trip(const EvaluateReport& report, bool timings) {
  const std::string json = to_json(report, timings);
  EXPECT_EQ(to_json(evaluate_report_from_json(json, "report.json"), timings), json);
}

TEST(ReportRoundTrip, KeepsAReportWithEverything) {
  expect_round_trip(sample_report(), true);
  expect_round_trip(sample_report(), false);
}

TEST(ReportRoundTrip, KeepsABaselineAloneAndAnEmptyReport) {
  EvaluateReport report = sample_report();
  report.candidates.clear();
  expect_round_trip(report, true);
  expect_round_trip({}, true);
}

TEST(ReportRoundTrip, KeepsRandomReports) {
  const uint32_t seed = std::random_device()();
  for (uint32_t trial = 0; trial < 200; ++trial) {
    SCOPED_TRACE("seed " + std::to_string(seed + trial));
    expect_round_trip(random_report(seed + trial), trial % 2 == 0);
  }
}

TEST(ReportRoundTrip, ReadsTheValuesThatWereWritten) {
  const EvaluateReport report = sample_report();
  const EvaluateReport read = evaluate_report_from_json(to_json(report), "report.json");
  ASSERT_EQ(read.candidates.size(), 3U);
  const ModelResult& awq = read.candidates[1];
  EXPECT_EQ(awq.name, "awq");
  EXPECT_EQ(awq.bytes, report.candidates[1].bytes);
  const ChoiceResult& mmlu = awq.choices.at("mmlu");
  const ChoiceResult& expected = report.candidates[1].choices.at("mmlu");
  EXPECT_EQ(mmlu.lost, 120);
  EXPECT_EQ(mmlu.gained, 20);
  EXPECT_EQ(mmlu.relative_loss.value, expected.relative_loss.value);
  EXPECT_EQ(mmlu.relative_loss.interval->lower, expected.relative_loss.interval->lower);
  EXPECT_EQ(mmlu.relative_loss.interval->upper, expected.relative_loss.interval->upper);
  EXPECT_EQ(mmlu.groups.at(1).first, "virology");
  EXPECT_EQ(mmlu.groups.at(1).second.right, 90);
  const PerplexityResult& perplexity = awq.perplexities.at("perplexity");
  EXPECT_EQ(perplexity.divergence.by_position.at(4).name, "16–31");
  EXPECT_EQ(perplexity.divergence.kl_histogram.counts.at(1), 2000);
  EXPECT_EQ(perplexity.divergence.kl_p999.value,
            report.candidates[1].perplexities.at("perplexity").divergence.kl_p999.value);
  EXPECT_EQ(awq.layers.at(0).in_features, 14336);
  EXPECT_EQ(awq.layers.at(0).sqnr_db, 20.5);
  EXPECT_FALSE(awq.layers.at(13).sqnr_db.has_value());
  EXPECT_EQ(read.tasks.at(1).fewer_shots, 12);
  EXPECT_EQ(read.peak_rss_bytes, int64_t{3} << 30);
  EXPECT_EQ(read.warnings, report.warnings);
}

}  // namespace
}  // namespace pare
