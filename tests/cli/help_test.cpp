#include <fmt/format.h>
#include <gmock/gmock.h>

#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>
#include <tuple>

#include "tests/cli/cli_fixture.h"
#include "tools/table.h"

namespace pare::testing {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::StartsWith;

using Names = std::set<std::string>;

// The options of each program: what scripts rely on.
const Names kQuantizeOptions = {
    "--model_dir",
    "--lora",
    "--lora-mode",
    "--output",
    "--output_dir",
    "--qformat",
    "--sparsity",
    "--permute-channels",
    "--awq_block_size",
    "--gptaq-alpha",
    "--group-size",
    "--sym",
    "--algo",
    "--asym",
    "--clip",
    "--no-clip",
    "--smooth-strength",
    "--dynamic-activations",
    "--sparsegpt-damping",
    "--rotate",
    "--rotate-seed",
    "--exclude",
    "--override",
    "--recipe",
    "--kv-cache",
    "--kv_cache_dtype",
    "--kv-scales",
    "--kv-affine",
    "--dtype",
    "--calib",
    "--calib_size",
    "--calib_seqlen",
    "--calib_max_seq_length",
    "--parse-special",
    "--moe-calib",
    "--seed",
    "--uncompressed-inputs",
    "--export",
    "--tp_size",
    "--pp_size",
    "--pre-quant-scale",
    "--no-pre-quant-scale",
    "--force",
    "--dry-run",
    "--json",
    "--threads",
    "--max-memory",
    "--work-dir",
    "--resume",
    "--sparsity-skip",
    "--formats",
    "--target-bits",
    "--max-loss",
    "--probe-text",
    "--save-recipe",
    "--save-stats",
    "--stats",
    "--progress",
    "--quiet",
    "--list-qformats",
    "--list-architectures",
    "--version",
    "--help",
};
const Names kAccuracyEvalOptions = {
    "--baseline",        "--lora",       "--candidate-lora", "--parse-special",
    "--verify",          "--draft",      "--target",         "--temperature",
    "--draft-cost",      "--tasks",      "--text",           "--ctx",
    "--stride",          "--limit",      "--mmlu_dir",       "--task_data",
    "--shots",           "--by-layer",   "--layer-windows",  "--log_samples",
    "--no-prefix-reuse", "--list-tasks", "--precision",      "--max-loss",
    "--max-ppl-ratio",   "--max-kl",     "--json",           "--report",
    "--markdown",        "--csv",        "--force",          "--cache",
    "--threads",         "--max-memory", "--progress",       "--quiet",
    "--version",         "--help",
};

class Help : public ::testing::TestWithParam<std::string> {
 protected:
  std::string name() const { return GetParam() == kQuantize ? "quantize" : "accuracy-eval"; }
  const Names& options() const {
    return GetParam() == kQuantize ? kQuantizeOptions : kAccuracyEvalOptions;
  }
};

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
  Names listed;
  for (const auto& [name, count] : counts) {
    EXPECT_EQ(count, 1) << name;
    listed.insert(name);
  }
  EXPECT_EQ(listed, options());
}

// Names of options in the first column of the tables of one program's section.
Names documented_options(const std::string& program) {
  std::istringstream page(read_file(PARE_SOURCE_DIR "/docs/cli.md"));
  const std::regex option("--[a-z][a-z0-9_-]*");
  bool inside = false;
  Names names;
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with("## ")) inside = line == "## " + program;
    if (!inside || !line.starts_with("| `-")) continue;
    const std::string cell = line.substr(0, line.find(" | ", 2));
    for (std::sregex_iterator i(cell.begin(), cell.end(), option), end; i != end; ++i) {
      EXPECT_TRUE(names.insert(i->str()).second) << i->str() << " is documented twice";
    }
  }
  return names;
}

TEST_P(Help, DocumentationHasEveryOptionInTheProgramsSection) {
  EXPECT_EQ(documented_options(name()), options());
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

TEST(QuantizeHelp, ListsTheFormats) {
  const Finished run = run_program(kQuantize, {"--list-qformats"});
  EXPECT_EQ(run.status, 0);
  for (const char* name : {"fp8", "int8_sq", "int4_awq", "full_prec"}) {
    EXPECT_THAT(run.out, ContainsRegex(fmt::format("\n{} ", name)));
  }
}

TEST(QuantizeHelp, ListsTheArchitecturesInEightyColumns) {
  const Finished run = run_program(kQuantize, {"--list-architectures"});
  EXPECT_EQ(run.status, 0);
  EXPECT_EQ(run.err, "");
  std::istringstream lines(run.out);
  for (std::string line; std::getline(lines, line);) {
    EXPECT_LE(tools::display_width(line), 80U) << line;
    EXPECT_FALSE(line.ends_with(' ')) << line;
  }
  EXPECT_THAT(run.out, ContainsRegex("\nMBartForConditionalGeneration +mbart +mBART: encoder"));

  const Finished json = run_program(kQuantize, {"--list-architectures", "--json"});
  EXPECT_EQ(json.status, 0);
  const auto parsed = nlohmann::json::parse(json.out);
  EXPECT_EQ(parsed.at("schema"), "pare.architectures/1");
  EXPECT_GT(parsed.at("architectures").size(), 30U);
  for (const auto& known : parsed.at("architectures")) {
    EXPECT_THAT(run.out, HasSubstr(known.at("name").get<std::string>() + " "));
    EXPECT_THAT(run.out, HasSubstr(" " + known.at("model_type").get<std::string>() + " "));
    EXPECT_FALSE(known.at("remark").get<std::string>().empty());
  }
}

TEST(QuantizeHelp, ChoicesAreChecked) {
  for (const auto& [option, value, known] : {std::tuple("--moe-calib", "some", "routed"),
                                             std::tuple("--lora-mode", "under", "beside")}) {
    const Finished run = run_program(kQuantize, {"model", "-o", "x.h5", option, value});
    EXPECT_EQ(run.status, 2);
    EXPECT_THAT(run.err, HasSubstr(option));
    EXPECT_THAT(run.err, HasSubstr(known));
  }
}

}  // namespace
}  // namespace pare::testing
