// accuracy-eval's --json FILE: what it never replaces, and where it may go.
#include <gmock/gmock.h>

#include <filesystem>

#include "tests/cli/cli_fixture.h"

namespace pare::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class Report : public TinyModel {
 protected:
  void SetUp() override {
    TinyModel::SetUp();
    // Enough for two windows, so that each run is short.
    write_file(text_, read_file(kText).substr(0, 1500));
  }

  Arguments evaluation(const Arguments& more) const {
    return Arguments{"--baseline", model_, "--text", text_, "--ctx", "32", "--limit", "2", "-q"} +
           more;
  }

  // One line with all of `words`, nothing on stdout, and no file other than before.
  void expect_refusal(const Arguments& arguments, int status,
                      const std::vector<std::string>& words) const {
    const auto before = list_folder(dir_.path());
    const Finished run = run_program(kAccuracyEval, arguments);
    EXPECT_EQ(run.status, status) << run.err;
    EXPECT_EQ(run.out, "");
    ASSERT_EQ(error_lines(run.err).size(), 1U) << run.err;
    for (const std::string& word : words) EXPECT_THAT(run.err, HasSubstr(word));
    EXPECT_EQ(list_folder(dir_.path()), before);
  }

  std::string text_ = dir_ / "text.txt";
  std::string json_ = dir_ / "eval.json";
};

TEST_F(Report, AnExistingFileIsKeptWithoutForce) {
  write_file(json_, "precious");
  // Before any work: the model is not even looked for.
  expect_refusal({"--baseline", "/no/such/model", "--text", text_, "--json", json_}, 5,
                 {"eval.json", "--force"});
  EXPECT_EQ(read_file(json_), "precious");
  const Finished run = run_program(kAccuracyEval, evaluation({"--json", json_, "--force"}));
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(nlohmann::json::parse(read_file(json_)).at("schema"), "pare.eval/1");
}

TEST_F(Report, ForceKeepsTheOldFileWhenTheRunFails) {
  write_file(json_, "precious");
  expect_refusal({"--baseline", "/no/such/model", "--text", text_, "--json", json_, "--force"}, 3,
                 {"/no/such/model"});
  EXPECT_EQ(read_file(json_), "precious");
}

TEST_F(Report, ALinkThatLeadsNowhereIsKeptToo) {
  std::filesystem::create_symlink("nowhere", json_);
  expect_refusal(evaluation({"--json", json_}), 5, {"eval.json", "--force"});
  EXPECT_TRUE(std::filesystem::is_symlink(json_));
}

TEST_F(Report, InputsAreNeverReplaced) {
  const std::string candidate = dir_ / "candidate.h5";
  const std::string golden = dir_ / "golden.safetensors";
  write_file(candidate, "a checkpoint");
  write_file(golden, "logits");
  const std::string config = model_ + "/config.json";
  const std::string same_text = dir_ / "link.txt";
  std::filesystem::create_symlink("text.txt", same_text);
  const std::string same_candidate = dir_ / "hard.h5";
  std::filesystem::create_hard_link(candidate, same_candidate);
  for (const std::string& file : {text_, same_text, candidate, same_candidate, config, model_,
                                  dir_ / "./model/../text.txt"}) {
    SCOPED_TRACE(file);
    const std::string before = read_file(file);
    expect_refusal(evaluation({candidate, "--json", file}), 2, {"--json", "input"});
    expect_refusal(evaluation({candidate, "--json", file, "--force"}), 2, {"--json", "input"});
    EXPECT_EQ(read_file(file), before);
  }
  for (const std::string& file : {golden, config}) {
    expect_refusal({"--verify", golden, model_, "--json", file, "--force"}, 2, {"--json", "input"});
  }
  EXPECT_EQ(read_file(golden), "logits");
}

TEST_F(Report, ANameThatLooksLikeAnOptionIsRefused) {
  const auto run_in_folder = [&](const std::string& json) {
    return run_program("/bin/sh",
                       Arguments{"-c", "cd \"$0\" && exec \"$@\"", dir_.path(), kAccuracyEval} +
                           evaluation({json}));
  };
  for (const char* json : {"--json=-x.json", "--json=--force", "--json=-q"}) {
    const Finished run = run_in_folder(json);
    EXPECT_EQ(run.status, 2) << run.err;
    EXPECT_THAT(run.err, HasSubstr("--json"));
  }
  EXPECT_EQ(list_folder(dir_.path()), (Arguments{"model", "text.txt"}));
  EXPECT_EQ(run_in_folder("--json=./-x.json").status, 0);
  expect_refusal(evaluation({"--json", "--force"}), 2, {"--json needs a value"});
  expect_refusal(evaluation({"--json", ""}), 2, {"--json", "empty"});
}

TEST_F(Report, DevicesAndPipesAreWrittenTo) {
  EXPECT_EQ(run_program(kAccuracyEval, evaluation({"--json", "/dev/null"})).status, 0);
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));

  const Finished full = run_program(kAccuracyEval, evaluation({"--json", "/dev/full"}));
  EXPECT_EQ(full.status, 5);
  EXPECT_THAT(full.err, HasSubstr("/dev/full"));

  const Finished pipe = run_program(
      "/bin/bash", Arguments{"-c", "mkfifo \"$0\" && { cat \"$0\" & \"$@\" >/dev/null; wait; }",
                             dir_ / "pipe", kAccuracyEval} +
                       evaluation({"--json", dir_ / "pipe"}));
  EXPECT_EQ(nlohmann::json::parse(pipe.out).at("schema"), "pare.eval/1") << pipe.err;
  EXPECT_TRUE(std::filesystem::is_fifo(dir_ / "pipe"));
}

// Stdout is a file here: it must be neither refused as existing nor replaced nor overwritten.
TEST_F(Report, DevStdoutIsStdout) {
  const Finished run = run_program(kAccuracyEval, evaluation({"--json", "/dev/stdout"}));
  ASSERT_EQ(run.status, 0) << run.err;
  const size_t table = run.out.find("\nperplexity\n");
  ASSERT_NE(table, std::string::npos) << run.out;
  EXPECT_EQ(nlohmann::json::parse(run.out.substr(0, table)).at("schema"), "pare.eval/1");
  EXPECT_THAT(run.out.substr(table), HasSubstr("PPL"));
  EXPECT_TRUE(std::filesystem::is_symlink("/dev/stdout"));
}

// oneDNN prints to stdout when it is told to by the environment.
TEST_F(Report, StdoutCarriesTheResultOnly) {
  for (const char* name : {"DNNL_VERBOSE", "ONEDNN_VERBOSE"}) {
    const RunOptions loud{.environment = {{name, "1"}}};
    const Finished run = run_program(kAccuracyEval, evaluation({"--json", "-"}), loud);
    EXPECT_EQ(run.status, 0) << run.err;
    EXPECT_THAT(run.out, StartsWith("{"));
    EXPECT_TRUE(nlohmann::json::accept(run.out)) << run.out;
  }
}

TEST_F(Report, VerifyRefusesWhatItWouldIgnore) {
  const std::string golden = dir_ / "golden.safetensors";
  write_file(golden, "logits");
  const std::vector<Arguments> ignored = {
      {"--baseline", model_}, {"--text", text_},    {"--tasks", "perplexity"}, {"--ctx", "512"},
      {"--limit", "0"},       {"--max-loss", "1%"}, {"--max-memory", "8GiB"}};
  for (const Arguments& option : ignored) {
    expect_refusal(Arguments{"--verify", golden, model_} + option, 2, {"--verify", option[0]});
  }
  expect_refusal({"--verify", golden, model_, "--text", text_, "--limit", "3"}, 2,
                 {"--text, --limit"});
  expect_refusal({"--verify", golden, model_, model_}, 2, {"one model", "2"});
}

}  // namespace
}  // namespace pare::testing
