// The table for documents.
#include <gmock/gmock.h>

#include <random>
#include <sstream>

#include "tests/eval_report/sample_report.h"
#include "tools/evaluation_table.h"
#include "tools/table.h"

namespace pare::tools {
namespace {

using ::testing::HasSubstr;

std::string markdown_of(const EvaluateReport& report) {
  return render(std::span(&report, 1), TableFormat::kMarkdown);
}

// Bars that separate cells; an escaped one does not.
size_t bars(const std::string& line) {
  size_t count = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\\') {
      ++i;
    } else if (line[i] == '|') {
      ++count;
    }
  }
  return count;
}

// All lines of a table have as many cells as its header.
void expect_well_formed(const std::string& text) {
  std::istringstream lines(text);
  size_t expected = 0;
  size_t rows = 0;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with('|')) {
      EXPECT_NE(rows, 1U) << line;
      expected = rows = 0;
      EXPECT_EQ(bars(line), 0U) << line;
      continue;
    }
    if (rows++ == 0) expected = bars(line);
    EXPECT_EQ(bars(line), expected) << line;
  }
}

TEST(EvaluationMarkdown, HasEverything) {
  const std::string text = markdown_of(sample_report());
  EXPECT_THAT(text,
              HasSubstr("| Model | Method | bits | Baseline | After | Loss | 95 % | points |"));
  EXPECT_THAT(text, HasSubstr("| llama-8b | FP8 | 8.030 | 66.69 (66.01 … 67.37) | 66.62 (65.94 … "
                              "67.30) | 0.11 % | -0.19 … 0.40 | -0.07 | -0.27 … 0.12 | -30 +20 |"));
  EXPECT_THAT(text, HasSubstr("| INT4-AWQ | 16–31 | 100 | 20.0000 | 1.1550 ± 0.0010 |"));
  EXPECT_THAT(text, HasSubstr("byte \\| other"));
  EXPECT_THAT(text, HasSubstr("| virology | 166 | 54.22 |"));
  for (int layer = 0; layer < 14; ++layer) {
    EXPECT_THAT(text, HasSubstr("model.layers." + std::to_string(layer) + ".mlp.down_proj | "));
  }
  EXPECT_THAT(text, HasSubstr("4096 × 14336"));
  EXPECT_THAT(text, HasSubstr("data " + std::string(64, '3')));
  EXPECT_THAT(text, HasSubstr("- Warning: W-LEAK"));
  expect_well_formed(text);
}

TEST(EvaluationMarkdown, NamesCannotBreakIt) {
  const uint32_t seed = std::random_device()();
  for (uint32_t trial = 0; trial < 100; ++trial) {
    SCOPED_TRACE("seed " + std::to_string(seed + trial));
    expect_well_formed(markdown_of(random_report(seed + trial)));
  }
  EvaluateReport report = sample_report("<img src=x>|\\|`code`\n## title");
  const std::string text = markdown_of(report);
  EXPECT_THAT(text, HasSubstr("| \\<img src=x\\>\\|\\\\\\|\\`code\\` \\#\\# title |"));
  expect_well_formed(text);
}

TEST(EscapedMarkdown, LeavesWordsAlone) {
  EXPECT_EQ(escaped_markdown("model.layers.3.mlp.down_proj"), "model.layers.3.mlp.down_proj");
  EXPECT_EQ(escaped_markdown("_x_ *y* [z](u)"), "\\_x\\_ \\*y\\* \\[z\\](u)");
  EXPECT_EQ(escaped_markdown("a|b\\<c>&amp;"), "a\\|b\\\\\\<c\\>\\&amp;");
}

}  // namespace
}  // namespace pare::tools
