#include <fmt/format.h>
#include <gmock/gmock.h>

#include <map>
#include <regex>
#include <sstream>

#include "tests/cli/cli_fixture.h"
#include "tools/table.h"

namespace pare::testing {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class Help : public ::testing::TestWithParam<std::string> {};

TEST_P(Help, GoesToStdoutAndFitsEightyColumns) {
  for (const char* flag : {"--help", "-h"}) {
    const Finished run = run_program(GetParam(), {flag});
    EXPECT_EQ(run.status, 0);
    EXPECT_EQ(run.err, "");
    EXPECT_THAT(run.out, HasSubstr("\nExamples:\n"));
    std::istringstream lines(run.out);
    for (std::string line; std::getline(lines, line);) {
      EXPECT_LE(tools::display_width(line), 80U) << line;
      EXPECT_FALSE(line.ends_with(' ')) << line;
    }
  }
}

// Every option is listed once, in the lines that begin with two spaces and a dash.
std::map<std::string, int> listed_options(const std::string& help) {
  std::map<std::string, int> counts;
  std::istringstream lines(help);
  const std::regex option("--[a-z][a-z0-9_-]*");
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("  -")) continue;
    const std::string names = line.substr(0, line.find("   ", 2));
    for (std::sregex_iterator i(names.begin(), names.end(), option), end; i != end; ++i) {
      ++counts[i->str()];
    }
  }
  return counts;
}

TEST_P(Help, ListsEveryOptionOnce) {
  const auto counts = listed_options(run_program(GetParam(), {"--help"}).out);
  EXPECT_GT(counts.size(), 10U);
  for (const auto& [name, count] : counts) EXPECT_EQ(count, 1) << name;
}

TEST_P(Help, DocumentationHasEveryOption) {
  const std::string page = read_file(PARE_SOURCE_DIR "/docs/cli.md");
  for (const auto& [name, count] : listed_options(run_program(GetParam(), {"--help"}).out)) {
    EXPECT_THAT(page, HasSubstr(name));
  }
}

TEST_P(Help, WorksWithoutTerminalVariables) {
  EXPECT_EQ(run_program(GetParam(), {"--help"}, {.environment = {{"TERM", ""}}}).status, 0);
}

TEST_P(Help, VersionNamesTheLibraries) {
  const Finished run = run_program(GetParam(), {"--version"});
  EXPECT_EQ(run.status, 0);
  EXPECT_THAT(run.out, StartsWith("pare 0."));
  for (const char* word : {"compiler: ", "oneDNN", "HDF5", "OpenBLAS", "Highway", "processor: "}) {
    EXPECT_THAT(run.out, HasSubstr(word));
  }
}

TEST_P(Help, NoArgumentsIsAUsageErrorWithAHint) {
  const Finished run = run_program(GetParam(), {});
  EXPECT_EQ(run.status, 2);
  EXPECT_EQ(run.out, "");
  EXPECT_THAT(run.err, HasSubstr("usage: "));
}

INSTANTIATE_TEST_SUITE_P(Programs, Help, ::testing::Values(kQuantize, kAccuracyEval),
                         [](const auto& instance) {
                           return instance.param == kQuantize ? "quantize" : "accuracy_eval";
                         });

// The flags that scripts rely on.
TEST(QuantizeHelp, HasThePromisedOptions) {
  const auto counts = listed_options(run_program(kQuantize, {"--help"}).out);
  for (const char* name :
       {"--model_dir",      "--output_dir", "--output",     "--qformat",      "--kv_cache_dtype",
        "--sparsity",       "--calib",      "--calib_size", "--calib_seqlen", "--seed",
        "--awq_block_size", "--exclude",    "--override",   "--recipe",       "--export",
        "--threads",        "--max-memory", "--work-dir",   "--resume",       "--dry-run",
        "--force",          "--json",       "--progress",   "--list-qformats"}) {
    EXPECT_TRUE(counts.contains(name)) << name;
  }
}

TEST(AccuracyEvalHelp, HasThePromisedOptions) {
  const auto counts = listed_options(run_program(kAccuracyEval, {"--help"}).out);
  for (const char* name : {"--baseline", "--tasks", "--text", "--ctx", "--limit", "--precision",
                           "--json", "--max-loss", "--verify", "--threads", "--max-memory"}) {
    EXPECT_TRUE(counts.contains(name)) << name;
  }
}

TEST(QuantizeHelp, ListsTheFormats) {
  const Finished run = run_program(kQuantize, {"--list-qformats"});
  EXPECT_EQ(run.status, 0);
  for (const char* name : {"fp8", "int8_sq", "int4_awq", "full_prec"}) {
    EXPECT_THAT(run.out, ContainsRegex(fmt::format("\n{} ", name)));
  }
}

}  // namespace
}  // namespace pare::testing
