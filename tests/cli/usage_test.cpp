// Command lines that are refused, and spellings that are not.
#include <gmock/gmock.h>

#include "tests/cli/cli_fixture.h"

namespace pare::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class Usage : public TinyModel {};

TEST_F(Usage, UnknownOptionGetsASuggestion) {
  expect_failure(arguments({"--gruop-size", "32"}), 2,
                 {"--gruop-size", "did you mean --group-size?"});
  expect_failure(arguments({"--calib-sise=3"}), 2, {"did you mean --calib_size?"});
  expect_failure(arguments({"--qzwxy"}), 2, {"--qzwxy"});
  const Finished run = run_program(kQuantize, {"--qzwxy"});
  EXPECT_THAT(run.err, Not(HasSubstr("did you mean")));
  EXPECT_THAT(run_program(kAccuracyEval, {"--base-line", "x"}).err,
              HasSubstr("did you mean --baseline?"));
}

TEST_F(Usage, HyphenAndUnderscoreAreAlike) {
  for (const char* option : {"--calib_size", "--calib-size"}) {
    const Finished run =
        run_program(kQuantize, {model_, "--dry-run", "--json", "--calib", kCalib, option, "3",
                                "--calib-seqlen", "64", "--max_memory", "4GiB", "--group_size=32"});
    EXPECT_EQ(run.status, 0) << run.err;
  }
}

TEST_F(Usage, PositionsHaveNames) {
  const Finished run =
      run_program(kQuantize, {"--model_dir", model_, "--output-dir", out_, "--dry-run", "--calib",
                              kCalib, "--calib_size", "2", "--calib_seqlen", "64"});
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("model.layers.1.mlp.down_proj"));
}

TEST_F(Usage, WhatThisVersionCannotDoIsRefusedByName) {
  expect_failure(arguments({"--kv_cache_dtype", "fp8"}), 2,
                 {"--kv_cache_dtype fp8", "not supported"});
  expect_failure(arguments({"--export", "awq"}), 2, {"--export awq", "not supported"});
  expect_failure(arguments({"--tp_size", "2"}), 2, {"--tp_size", "not supported"});
  expect_failure(arguments({"--dtype", "float16"}), 2, {"--dtype", "float16", "bfloat16"});
  for (const char* tasks : {"mmlu", "perplexity,hellaswag"}) {
    const Finished run =
        run_program(kAccuracyEval, {"--baseline", model_, "--text", kText, "--tasks", tasks, "-q"});
    EXPECT_EQ(run.status, 2) << run.err;
    EXPECT_EQ(run.out, "");
  }
}

TEST_F(Usage, DtypeOfOtherToolsIsAccepted) {
  const Finished run = run_program(kQuantize, arguments({"--dtype", "bfloat16", "--dry-run"}));
  EXPECT_EQ(run.status, 0) << run.err;
}

TEST_F(Usage, BadValuesNameTheOption) {
  expect_failure(arguments({"--qformat", "int4_akw"}), 2, {"--qformat", "did you mean int4_awq?"});
  expect_failure(arguments({"--sparsity", "wandb"}), 2, {"--sparsity", "did you mean wanda?"});
  expect_failure(arguments({"--max-memory", "8QB"}), 2, {"--max-memory", "8QB"});
  expect_failure(arguments({"--smooth-strength", "2"}), 2, {"--smooth-strength"});
  expect_failure(arguments({"--progress", "loud"}), 2, {"--progress", "loud"});
  expect_failure(arguments({"--override", "mlp"}), 2, {"--override", "REGEX=QFORMAT"});
  expect_failure(arguments({"--threads", "many"}), 2, {"--threads"});
  expect_failure(arguments({"--threads", "-1"}), 2, {"threads"});
  expect_failure({model_, "-o", out_, "--calib", kCalib, "--calib_size", "0"}, 2, {"calib"});
  expect_failure({model_, "-o", out_, "--calib", kCalib, "--calib_seqlen", "-5"}, 2, {"calib"});
  expect_failure(arguments({"extra"}), 2, {"extra"});
  expect_failure({model_, "--calib", kCalib}, 2, {"-o"});
  expect_failure(arguments({"--resume"}), 2, {"--resume", "--work-dir"});
}

TEST_F(Usage, SelectionsMustMatchAndCompile) {
  expect_failure(arguments({"--exclude", "no_such_linear"}), 2, {"no_such_linear"});
  expect_failure(arguments({"--override", "no_such_linear=fp8"}), 2, {"no_such_linear"});
  expect_failure(arguments({"--exclude", "(unclosed"}), 2, {"(unclosed"});
}

TEST_F(Usage, NothingToDoIsAnError) {
  expect_failure(arguments({"--qformat", "full_prec"}), 2, {"full_prec"});
  expect_failure(arguments({"--exclude", "."}), 2, {"nothing"});
}

TEST_F(Usage, CalibrationIsAskedForByName) {
  expect_failure({model_, "-o", out_, "--qformat", "fp8"}, 2, {"--calib"});
}

TEST_F(Usage, GateNeedsAPercentageAndACandidate) {
  const Arguments common = {"--baseline", model_, "--text", kText};
  EXPECT_EQ(run_program(kAccuracyEval, common + Arguments{model_, "--max-loss", "1"}).status, 2);
  EXPECT_EQ(run_program(kAccuracyEval, common + Arguments{"--max-loss", "1%"}).status, 2);
  EXPECT_EQ(run_program(kAccuracyEval, {"--baseline", model_}).status, 2);
  EXPECT_EQ(run_program(kAccuracyEval, {"--verify", "golden.safetensors"}).status, 2);
}

TEST_F(Usage, JsonFailureIsOneObjectOnStdoutAndOneLineOnStderr) {
  const Finished run = run_program(kQuantize, arguments({"--json", "--no-such"}));
  EXPECT_EQ(run.status, 2);
  const auto object = nlohmann::json::parse(run.out);
  EXPECT_EQ(object.at("ok"), false);
  EXPECT_EQ(object.at("error").at("code"), 2);
  EXPECT_EQ(object.at("error").at("kind"), "usage");
  EXPECT_THAT(object.at("error").at("message").get<std::string>(), HasSubstr("--no-such"));
  EXPECT_EQ(error_lines(run.err).size(), 1U);

  const Finished eval =
      run_program(kAccuracyEval, {"--json", "-", "--baseline", "/no/such/folder", "--text", kText});
  EXPECT_EQ(eval.status, 3);
  EXPECT_EQ(nlohmann::json::parse(eval.out).at("error").at("kind"), "input_missing");
}

}  // namespace
}  // namespace pare::testing
