// The table for programs, read back by a reader of RFC 4180.
#include <gmock/gmock.h>

#include <map>
#include <random>

#include "tests/eval_report/sample_report.h"
#include "tools/evaluation_table.h"

namespace pare::tools {
namespace {

using Records = std::vector<std::vector<std::string>>;

// Fails on a quote within a plain cell and on a line end that is not CRLF.
Records parse(const std::string& text) {
  Records records(1, {""});
  bool inside = false;
  for (size_t i = 0; i < text.size(); ++i) {
    std::string& cell = records.back().back();
    if (inside) {
      if (text[i] != '"') {
        cell += text[i];
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        cell += text[i++];
      } else {
        inside = false;
      }
    } else if (text[i] == '"') {
      EXPECT_TRUE(cell.empty());
      inside = true;
    } else if (text[i] == ',') {
      records.back().emplace_back();
    } else if (text[i] == '\r') {
      EXPECT_EQ(text.substr(i, 2), "\r\n");
      ++i;
      if (i + 1 < text.size()) records.push_back({""});
    } else {
      EXPECT_NE(text[i], '\n');
      cell += text[i];
    }
  }
  EXPECT_FALSE(inside);
  return records;
}

std::vector<std::map<std::string, std::string>> table_of(const EvaluateReport& report) {
  const Records records = parse(render(std::span(&report, 1), TableFormat::kCsv));
  std::vector<std::map<std::string, std::string>> rows;
  for (size_t r = 1; r < records.size(); ++r) {
    EXPECT_EQ(records[r].size(), records[0].size());
    std::map<std::string, std::string>& row = rows.emplace_back();
    for (size_t i = 0; i < std::min(records[0].size(), records[r].size()); ++i) {
      row[records[0][i]] = records[r][i];
    }
    EXPECT_EQ(row.size(), records[0].size()) << "a name twice in the header";
  }
  return rows;
}

TEST(EvaluationCsv, HasARowForEachTaskAndModelWithAllDigits) {
  const EvaluateReport report = sample_report();
  const auto rows = table_of(report);
  ASSERT_EQ(rows.size(), 8U);
  EXPECT_EQ(rows[0].at("role"), "baseline");
  EXPECT_EQ(rows[0].at("after"), "6.24");
  EXPECT_EQ(rows[0].at("relative_loss"), "");
  EXPECT_EQ(rows[0].at("kl_mean"), "");
  const PerplexityResult& awq = report.candidates[1].perplexities.at("perplexity");
  EXPECT_EQ(rows[2].at("method"), "INT4-AWQ");
  EXPECT_EQ(std::stod(rows[2].at("ppl_ratio")), awq.ratio.value);
  EXPECT_EQ(std::stod(rows[2].at("relative_loss")), awq.ratio.value - 1);
  EXPECT_EQ(std::stod(rows[2].at("kl_p999_upper")), awq.divergence.kl_p999.interval->upper);
  EXPECT_EQ(rows[2].at("n"), "");
  const ChoiceResult& mmlu = report.candidates[2].choices.at("mmlu");
  EXPECT_EQ(rows[7].at("task"), "mmlu");
  EXPECT_EQ(rows[7].at("lost"), "2400");
  EXPECT_EQ(std::stod(rows[7].at("baseline")), 9200.0 / 13795);
  EXPECT_EQ(std::stod(rows[7].at("relative_loss")), mmlu.relative_loss.value);
  EXPECT_EQ(std::stod(rows[7].at("relative_loss_lower")), mmlu.relative_loss.interval->lower);
  EXPECT_EQ(rows[7].at("kl_mean"), "");
  EXPECT_EQ(rows[7].at("convention"), report.tasks[1].method);
}

TEST(EvaluationCsv, AnIntervalThatIsAbsentIsEmpty) {
  EvaluateReport report = sample_report();
  report.candidates[0].perplexities.at("perplexity").ratio.interval.reset();
  const auto rows = table_of(report);
  EXPECT_EQ(rows[1].at("ppl_ratio_lower"), "");
  EXPECT_EQ(rows[1].at("relative_loss_upper"), "");
  EXPECT_NE(rows[1].at("relative_loss"), "");
}

TEST(EvaluationCsv, TextIsNeverAFormula) {
  for (const char first : {'=', '+', '-', '@'}) {
    EvaluateReport report = sample_report(first + std::string("cmd|'/c calc'!A1,\"x\"\r\n"));
    const auto rows = table_of(report);
    EXPECT_EQ(rows[1].at("model"), std::string("'") + first + "cmd|'/c calc'!A1,\"x\"  ");
  }
  EvaluateReport report = sample_report("\t=1");
  EXPECT_THAT(table_of(report)[1].at("model"), ::testing::StartsWith("'"));
}

TEST(EvaluationCsv, IsWellFormedWhateverTheReportHolds) {
  const uint32_t seed = std::random_device()();
  for (uint32_t trial = 0; trial < 100; ++trial) {
    SCOPED_TRACE("seed " + std::to_string(seed + trial));
    const EvaluateReport report = random_report(seed + trial);
    EXPECT_EQ(table_of(report).size(), report.tasks.size() * (1 + report.candidates.size()));
  }
}

}  // namespace
}  // namespace pare::tools
