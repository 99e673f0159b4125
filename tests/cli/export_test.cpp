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

TEST_F(Export, WritesAGgufFileThatIsAModel) {
  compress();
  const Finished done = run({out_, "--export", "gguf", "-o", folder_});
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_THAT(done.out, HasSubstr("14 linears"));
  EXPECT_THAT(done.err, HasSubstr("F16"));
  EXPECT_EQ(list_folder(folder_), (std::vector<std::string>{"model.gguf", "pare_export.json"}));
  // The file and its folder are measured with the tokenizer that the file holds.
  for (const std::string& model : {folder_, folder_ + "/model.gguf"}) {
    const Finished measured =
        run_program(kAccuracyEval, {"--baseline", out_, model, "--text", kText, "--ctx", "64",
                                    "--limit", "4", "--json", "-", "-q"});
    ASSERT_EQ(measured.status, 0) << measured.err;
    const auto report = nlohmann::json::parse(measured.out);
    EXPECT_LT(report["candidates"][0]["tasks"]["perplexity"]["kl_mean"], 1e-4);
    EXPECT_EQ(report["candidates"][0]["qformat"], "int4_wo");
  }
  const auto measure = [&](const std::string& baseline) {
    const Finished alone =
        run_program(kAccuracyEval, {"--baseline", baseline, folder_, "--text", kText, "--ctx", "64",
                                    "--limit", "4", "--json", "-", "-q"});
    EXPECT_EQ(alone.status, 0) << alone.err;
    return nlohmann::json::parse(alone.out)["ids_sha256"];
  };
  EXPECT_EQ(measure(folder_), measure(out_));
  // And quantized again, into a checkpoint and another form.
  const Finished again = run({folder_ + "/model.gguf", "--export", "dense", "-o", folder_ + "2"});
  EXPECT_EQ(again.status, 0) << again.err;
  write_file(folder_ + "/model.gguf", "GGUF");
  const Finished damaged = run({folder_, "--export", "dense", "-o", folder_ + "3"});
  EXPECT_EQ(damaged.status, 4) << damaged.err;
  EXPECT_THAT(damaged.err, HasSubstr("model.gguf"));
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
