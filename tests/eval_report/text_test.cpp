// The table for a terminal: what it says, and that it fits, whatever a report holds.
#include <gmock/gmock.h>

#include <random>
#include <sstream>

#include "tests/eval_report/sample_report.h"
#include "tools/evaluation_figures.h"
#include "tools/evaluation_rows.h"
#include "tools/evaluation_table.h"
#include "tools/table.h"

namespace pare::tools {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string text_of(const std::vector<EvaluateReport>& reports) {
  return render(reports, TableFormat::kText);
}

void expect_fits(const std::string& text) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    EXPECT_LE(display_width(line), 80U) << line;
    EXPECT_FALSE(line.ends_with(' ')) << line;
    for (const char letter : line) EXPECT_GE(static_cast<unsigned char>(letter), 0x20) << line;
  }
}

TEST(EvaluationText, HasThePublishedTable) {
  const std::string text = render(sample_report());
  EXPECT_THAT(
      text,
      HasSubstr("Model     Method                    Baseline  After     Loss           95 %\n"
                "--------  ------------------------  --------  -----  -------  -------------\n"
                "llama-8b  FP8                          66.69  66.62   0.11 %   -0.19 … 0.40\n"));
  EXPECT_THAT(text, HasSubstr("llama-8b  INT4-AWQ + 2:4 SparseGPT     66.69  49.44  25.87 %"));
  EXPECT_THAT(text, HasSubstr("-2400 +20"));
  EXPECT_THAT(text, HasSubstr("1.03100 ± 0.00050"));
  EXPECT_THAT(text, HasSubstr("0.03100 ± 0.00062"));
  EXPECT_THAT(text,
              HasSubstr("INT4-AWQ: 16–31 0.155 (×1.155, n = 100), 8–15 0.124 (×1.124, n = 100),\n"
                        "4–7 0.093"));
  EXPECT_THAT(text, HasSubstr("4 other linears have no larger divergence."));
  EXPECT_THAT(text, HasSubstr("exact"));
  EXPECT_THAT(text, HasSubstr("Warning: W-LEAK"));
  EXPECT_THAT(text, HasSubstr("peak memory 3.0 GiB"));
  EXPECT_THAT(text, HasSubstr("12 questions fitted with fewer examples only."));
  expect_fits(text);
}

TEST(EvaluationText, FitsWhateverTheReportHolds) {
  const uint32_t seed = std::random_device()();
  for (uint32_t trial = 0; trial < 100; ++trial) {
    SCOPED_TRACE("seed " + std::to_string(seed + 2 * trial));
    expect_fits(text_of({random_report(seed + 2 * trial), random_report(seed + 2 * trial + 1)}));
  }
}

TEST(EvaluationText, LongNamesAreShortenedInTheMiddle) {
  EvaluateReport report = sample_report("a-model-with-a-name-that-is-longer-than-a-line-" +
                                        std::string(100, 'x') + "-7b");
  report.candidates[0].qformat = "format\x1b[31m\n" + std::string(100, 'y') + "|end";
  const std::string text = render(report);
  expect_fits(text);
  EXPECT_THAT(text, HasSubstr("…"));
  EXPECT_THAT(text, HasSubstr("66.69"));
}

TEST(EvaluationText, ABaselineAloneHasATable) {
  EvaluateReport report = sample_report();
  report.candidates.clear();
  const std::string text = render(report);
  EXPECT_THAT(text, HasSubstr("llama-8b  BF16"));
  EXPECT_THAT(text, HasSubstr("6.2400"));
  EXPECT_THAT(text, HasSubstr("66.69"));
  EXPECT_THAT(text, Not(HasSubstr("Divergence")));
  expect_fits(text);
  expect_fits(render(EvaluateReport{}));
}

TEST(EvaluationRows, ReportsOfOneBaselineComeTogether) {
  EvaluateReport first = sample_report();
  EvaluateReport second = sample_report();
  first.candidates.pop_back();
  second.candidates.erase(second.candidates.begin());
  const std::vector<EvaluateReport> reports = {first, second};
  const std::vector<TaskRows> tasks = task_rows(reports);
  ASSERT_EQ(tasks.size(), 2U);
  for (const TaskRows& task : tasks) {
    ASSERT_EQ(task.baselines.size(), 1U);
    std::vector<std::string> methods;
    for (const CandidateRow& row : task.baselines[0].candidates) methods.push_back(row.method);
    EXPECT_THAT(methods, ::testing::ElementsAre("FP8", "INT4-AWQ", "INT4-AWQ + 2:4 SparseGPT"));
  }
}

TEST(EvaluationRows, OtherBaselinesAndOtherDataStayApart) {
  EvaluateReport limited = sample_report();
  limited.tasks[1].data_sha256 = std::string(64, '9');
  const std::vector<EvaluateReport> reports = {sample_report(), sample_report("llama-70b"),
                                               limited};
  const std::vector<TaskRows> tasks = task_rows(reports);
  ASSERT_EQ(tasks[0].baselines.size(), 2U);
  EXPECT_EQ(tasks[0].baselines[1].model, "llama-70b");
  ASSERT_EQ(tasks[1].baselines.size(), 3U);
  EXPECT_EQ(tasks[1].baselines[2].model, "llama-8b #2");
  EXPECT_EQ(tasks[1].baselines[2].candidates.size(), 3U);
  const std::string text = text_of(reports);
  EXPECT_THAT(text, HasSubstr("were not measured alike"));
  EXPECT_THAT(text_of({sample_report(), sample_report("llama-70b")}),
              Not(HasSubstr("were not measured alike")));
}

TEST(EvaluationRows, MethodsOfTheSameNameSayTheirFile) {
  EvaluateReport report = sample_report();
  report.candidates[2].sparsity = "none";
  report.candidates.push_back(report.candidates[2]);
  const std::vector<TaskRows> tasks = task_rows(std::span(&report, 1));
  const auto& rows = tasks[1].baselines[0].candidates;
  EXPECT_EQ(rows[0].method, "FP8");
  EXPECT_EQ(rows[1].method, "INT4-AWQ (awq)");
  EXPECT_EQ(rows[2].method, "INT4-AWQ (awq-24)");
  EXPECT_EQ(rows[3].method, "INT4-AWQ (awq-24) #2");
}

TEST(EvaluationRows, MethodLabels) {
  const auto label = [](const char* qformat, const char* sparsity, const char* kv_cache = "none") {
    ModelResult model;
    model.qformat = qformat;
    model.sparsity = sparsity;
    model.kv_cache = kv_cache;
    return method_label(model);
  };
  EXPECT_EQ(label("int8_sq", "none"), "INT8-SQ");
  EXPECT_EQ(label("full_prec", "none"), "BF16");
  EXPECT_EQ(label("full_prec", "wanda"), "2:4 Wanda");
  EXPECT_EQ(label("full_prec", "ria"), "2:4 RIA");
  EXPECT_EQ(label("bf16", "magnitude"), "2:4 magnitude");
  EXPECT_EQ(label("fp8", "none", "fp8"), "FP8 + KV FP8");
  EXPECT_EQ(label("full_prec", "none", "int8"), "BF16 + KV INT8");
  EXPECT_EQ(label("w4a8_awq", "later"), "W4A8-AWQ + 2:4 later");
}

TEST(EvaluationFigures, AreAsLongAsTheirErrorAllows) {
  EXPECT_EQ(with_error({0.99199, 0.00258, {}}), "0.9920 ± 0.0026");
  EXPECT_EQ(with_error({1234.5678, 12.3, {}}), "1235 ± 12");
  EXPECT_EQ(with_error({0.0000135, 0.00000021, {}}), "(1.350 ± 0.021)e-05");
  EXPECT_EQ(with_error({1, 0, {}}), "1");
  EXPECT_EQ(with_error({0.9432, 0.0051, {}}, 100), "94.32 ± 0.51");
  EXPECT_EQ(fixed(-0.001, 2), "0.00");
  EXPECT_EQ(fixed(1e300, 2), "1.00e+300");
  EXPECT_EQ(fixed(std::nan(""), 2), "-");
  EXPECT_EQ(number(-0.0), "0");
  EXPECT_EQ(number(0.00022131), "0.0002213");
  EXPECT_EQ(percent_sign(0.0042), "0.42 %");
  EXPECT_EQ(percent_range(Interval{-0.001, 0.0074}), "-0.10 … 0.74");
  EXPECT_EQ(percent_range(std::nullopt), "-");
  EXPECT_EQ(p_value(0), "<1e-300");
}

TEST(EvaluationFigures, StayNarrowAtAnySize) {
  for (int value = -320; value <= 308; value += 7) {
    for (int error = -320; error <= 308; error += 7) {
      const Measured figure{-9.9999999 * std::pow(10, value), 9.9999999 * std::pow(10, error), {}};
      EXPECT_LE(display_width(with_error(figure)), 24U) << with_error(figure);
    }
  }
}

}  // namespace
}  // namespace pare::tools
