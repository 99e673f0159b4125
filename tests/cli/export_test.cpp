// quantize export, from the command line.
#include <gmock/gmock.h>

#include <filesystem>
#include <sstream>

#include "tests/cli/cli_fixture.h"

namespace pare::testing {
namespace {

using ::testing::HasSubstr;

class Export : public TinyModel {
 protected:
  void compress(const Arguments& more = {}) const {
    const Finished done = run_program(kQuantize, arguments({"--qformat", "int4_awq", "-q"}) + more);
    ASSERT_EQ(done.status, 0) << done.err;
  }
  Finished run(const Arguments& more) const {
    return run_program(kQuantize, Arguments{"export"} + more);
  }

  std::string folder_ = dir_ / "engine";
};

TEST_F(Export, WritesAFolderThatAccuracyEvalMeasures) {
  compress();
  const Finished done = run({out_, "--export", "compressed-tensors", "-o", folder_});
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_THAT(done.out, HasSubstr("14 linears"));
  for (const char* name : {"config.json", "model.safetensors", "tokenizer.json"}) {
    EXPECT_TRUE(std::filesystem::exists(folder_ + "/" + name)) << name;
  }
  const Finished measured =
      run_program(kAccuracyEval, {"--baseline", out_, folder_, "--text", kText, "--ctx", "64",
                                  "--limit", "4", "--json", "-", "-q"});
  ASSERT_EQ(measured.status, 0) << measured.err;
  const auto report = nlohmann::json::parse(measured.out);
  EXPECT_EQ(report["candidates"][0]["tasks"]["perplexity"]["kl_mean"], 0);
  EXPECT_EQ(report["candidates"][0]["qformat"], "int4_wo");
  // A folder is exported as a checkpoint is.
  const Finished again =
      run({folder_, "--export", "compressed-tensors", "-o", folder_ + "2", "--json"});
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(nlohmann::json::parse(again.out)["schema"], "pare.export/1");
  EXPECT_EQ(read_file(folder_ + "2/model.safetensors"), read_file(folder_ + "/model.safetensors"));
}

TEST_F(Export, WritesAFileForEachRank) {
  const Finished made = run_program(kQuantize, arguments({"--qformat", "fp8", "-q"}));
  ASSERT_EQ(made.status, 0) << made.err;
  const Finished done = run(
      {out_, "--export", "tensorrt-llm", "-o", folder_, "--tp-size", "2", "--pp_size", "2", "-q"});
  ASSERT_EQ(done.status, 0) << done.err;
  for (const char* name : {"config.json", "hf_config.json", "rank0.safetensors",
                           "rank3.safetensors", "tokenizer.json", "pare_export.json"}) {
    EXPECT_TRUE(std::filesystem::exists(folder_ + "/" + name)) << name;
  }
  const auto mapping = nlohmann::json::parse(read_file(folder_ + "/config.json"))["mapping"];
  EXPECT_EQ(mapping["world_size"], 4);
  // As somebody else's: no tokenizer, no configuration of the original model.
  for (const char* name : {"hf_config.json", "tokenizer.json", "pare_export.json"}) {
    std::filesystem::remove(folder_ + "/" + name);
  }
  const Finished measured =
      run_program(kAccuracyEval, {"--baseline", out_, folder_, "--text", kText, "--ctx", "64",
                                  "--limit", "4", "--json", "-", "-q"});
  ASSERT_EQ(measured.status, 0) << measured.err;
  const auto report = nlohmann::json::parse(measured.out);
  EXPECT_EQ(report["candidates"][0]["tasks"]["perplexity"]["kl_mean"], 0);
  // A split that cannot be done writes nothing.
  const Finished refused =
      run({out_, "--export", "tensorrt-llm", "-o", folder_ + "2", "--tp_size", "3"});
  EXPECT_EQ(refused.status, 2);
  EXPECT_THAT(refused.err, HasSubstr("3 ranks"));
  EXPECT_FALSE(std::filesystem::exists(folder_ + "2"));
}

TEST_F(Export, SaysWhatIsWrong) {
  compress();
  struct Case {
    Arguments arguments;
    int status;
    const char* words;
  };
  for (const Case& one : std::vector<Case>{
           {{}, 2, "no checkpoint given"},
           {{out_}, 2, "compressed-tensors"},
           {{out_, "--export", "compressed-tensor", "-o", folder_}, 2, "compressed-tensors"},
           {{out_, "--export", "compressed-tensors"}, 2, "-o DIR"},
           {{out_, "--export", "compressed-tensors", "-o", folder_, "--tp_size", "2"},
            2,
            "tp_size"},
           {{out_ + "x", "--export", "compressed-tensors", "-o", folder_}, 3, "x"},
           {{out_, "--export", "compressed-tensors", "-o", dir_ / "none/engine"}, 5, "none"}}) {
    const Finished done = run(one.arguments);
    EXPECT_EQ(done.status, one.status) << done.err;
    EXPECT_EQ(done.out, "");
    EXPECT_EQ(error_lines(done.err).size(), 1U) << done.err;
    EXPECT_THAT(done.err, HasSubstr(one.words));
    EXPECT_FALSE(std::filesystem::exists(folder_));
  }
}

TEST_F(Export, HelpFitsATerminal) {
  const Finished done = run({"--help"});
  EXPECT_EQ(done.status, 0);
  EXPECT_THAT(done.out, HasSubstr("--shard-size"));
  EXPECT_THAT(done.out, HasSubstr("compressed-tensors"));
  std::istringstream lines(done.out);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80U) << line;
}

}  // namespace
}  // namespace pare::testing
