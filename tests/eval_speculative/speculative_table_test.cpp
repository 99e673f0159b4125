// The tables about speculative decoding: every figure where it belongs, in 80 columns.
#include "tools/speculative_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "tools/table.h"

namespace pare::tools {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

SpeculativeDecoding decoding(double rate, int64_t best) {
  SpeculativeDecoding result;
  result.acceptance = {rate, 0.0123, Interval{rate - 0.02, rate}};
  for (int64_t i = 1; i <= kLongestDraft; ++i) {
    const double value = static_cast<double>(i) * rate;
    result.lengths.push_back({{value, 0.01, {}}, {1 + 10 * value, 0.01, {}}, value});
  }
  result.best_draft_length = best;
  return result;
}

SpeculativeReport report_of(const std::string& draft, size_t pairs) {
  SpeculativeReport report;
  report.drafts.resize(1);
  report.drafts[0].model.name = draft;
  report.targets.resize(1);
  report.targets[0].model.name = "a-target-with-a-name-of-some-length-int4-awq";
  for (size_t p = 0; p < pairs; ++p) {
    report.pairs.push_back({0, 0, 0.4321, decoding(1, 10), decoding(0.5, 0)});
  }
  report.method =
      "teacher-forced on the text, with γ and α, in words that go on for a while so "
      "that they take more than a line";
  report.tokens = 123456;
  report.windows = 24;
  report.precision = "bf16";
  report.kernel = "avx512_core_amx";
  report.warnings = {
      "W-TOKENIZER: some/model: its tokenizer.json differs from that of another "
      "model, whose token ids are used"};
  return report;
}

TEST(SpeculativeTable, FitsIntoEightyColumns) {
  const std::string text =
      render(report_of("a-draft-with-a-name-that-is-far-too-long-for-a-line", 12));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(display_width(line), 80U) << line;
}

TEST(SpeculativeTable, HoldsTheFigures) {
  const std::string text = render(report_of("small", 1));
  EXPECT_THAT(text, HasSubstr("small"));
  EXPECT_THAT(text, HasSubstr("0.432"));
  EXPECT_THAT(text, HasSubstr("100.00 ± 1.23"));
  EXPECT_THAT(text, HasSubstr("50.00 ± 1.23"));
  EXPECT_THAT(text, HasSubstr("sampling  1.00  2.00  3.00"));
  EXPECT_THAT(text, HasSubstr("10.0"));
  EXPECT_THAT(text, HasSubstr("none"));
  EXPECT_THAT(text, HasSubstr("Warning: W-TOKENIZER"));
  EXPECT_THAT(text, HasSubstr("123,456 positions in 24 windows"));
}

TEST(SpeculativeTable, SaysNothingOfAnErrorThatIsNotKnown) {
  SpeculativeReport report = report_of("small", 1);
  report.pairs[0].sampling.acceptance.interval.reset();
  report.pairs[0].greedy.acceptance.interval.reset();
  EXPECT_THAT(render(report), Not(HasSubstr("100.00 ±")));
}

TEST(SpeculativeTable, NamesFromHostileFilesCannotControlTheTerminal) {
  SpeculativeReport report = report_of("small\x1b[2J", 1);
  report.warnings.push_back("W-X: \x1b[31m");
  EXPECT_THAT(render(report), Not(HasSubstr("\x1b")));
}

}  // namespace
}  // namespace pare::tools
