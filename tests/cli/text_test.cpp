// The pieces of the programs that need no program: sizes, suggestions, tables, progress lines.
#include <gmock/gmock.h>

#include "pare/error.h"
#include "tools/arguments.h"
#include "tools/main_guard.h"
#include "tools/progress_view.h"
#include "tools/quantize_summary.h"
#include "tools/table.h"

namespace pare::tools {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(ParseSize, DecimalAndBinaryUnits) {
  EXPECT_EQ(parse_size("4096", "-"), 4096);
  EXPECT_EQ(parse_size("512B", "-"), 512);
  EXPECT_EQ(parse_size("800MB", "-"), 800'000'000);
  EXPECT_EQ(parse_size("8GiB", "-"), int64_t{8} << 30);
  EXPECT_EQ(parse_size("1.5G", "-"), int64_t{3} << 29);
  EXPECT_EQ(parse_size("2k", "-"), 2048);
  EXPECT_EQ(parse_size("1TB", "-"), 1'000'000'000'000);
}

TEST(ParseSize, RefusesTheRest) {
  for (const char* text :
       {"", "GiB", "8QB", "-1", "1.2.3M", "1e3", "8 GiB", "nan", "inf", "99999999999T", "8iB"}) {
    EXPECT_THROW(parse_size(text, "--max-memory"), Error) << text;
  }
}

TEST(ParsePercent, NeedsTheSign) {
  EXPECT_DOUBLE_EQ(parse_percent("1%", "-"), 0.01);
  EXPECT_DOUBLE_EQ(parse_percent("0%", "-"), 0.0);
  EXPECT_DOUBLE_EQ(parse_percent("12.5%", "-"), 0.125);
  for (const char* text : {"1", "%", "-1%", "x%", "nan%", "1%%"}) {
    EXPECT_THROW(parse_percent(text, "--max-loss"), Error) << text;
  }
}

TEST(SplitList, DropsEmptyParts) {
  EXPECT_EQ(split_list("a,b"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(split_list(",a,,b,"), (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(split_list("").empty());
}

TEST(Nearest, FindsWhatWasMeant) {
  const std::vector<std::string> known = {"group-size", "calib_size", "calib_seqlen", "json"};
  EXPECT_EQ(nearest("group_size", known), "group-size");
  EXPECT_EQ(nearest("gruop-size", known), "group-size");
  EXPECT_EQ(nearest("group", known), "group-size");
  EXPECT_EQ(nearest("calib-sise", known), "calib_size");
  EXPECT_EQ(nearest("jsno", known), "json");
  EXPECT_EQ(nearest("unrelated", known), "");
  EXPECT_EQ(nearest("x", {}), "");
}

TEST(ParseArguments, RepeatableOptionsTakeOneValueEach) {
  CLI::App app;
  std::vector<std::string> exclude;
  std::string model;
  app.add_option("--ex_clude", exclude)->allow_extra_args(false);
  app.add_option("model", model);
  parse_arguments(app, {"--ex-clude", "a", "dir", "--ex_clude=b_c-d"}, {});
  EXPECT_EQ(exclude, (std::vector<std::string>{"a", "b_c-d"}));
  EXPECT_EQ(model, "dir");
}

TEST(ParseArguments, LaterOptionsAreRefusedByName) {
  CLI::App app;
  try {
    parse_arguments(app, {"--tp-size=2"}, {"tp_size"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    EXPECT_THAT(error.what(), HasSubstr("--tp-size is not supported yet"));
  }
}

TEST(Table, AlignsByCodePoints) {
  TextTable table({"a", "ppl ± se"}, {Align::kLeft, Align::kRight});
  table.add({"long", "1 ± 2"});
  table.add({"é"});
  EXPECT_EQ(table.render(),
            "a     ppl ± se\n"
            "----  --------\n"
            "long     1 ± 2\n"
            "é\n");
}

TEST(Shortened, NeverExceedsTheWidthOrSplitsACodePoint) {
  const std::string text = "é§±é§±é§±";
  for (size_t columns = 0; columns < 12; ++columns) {
    const std::string result = shortened(text, columns);
    EXPECT_LE(display_width(result), columns);
    EXPECT_EQ(result.find_first_not_of("\xc3\xa9\xc2\xa7\xb1."), std::string::npos);
  }
  EXPECT_EQ(shortened(text, 9), text);
  EXPECT_EQ(shortened(text, 5), "é§...");
}

TEST(Format, BytesAndCounts) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes(int64_t{3} << 40), "3.0 TiB");
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(1000), "1,000");
  EXPECT_EQ(format_count(-1234567), "-1,234,567");
  EXPECT_EQ(format_duration(59.4), "59s");
  EXPECT_EQ(format_duration(72), "1m12s");
  EXPECT_EQ(format_duration(7500), "2h05m");
}

TEST(Printable, HasNoControlCharacters) {
  EXPECT_EQ(printable("a\nb\tc\x1b[31m\x7f"), "a b c?[31m?");
  EXPECT_EQ(printable("± é"), "± é");
}

TEST(ProgressBar, FitsAnyWidthAndKeepsTheTimeLeft) {
  const Progress progress{"quantize", std::string(200, 'x'), 0.5, 72};
  for (size_t columns = 1; columns <= 120; ++columns) {
    EXPECT_LE(display_width(progress_bar(progress, columns)), columns);
  }
  const std::string line = progress_bar(progress, 79);
  EXPECT_EQ(display_width(line), 79U);
  EXPECT_THAT(line, StartsWith("[########--------]  50% quantize  xxx"));
  EXPECT_THAT(line, EndsWith("  1m12s left"));
}

TEST(ProgressText, IsOnePlainLine) {
  EXPECT_EQ(progress_text({"calibrate", "layer 3\nof 32", 0.4351, 72}),
            " 43% calibrate: layer 3 of 32, 1m12s left");
  EXPECT_EQ(progress_text({"write", "", 1.0, -1}), "100% write");
  EXPECT_EQ(progress_text({"write", "", 0.9999, -1}), " 99% write");
}

TEST(QuantizeSummary, SaysWhatWasDoneAndNamesTheWorstLayersFirst) {
  QuantizeReport report;
  report.output = "out.h5";
  for (int i = 0; i < 8; ++i) {
    LayerReport layer;
    layer.name = "linear" + std::to_string(i);
    layer.qformat = "int4_awq";
    layer.sqnr_db = 30 - i;
    layer.sparsity = i < 2 ? 0.5 : 0.1;
    report.layers.push_back(layer);
  }
  report.layers[7].qformat = "bf16";  // Left alone: nothing lost.
  report.layers[7].sqnr_db.reset();
  const std::string text = quantize_summary(report, {});
  EXPECT_THAT(text, HasSubstr("bf16 1, int4_awq 7; 2:4 sparse 2\n"));
  EXPECT_LT(text.find("linear6"), text.find("linear5"));
  EXPECT_THAT(text, ::testing::Not(HasSubstr("linear7")));
  EXPECT_THAT(text, ::testing::Not(HasSubstr("linear1")));
}

TEST(QuantizeSummary, CountsTheTokensOfExperts) {
  QuantizeReport report;
  EXPECT_THAT(quantize_summary(report, {}), ::testing::Not(HasSubstr("xpert")));
  for (int i = 0; i < 7; ++i) {
    report.experts.push_back({"model.layers.2.mlp.experts." + std::to_string(i),
                              1000 * (i + 1) % 7000, i == 6 ? 256 : 0});
  }
  const std::string text = quantize_summary(report, {});
  EXPECT_THAT(text, HasSubstr("7, chosen by 0 to 6,000 calibration tokens each, half of them by "
                              "3,000 or more; 1 of them calibrated on others' tokens as well\n"));
  EXPECT_LT(text.find("experts.6"), text.find("experts.0"));
  EXPECT_LT(text.find("experts.0"), text.find("experts.1"));
  EXPECT_THAT(text, ::testing::Not(HasSubstr("experts.5")));
}

}  // namespace
}  // namespace pare::tools
