// quantize --rotate from the command line, and what accuracy-eval makes of the result.
#include <gmock/gmock.h>

#include <sstream>

#include "tests/cli/cli_fixture.h"
#include "tools/table.h"

namespace pare::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class RotateProgram : public TinyModel {
 protected:
  nlohmann::json evaluate(const std::string& candidate) const {
    const Finished run = run_program(
        kAccuracyEval, {"--baseline", model_, candidate, "--text", kText, "--ctx", "64", "--limit",
                        "4", "--json", "-", "--precision", "fp32", "--progress", "none"});
    EXPECT_EQ(run.status, 0) << run.err;
    return nlohmann::json::parse(run.out);
  }
};

TEST_F(RotateProgram, IsTheSameModelInAnotherBasis) {
  const Finished run =
      run_program(kQuantize, arguments({"--qformat", "full_prec", "--rotate", "residual+heads"}));
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("residual+heads, width 64 as 64"));
  EXPECT_THAT(run.out, Not(HasSubstr("Own head")));  // it had one
  const auto task = evaluate(out_).at("candidates").at(0).at("tasks").at("perplexity");
  EXPECT_LT(task.at("kl_mean").get<double>(), 1e-3);
  EXPECT_GT(task.at("kl_mean").get<double>(), 0);
}

TEST_F(RotateProgram, ATiedHeadIsSaid) {
  const Finished run = run_program(
      kQuantize, {kDemo + "/model", "-o", out_, "--qformat", "int4_wo", "--rotate", "residual"});
  ASSERT_EQ(run.status, 0) << run.err;
  const auto config = nlohmann::json::parse(read_file(kDemo + "/model/config.json"));
  const std::string own = "apart from the embedding now";
  EXPECT_EQ(run.out.find(own) != std::string::npos, config.value("tie_word_embeddings", false));
  std::istringstream lines(run.out);
  for (std::string line; std::getline(lines, line);) {
    EXPECT_LE(tools::display_width(line), 100U) << line;
  }
}

TEST_F(RotateProgram, TheReportSaysIt) {
  const Finished run =
      run_program(kQuantize, arguments({"--rotate", "residual", "--rotate-seed",
                                        "18446744073709551615", "--dry-run", "--json"}));
  ASSERT_EQ(run.status, 0) << run.err;
  const auto report = nlohmann::json::parse(run.out);
  EXPECT_EQ(report.at("rotation").at("kind"), "residual");
  EXPECT_EQ(report.at("rotation").at("matrix"), "width 64 as 64");
  EXPECT_EQ(report.at("rotation").at("untied_head_bytes"), 0);
}

TEST_F(RotateProgram, OtherWordsAreRefused) {
  expect_failure(arguments({"--rotate", "heads"}), 2, {"--rotate", "heads", "residual"});
  expect_failure(arguments({"--rotate", "resdual"}), 2, {"--rotate", "residual"});
  expect_failure(arguments({"--rotate", "residual", "--rotate-seed", "-1"}), 2, {"--rotate-seed"});
  expect_failure(arguments({"--rotate"}), 2, {"--rotate"});
}

TEST_F(RotateProgram, ErrorsByLayerNeedABaselineThatIsRotatedToo) {
  ASSERT_EQ(run_program(kQuantize, arguments({"--rotate", "residual"})).status, 0);
  const std::string full = dir_ / "full.h5";
  ASSERT_EQ(
      run_program(kQuantize, {model_, "-o", full, "--qformat", "full_prec", "--rotate", "residual"})
          .status,
      0);
  const Arguments rest = {out_,      "--text", kText,        "--ctx",           "64",
                          "--limit", "2",      "--by-layer", "--layer-windows", "2"};
  const Finished refused = run_program(kAccuracyEval, Arguments{"--baseline", model_} + rest);
  EXPECT_EQ(refused.status, 4);
  EXPECT_THAT(refused.err, HasSubstr("rotated"));
  const Finished run = run_program(kAccuracyEval, Arguments{"--baseline", full} + rest);
  EXPECT_EQ(run.status, 0) << run.err;
}

}  // namespace
}  // namespace pare::testing
