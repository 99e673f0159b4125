// Command lines that are refused, and spellings that are not.
#include <gmock/gmock.h>

#include <filesystem>

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
  expect_failure(arguments({"--export", "onnx"}), 2, {"--export", "onnx", "compressed-tensors"});
  expect_failure(arguments({"--export", "awq", "--tp_size", "2"}), 2,
                 {"--tp_size", "tensorrt-llm"});
  expect_failure(arguments({"--dtype", "float16"}), 2, {"--dtype", "float16", "bfloat16"});
  EXPECT_THAT(
      run_program(kAccuracyEval, {"--baseline", model_, "--text", kText, "--tasks", "perplexty"})
          .err,
      HasSubstr("did you mean perplexity?"));
}

TEST_F(Usage, MixedPlans) {
  expect_failure(arguments({"--max-loss", "2%"}), 2, {"--max-loss", "--formats", "auto"});
  expect_failure(arguments({"--formats", "fp8,int4_awq"}), 2, {"--formats needs a budget"});
  expect_failure(arguments({"--sparsity", "wanda", "--sparsity-skip", "auto"}), 2,
                 {"--sparsity-skip auto needs a budget"});
  expect_failure(arguments({"--sparsity-skip", "auto", "--max-loss", "2%"}), 2,
                 {"needs a sparsity", "--sparsity sparsegpt"});
}

TEST_F(Usage, TheCacheOfKeysAndValues) {
  expect_failure(arguments({"--kv-cache", "fp4"}), 2, {"--kv-cache", "fp4", "fp8"});
  expect_failure(arguments({"--kv-scales", "row"}), 2, {"--kv-scales", "row", "head"});
  expect_failure({model_, "-o", out_, "--qformat", "full_prec", "--kv-cache", "fp8"}, 2,
                 {"kv_cache fp8", "--calib"});
  for (const char* option : {"--kv-cache", "--kv_cache_dtype"}) {
    const Finished run = run_program(
        kQuantize, arguments({option, "int8", "--kv-scales", "tensor", "--kv-affine", "--force"}));
    EXPECT_EQ(run.status, 0) << run.err;
    EXPECT_THAT(run.out, HasSubstr("int8 in 2 attentions, a scale each tensor, an offset each"));
    EXPECT_THAT(run.out, HasSubstr("model.layers.1.self_attn"));
  }
  const Finished run = run_program(kAccuracyEval, {"--baseline", model_, out_, "--text", kText,
                                                   "--ctx", "64", "--limit", "2", "--json", "-"});
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(nlohmann::json::parse(run.out).at("candidates")[0].at("kv_cache"), "int8");
}

TEST_F(Usage, SeveralFormatsNeedAPlaceForTheirNames) {
  expect_failure(arguments({"--qformat", "fp8,int8_sq"}), 2, {"2 formats", "{qformat}"});
  expect_failure(arguments({"--qformat", "fp8,int9"}), 2, {"int9"});
  out_ = dir_ / "out-{qformat}.h5";
  const Finished run = run_program(
      kQuantize, arguments({"--qformat", "fp8,int8_sq", "--save-stats", dir_ / "stats.h5"}));
  EXPECT_EQ(run.status, 0) << run.err;
  for (const char* name : {"out-fp8.h5", "out-int8_sq.h5", "stats.h5"}) {
    EXPECT_TRUE(std::filesystem::exists(dir_ / name)) << name;
    EXPECT_THAT(run.out, name[0] == 's' ? HasSubstr("Result") : HasSubstr(name));
  }
  const Finished one = run_program(
      kQuantize, Arguments{model_, "-o", dir_ / "one.h5", "--calib", kCalib, "--calib_size", "4",
                           "--calib_seqlen", "64", "--save-stats", dir_ / "one-stats.h5"});
  EXPECT_EQ(one.status, 0) << one.err;
  EXPECT_EQ(read_file(dir_ / "one-stats.h5"), read_file(dir_ / "stats.h5"));
  const Finished again =
      run_program(kQuantize, {model_, "-o", dir_ / "again.h5", "--qformat", "int8_sq", "--stats",
                              dir_ / "stats.h5", "--group-size", "32", "--json"});
  EXPECT_EQ(again.status, 0) << again.err;
  EXPECT_THAT(run.out, HasSubstr(nlohmann::json::parse(again.out).at("sha256").get<std::string>()));
}

TEST_F(Usage, DtypeOfOtherToolsIsAccepted) {
  const Finished run = run_program(kQuantize, arguments({"--dtype", "bfloat16", "--dry-run"}));
  EXPECT_EQ(run.status, 0) << run.err;
}

TEST_F(Usage, AFlagBesideARecipeWinsEvenWithItsDefault) {
  const std::string recipe = dir_ / "recipe.json";
  write_file(recipe, R"({"qformat": "int4_awq", "symmetric": false, "awq_block_size": 16})");
  const auto formats = [&](const Arguments& more) {
    const Finished run = run_program(
        kQuantize, Arguments{model_, "--dry-run", "--json", "--calib", kCalib, "--calib_size", "4",
                             "--calib_seqlen", "64", "--recipe", recipe} +
                       more);
    EXPECT_EQ(run.status, 0) << run.err;
    return nlohmann::json::parse(run.out).at("layers").at(0);
  };
  EXPECT_EQ(formats({}).at("qformat").get<std::string>(), "int4_awq");
  EXPECT_EQ(formats({"--qformat", "fp8"}).at("qformat").get<std::string>(), "fp8");
  EXPECT_LT(formats({"--group-size", "128", "--sym"}).at("bytes").get<int64_t>(),
            formats({"--sym"}).at("bytes").get<int64_t>());
  EXPECT_LT(formats({"--sym"}).at("bytes").get<int64_t>(), formats({}).at("bytes").get<int64_t>());
}

TEST_F(Usage, TasksAskForTheirQuestions) {
  const auto expect_usage = [&](const Arguments& more, const std::string& part) {
    const Finished run = run_program(kAccuracyEval, Arguments{"--baseline", model_} + more);
    EXPECT_EQ(run.status, 2) << run.err;
    EXPECT_EQ(run.out, "");
    EXPECT_THAT(run.err, HasSubstr(part));
  };
  expect_usage({"--tasks", "mmlu"}, "--mmlu_dir DIR");
  expect_usage({"--tasks", "piqa"}, "--task_data piqa=PATH");
  expect_usage({"--tasks", "piqa", "--task_data", "piqa"}, "TASK=PATH");
  expect_usage({"--tasks", "piqa", "--task_data", "piqq=x"}, "did you mean piqa?");
  expect_usage({"--text", kText, "--task_data", "piqa=x"}, "not in --tasks");
  expect_usage({"--tasks", "perplexity"}, "--text FILE");
}

TEST_F(Usage, BadValuesNameTheOption) {
  expect_failure(arguments({"--qformat", "int4_akw"}), 2, {"--qformat", "did you mean int4_awq?"});
  expect_failure(arguments({"--sparsity", "wandb"}), 2, {"--sparsity", "did you mean wanda?"});
  expect_failure(arguments({"--permute-channels", "onn"}), 2,
                 {"--permute-channels", "did you mean on?"});
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

TEST_F(Usage, SeedIsAWholeNumber) {
  for (const char* seed : {"-1", "1.5", "1e3", "18446744073709551616", "x"}) {
    expect_failure(arguments({"--seed", seed}), 2, {"--seed", seed});
  }
  const Finished run =
      run_program(kQuantize, arguments({"--dry-run", "--seed", "18446744073709551615"}));
  EXPECT_EQ(run.status, 0) << run.err;
}

TEST_F(Usage, ThreadsHaveABound) {
  expect_failure(arguments({"--threads", "100000"}), 2, {"--threads", "1024", "100000"});
  const Finished run = run_program(
      kAccuracyEval, {"--baseline", model_, "--text", kText, "--threads", "100000", "-q"});
  EXPECT_EQ(run.status, 2) << run.err;
  EXPECT_THAT(run.err, HasSubstr("--threads"));
}

TEST_F(Usage, AnOptionGivenTwiceIsNamed) {
  expect_failure(arguments({"--seed", "1", "--seed", "1"}), 2, {"--seed is given twice"});
  expect_failure(arguments({"--calib-size=3"}), 2, {"--calib_size and --calib-size"});
  expect_failure(arguments({"--output", "x.h5"}), 2, {"-o and --output set the same option"});
  expect_failure(arguments({"--sym", "--asym"}), 2, {"--sym and --asym"});
  expect_failure(arguments({"--force", "--force"}), 2, {"--force is given twice"});
  expect_failure(arguments({"--model_dir", model_}), 2, {model_, "--model_dir"});
}

TEST_F(Usage, AnOptionWithoutItsValueIsNamed) {
  expect_failure({model_, "-o", out_, "--calib_size"}, 2, {"--calib_size needs a value", "N"});
  expect_failure({model_, "-o", out_, "--calib-size", "--force"}, 2,
                 {"--calib-size needs a value"});
  expect_failure({model_, "-o", "-q", "--calib", kCalib}, 2, {"-o needs a value"});
  expect_failure({model_, "-o", out_, "--calib=", "-q"}, 2, {"--calib needs a value"});
  expect_failure({model_, "-o", out_, "-t"}, 2, {"-t needs a value"});
}

TEST_F(Usage, SelectionsMustMatchAndCompile) {
  expect_failure(arguments({"--exclude", "no_such_linear"}), 2, {"no_such_linear"});
  expect_failure(arguments({"--override", "no_such_linear=fp8"}), 2, {"no_such_linear"});
  expect_failure(arguments({"--exclude", "(unclosed"}), 2, {"(unclosed"});
}

TEST_F(Usage, NothingToDoIsAnError) {
  expect_failure(arguments({"--exclude", "."}), 2, {"nothing"});
}

TEST_F(Usage, CalibrationIsAskedForByName) {
  expect_failure({model_, "-o", out_, "--qformat", "fp8"}, 2, {"--calib"});
}

TEST_F(Usage, GateNeedsAPercentageAndACandidate) {
  const Arguments common = {"--baseline", model_, "--text", kText};
  EXPECT_EQ(run_program(kAccuracyEval, common + Arguments{model_, "--max-loss", ""}).status, 2);
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
