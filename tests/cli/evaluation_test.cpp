// accuracy-eval from the command line: conventions, gates, outputs, comparing, drafts, the cache.
#include <gmock/gmock.h>

#include <csignal>
#include <filesystem>

#include "tests/cli/cli_fixture.h"

namespace pare::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

class EvaluationCommand : public TinyModel {
 protected:
  void SetUp() override {
    TinyModel::SetUp();
    write_tiny_llama(other_, kDemo + "/model/tokenizer.json", 18);
    write_file(text_, read_file(kText).substr(0, 6000));
    std::string questions;
    for (int i = 0; i < 30; ++i) {
      questions += R"({"question": "What follows )" + std::to_string(i) +
                   R"(?", "choices": ["a tree", "a stone"], "answer": )" + std::to_string(i % 2) +
                   "}\n";
    }
    write_file(quiz_, questions);
  }

  Finished evaluate(const Arguments& more) const {
    return run_program(kAccuracyEval, Arguments{"--baseline", model_, "-q"} + more);
  }
  Finished score_text(const Arguments& more) const {
    return evaluate(Arguments{"--text", text_, other_} +
                    (has_ctx(more) ? Arguments{} : Arguments{"--ctx", "64"}) + more);
  }

  static bool has_ctx(const Arguments& arguments) {
    return std::find(arguments.begin(), arguments.end(), "--ctx") != arguments.end();
  }

  static void expect_usage_error(const Finished& run, const std::string& word) {
    EXPECT_EQ(run.status, 2) << run.err;
    EXPECT_EQ(run.out, "");
    EXPECT_EQ(error_lines(run.err).size(), 1U) << run.err;
    EXPECT_THAT(run.err, HasSubstr(word));
  }

  std::string other_ = dir_ / "other";
  std::string text_ = dir_ / "text.txt";
  std::string quiz_ = dir_ / "quiz.jsonl";
};

TEST_F(EvaluationCommand, EveryConventionPrintsItsMethod) {
  const Finished run =
      score_text({"--tasks", "perplexity,perplexity_gptq,perplexity_llama,perplexity_strided",
                  "--stride", "16"});
  ASSERT_EQ(run.status, 0) << run.err;
  for (const char* words : {"wikitext-style windows: ctx 64", "GPTQ's and AWQ's windows",
                            "llama.cpp's chunks", "strided windows: ctx 64, stride 16"}) {
    EXPECT_THAT(run.out, HasSubstr(words));
  }
}

TEST_F(EvaluationCommand, OptionsOfTasksThatDoNotRunAreRefused) {
  expect_usage_error(score_text({"--stride", "16"}), "perplexity_strided");
  expect_usage_error(score_text({"--shots", "2"}), "--shots");
  expect_usage_error(score_text({"--layer-windows", "2"}), "--by-layer");
  expect_usage_error(score_text({"--temperature", "2"}), "--draft");
  expect_usage_error(score_text({"--task_data", "perplexity=" + quiz_}), "--text");
  expect_usage_error(evaluate({"--tasks", quiz_, other_, "--max-kl", "1"}), "--max-kl");
  expect_usage_error(evaluate({"--tasks", quiz_, "--text", text_, other_}), "--text");
  expect_usage_error(evaluate({"--text", text_, "--max-kl", "1"}), "candidate");
  expect_usage_error(score_text({"--max-kl", "much"}), "--max-kl");
  expect_usage_error(score_text({"--max-kl", "-1"}), "--max-kl");
  expect_usage_error(score_text({"--ctx", "0"}), "--ctx");
  expect_usage_error(score_text({"--tasks", "perplexity,perplexity"}), "twice");
}

TEST_F(EvaluationCommand, GatesNameWhatFailed) {
  const Finished good = score_text({"--max-kl", "100", "--max-ppl-ratio", "100"});
  EXPECT_EQ(good.status, 0) << good.err;
  const Finished bad = score_text({"--max-kl", "1e-6", "--max-ppl-ratio", "100"});
  EXPECT_EQ(bad.status, 8);
  EXPECT_EQ(error_lines(bad.err).size(), 1U);
  EXPECT_THAT(bad.err, AllOf(HasSubstr("\"other\" on perplexity"), HasSubstr("max_kl"),
                             Not(HasSubstr("max_ppl_ratio"))));
  EXPECT_EQ(bad.out.substr(0, bad.out.find("windows are scored")),
            good.out.substr(0, good.out.find("windows are scored")));
  // Thirty questions cannot show that a loss is small.
  const Finished few = evaluate({"--tasks", quiz_, other_, "--max-loss", "1%"});
  EXPECT_EQ(few.status, 8);
  EXPECT_THAT(few.err, HasSubstr("max_loss"));
  // Where every log-likelihood is the same there is nothing to show.
  const Finished same = evaluate({"--tasks", quiz_, model_, "--max-loss", "0%"});
  EXPECT_EQ(same.status, 0) << same.err;
  EXPECT_THAT(same.out, HasSubstr("identical"));
  // Of one window nothing is known but the figure.
  const Finished one = score_text({"--limit", "1", "--max-kl", "1000"});
  EXPECT_EQ(one.status, 8);
  EXPECT_THAT(one.err, HasSubstr("too few"));
}

TEST_F(EvaluationCommand, FilesOfOneRunAgree) {
  const Finished run =
      score_text({"--tasks", "perplexity," + quiz_, "--json", dir_ / "a.json", "--csv",
                  dir_ / "a.csv", "--markdown", dir_ / "a.md", "--report", dir_ / "a.html"});
  ASSERT_EQ(run.status, 0) << run.err;
  const Json report = Json::parse(read_file(dir_ / "a.json"));
  const double ratio = report["candidates"][0]["tasks"]["perplexity"]["ppl_ratio"];
  EXPECT_GT(ratio, 0);
  EXPECT_THAT(read_file(dir_ / "a.csv"), HasSubstr(Json(ratio).dump()));
  EXPECT_THAT(read_file(dir_ / "a.md"), HasSubstr("| Model |"));
  const std::string page = read_file(dir_ / "a.html");
  EXPECT_THAT(page, HasSubstr(Json(ratio).dump()));
  EXPECT_THAT(page, HasSubstr(report["baseline"]["sha256"].get<std::string>()));
  // The same from the JSON alone.
  const Finished again =
      run_program(kAccuracyEval, {"compare", dir_ / "a.json", "--csv", dir_ / "b.csv", "--markdown",
                                  dir_ / "b.md", "--report", dir_ / "b.html", "--json", "-"});
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(read_file(dir_ / "b.csv"), read_file(dir_ / "a.csv"));
  EXPECT_EQ(read_file(dir_ / "b.md"), read_file(dir_ / "a.md"));
  EXPECT_EQ(read_file(dir_ / "b.html"), page);
  EXPECT_EQ(Json::parse(again.out)["reports"][0], report);
}

TEST_F(EvaluationCommand, OutputsThatCollideAreRefused) {
  expect_usage_error(score_text({"--csv", "-", "--markdown", "-"}), "--markdown -");
  expect_usage_error(score_text({"--json", dir_ / "x", "--csv", dir_ / "x"}), "another output");
  expect_usage_error(score_text({"--json", dir_ / "x", "--csv", dir_ / "./x"}), "another output");
  expect_usage_error(score_text({"--json", dir_ / "model.h5", "--force"}), "name of a model");
  expect_usage_error(score_text({"--csv", text_, "--force"}), "--csv");
  expect_usage_error(score_text({"--report", "-"}), "--report");
  EXPECT_FALSE(std::filesystem::exists(dir_ / "x"));
}

TEST_F(EvaluationCommand, CompareMergesReports) {
  ASSERT_EQ(score_text({"--json", dir_ / "a.json"}).status, 0);
  ASSERT_EQ(evaluate({"--text", text_, "--ctx", "64", model_, "--json", dir_ / "b.json"}).status,
            0);
  ASSERT_EQ(evaluate({"--tasks", quiz_, other_, "--json", dir_ / "c.json"}).status, 0);
  const Arguments files = {dir_ / "a.json", dir_ / "b.json", dir_ / "c.json"};
  const Finished run = run_program(
      kAccuracyEval, Arguments{"compare"} + files + Arguments{"--json", dir_ / "all.json"});
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.out, AllOf(HasSubstr("perplexity"), HasSubstr("quiz"), HasSubstr("McNemar")));
  EXPECT_THAT(run.out, Not(HasSubstr("W-DATA")));
  const Finished merged = run_program(kAccuracyEval, {"compare", dir_ / "all.json"});
  EXPECT_EQ(merged.out, run.out);
  const Finished gated = run_program(
      kAccuracyEval, Arguments{"compare"} + Arguments{dir_ / "a.json", "--max-kl", "0"});
  EXPECT_EQ(gated.status, 8);
  EXPECT_THAT(gated.err, HasSubstr("max_kl"));
}

TEST_F(EvaluationCommand, CompareSaysWhereDataDiffer) {
  ASSERT_EQ(score_text({"--json", dir_ / "a.json"}).status, 0);
  for (const Arguments& other : {Arguments{"--limit", "3"}, Arguments{"--precision", "fp32"}}) {
    const std::string path = dir_ / ("c" + other[1] + ".json");
    ASSERT_EQ(score_text(other + Arguments{"--json", path}).status, 0);
    const Finished run = run_program(kAccuracyEval, {"compare", dir_ / "a.json", path});
    EXPECT_THAT(run.out, HasSubstr("W-DATA")) << other[0];
  }
  write_file(text_, read_file(kText).substr(6000, 6000));
  ASSERT_EQ(score_text({"--json", dir_ / "b.json"}).status, 0);
  const Finished run = run_program(kAccuracyEval, {"compare", dir_ / "a.json", dir_ / "b.json"});
  EXPECT_EQ(run.status, 0);
  EXPECT_THAT(run.out, HasSubstr("W-DATA"));
}

TEST_F(EvaluationCommand, CompareRefusesWhatIsNoReport) {
  write_file(dir_ / "bad.json", "{\"schema\": \"pare.eval/1\", \"baseline\": 3}");
  const Finished bad = run_program(kAccuracyEval, {"compare", dir_ / "bad.json"});
  EXPECT_EQ(bad.status, 4);
  EXPECT_THAT(bad.err, AllOf(HasSubstr("bad.json"), HasSubstr("tasks")));
  write_file(dir_ / "text.json", "hello");
  EXPECT_EQ(run_program(kAccuracyEval, {"compare", dir_ / "text.json"}).status, 4);
  EXPECT_EQ(run_program(kAccuracyEval, {"compare", dir_ / "none.json"}).status, 3);
  expect_usage_error(run_program(kAccuracyEval, {"compare"}), "usage");
  expect_usage_error(run_program(kAccuracyEval, {"compare", "a.json", "--text", "x"}), "--text");
}

// The model itself as a checkpoint: no figure may show a difference, and none may be NaN.
TEST_F(EvaluationCommand, FullPrecisionIsTheBaseline) {
  const Finished made =
      run_program(kQuantize, {model_, "-o", out_, "--qformat", "full_prec", "-q"});
  ASSERT_EQ(made.status, 0) << made.err;
  const Finished run = evaluate({"--text", text_, "--ctx", "64", out_, "--tasks",
                                 "perplexity,perplexity_llama," + quiz_, "--by-layer", "--max-loss",
                                 "0%", "--max-kl", "0", "--max-ppl-ratio", "1", "--json", "-"});
  ASSERT_EQ(run.status, 0) << run.err;
  const Json candidate = Json::parse(run.out)["candidates"][0];
  for (const char* task : {"perplexity", "perplexity_llama"}) {
    const Json& found = candidate["tasks"][task];
    EXPECT_EQ(found["ppl_ratio"], 1.0);
    EXPECT_EQ(found["ppl_ratio_se"], 0.0);
    for (const char* key : {"kl_mean", "kl_median", "kl_p999", "kl_max", "delta_p_rms",
                            "ppl_difference", "relative_loss"}) {
      EXPECT_EQ(found[key], 0.0) << key;
    }
    EXPECT_EQ(found["top1_agreement"], 1.0);
    EXPECT_EQ(found["top5_agreement"], 1.0);
    EXPECT_THAT(found["verdict"].get<std::string>(), HasSubstr("identical"));
  }
  EXPECT_EQ(candidate["tasks"]["quiz"]["relative_loss"], 0.0);
  for (const Json& layer : candidate["layers"]) {
    EXPECT_TRUE(layer["sqnr_db"].is_null());
    EXPECT_EQ(layer["kl_mean"], 0.0);
  }
}

TEST_F(EvaluationCommand, DraftAndTarget) {
  const Finished run =
      run_program(kAccuracyEval, {"--draft", other_, "--draft", model_, "--target", model_,
                                  "--text", text_, "--ctx", "64", "-q", "--json", dir_ / "s.json"});
  ASSERT_EQ(run.status, 0) << run.err;
  const Json report = Json::parse(read_file(dir_ / "s.json"));
  EXPECT_EQ(report["schema"], "pare.speculative/1");
  EXPECT_THAT(run.out, HasSubstr("100"));
  expect_usage_error(run_program(kAccuracyEval, {"--draft", other_, "--text", text_}), "--target");
  expect_usage_error(run_program(kAccuracyEval, {"--draft", other_, "--target", model_}), "--text");
  expect_usage_error(run_program(kAccuracyEval, {"--draft", other_, "--target", model_, "--text",
                                                 text_, "--max-kl", "1"}),
                     "--max-kl");
  expect_usage_error(
      run_program(kAccuracyEval, {"--draft", other_, "--target", model_, "--text", text_, model_}),
      "one too many");
}

TEST_F(EvaluationCommand, TheCacheChangesNothingButTheTime) {
  const Arguments both = {"--tasks", "perplexity," + quiz_, "--json", "-"};
  const Json plain = without_timings(Json::parse(score_text(both).out));
  for (int repeat = 0; repeat < 2; ++repeat) {
    const Finished run = score_text(both + Arguments{"--cache", dir_ / "cache"});
    ASSERT_EQ(run.status, 0) << run.err;
    EXPECT_EQ(without_timings(Json::parse(run.out)), plain);
  }
  EXPECT_FALSE(std::filesystem::is_empty(dir_ / "cache"));
}

// What cannot work is said before anything runs, not after hours.
TEST_F(EvaluationCommand, AllTasksAreReadBeforeTheFirstRuns) {
  const Arguments slow = {"--text", text_, "--ctx", "64", other_, "--progress", "plain"};
  const auto fails = [&](const Arguments& more, int status) {
    const Finished run = run_program(kAccuracyEval, Arguments{"--baseline", model_} + slow + more);
    EXPECT_EQ(run.status, status) << run.err;
    EXPECT_THAT(run.err, Not(HasSubstr("layer 1"))) << run.err;
  };
  fails({"--tasks", "perplexity," + (dir_ / "none.jsonl")}, 3);
  std::filesystem::create_directory(dir_ / "b");
  std::filesystem::copy_file(quiz_, dir_ / "b/quiz.jsonl");
  fails({"--tasks", "perplexity," + quiz_ + "," + (dir_ / "b/quiz.jsonl")}, 2);
}

TEST_F(EvaluationCommand, ByLayerListsEveryLinear) {
  const Finished run = score_text({"--by-layer", "--layer-windows", "2", "--json", "-"});
  ASSERT_EQ(run.status, 0) << run.err;
  const Json report = Json::parse(run.out);
  const Json& candidate = report["candidates"][0];
  EXPECT_GE(candidate["layers"].size(), 14U);
  EXPECT_EQ(candidate["layer_tokens"], 2 * 63);
  EXPECT_EQ(candidate["layers"][0]["name"], "model.layers.0.self_attn.q_proj");
  EXPECT_GT(candidate["layers"][0]["kl_mean"], 0);
  for (int repeat = 0; repeat < 2; ++repeat) {
    const Finished cached = score_text(
        {"--by-layer", "--layer-windows", "2", "--json", "-", "--cache", dir_ / "cache"});
    EXPECT_EQ(without_timings(Json::parse(cached.out)), without_timings(report)) << cached.err;
  }
}

TEST_F(EvaluationCommand, MalformedInputsOfTasksExitWithFour) {
  write_file(dir_ / "empty.txt", "");
  write_file(dir_ / "short.txt", "Too short.");
  write_file(dir_ / "bad.jsonl", "{\"question\": \"a?\", \"choices\": [\"b\"], \"answer\": 7}\n");
  write_file(dir_ / "none.jsonl", "\n");
  struct Case {
    Arguments arguments;
    std::string word;
  };
  const std::vector<Case> cases = {
      {{"--text", dir_ / "empty.txt"}, "empty.txt"},
      {{"--text", dir_ / "short.txt"}, "short.txt"},
      {{"--tasks", dir_ / "bad.jsonl"}, "bad.jsonl"},
      {{"--tasks", dir_ / "none.jsonl"}, "none.jsonl"},
  };
  for (const Case& test : cases) {
    const Finished run = evaluate(test.arguments);
    EXPECT_EQ(run.status, 4) << test.word << run.err;
    EXPECT_EQ(run.out, "");
    EXPECT_THAT(run.err, HasSubstr(test.word));
  }
  // A question that no context holds, and a subject without examples.
  write_file(dir_ / "long.jsonl", R"({"question": ")" + std::string(20000, 'a') +
                                      R"(", "choices": ["b", "c"], "answer": 0})");
  const Finished length = evaluate({"--tasks", dir_ / "long.jsonl"});
  EXPECT_EQ(length.status, 4) << length.err;
  EXPECT_THAT(length.err, HasSubstr("long.jsonl"));
  std::filesystem::create_directories(dir_ / "mmlu/test");
  std::filesystem::create_directories(dir_ / "mmlu/dev");
  write_file(dir_ / "mmlu/test/anatomy_test.csv", "Q,a,b,c,d,A\n");
  const Finished dev = evaluate({"--tasks", "mmlu", "--mmlu_dir", dir_ / "mmlu"});
  EXPECT_EQ(dev.status, 4) << dev.err;
  EXPECT_THAT(dev.err, HasSubstr("anatomy"));
}

}  // namespace
}  // namespace pare::testing
