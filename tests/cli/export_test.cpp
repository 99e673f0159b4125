// quantize export, from the command line.
#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>
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

// A checkpoint in OUT.h5 keeps its name, and each form is a folder beside it.
TEST_F(Export, WithinARun) {
  const Finished done = run_program(
      kQuantize, arguments({"--qformat", "int4_awq", "-q", "--export", "compressed-tensors,awq"}));
  ASSERT_EQ(done.status, 0) << done.err;
  const std::string stem = dir_ / "out";
  for (const std::string form : {"compressed-tensors", "awq"}) {
    EXPECT_THAT(done.out, HasSubstr("out-" + form));
    EXPECT_TRUE(std::filesystem::exists(stem + "-" + form + "/pare_export.json"));
  }
  // Neither form has a place for scales of an input, so none were made.
  const auto recipe = run_program(kQuantize, {"check", stem + "-awq", "--json"});
  EXPECT_EQ(recipe.status, 0) << recipe.out;
  const Finished measured =
      run_program(kAccuracyEval, {"--baseline", out_, stem + "-compressed-tensors", "--text", kText,
                                  "--ctx", "64", "--limit", "4", "--json", "-", "-q"});
  ASSERT_EQ(measured.status, 0) << measured.err;
  EXPECT_EQ(nlohmann::json::parse(measured.out)["candidates"][0]["tasks"]["perplexity"]["kl_mean"],
            0);
}

// Without .h5 the folder itself is what the engine loads, and nothing else stays.
TEST_F(Export, AsTheOutputItself) {
  const Finished done =
      run_program(kQuantize, {"--model_dir", model_, "--dtype", "bfloat16", "--qformat", "fp8",
                              "--kv_cache_dtype", "fp8", "--output_dir", folder_, "--calib_size",
                              "4", "--calib_seqlen", "64", "--export", "modelopt", "--json"});
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_THAT(done.err, HasSubstr("calibrated on the text that pare brings, 4 windows"));
  EXPECT_THAT(done.err, ::testing::Not(HasSubstr("the largest of")));  // One scale was chosen.
  EXPECT_TRUE(std::filesystem::exists(folder_ + "/hf_quant_config.json"));
  EXPECT_EQ(list_folder(dir_.path()), (std::vector<std::string>{"engine", "model"}));
  // Two reports, one behind the other.
  const size_t second = done.out.find("\n{") + 1;
  const auto job = nlohmann::json::parse(done.out.substr(0, second));
  EXPECT_EQ(job["output"], folder_);
  EXPECT_EQ(job["file_bytes"], 0);  // Of the checkpoint, which is gone.
  EXPECT_EQ(job["sha256"], "");
  EXPECT_EQ(nlohmann::json::parse(done.out.substr(second))["schema"], "pare.export/1");
}

TEST_F(Export, RefusesBeforeTheWork) {
  expect_failure(arguments({"--qformat", "fp8", "--export", "awq"}), 4, {"q_proj", "FP8", "AWQ"});
  expect_failure(
      arguments({"--qformat", "fp8", "--kv-cache", "int8", "--export", "compressed-tensors"}), 4,
      {"compressed-tensors", "INT8", "--kv-cache fp8"});
  expect_failure(arguments({"--formats", "fp8,int4_awq", "--max-loss", "5%", "--export", "gptq"}),
                 2, {"gptq", "one kind"});
  expect_failure(arguments({"--qformat", "int4_awq", "--export", "awq", "--exclude", "q_proj"}), 4,
                 {"k_proj", "run them as one linear"});
  expect_failure(arguments({"--export", "gptq,gptq"}), 2, {"gptq twice"});
  expect_failure(arguments({"--export", ""}), 2, {"--export names no form"});
  // Several forms in one folder, which is not made before they are.
  Arguments several = arguments({"--qformat", "fp8", "--export", "gptq,awq"});
  std::replace(several.begin(), several.end(), out_, folder_);
  expect_failure(several, 4, {"GPTQ"});
  std::filesystem::create_directories(dir_ / "out-gptq");
  write_file(dir_ / "out-gptq/mine.txt", "not to be lost");
  expect_failure(arguments({"--qformat", "int4_awq", "--export", "gptq", "--force"}), 5,
                 {"out-gptq"});
}

// The plan of a mixed job is named for the folder, not for the checkpoint that goes.
TEST_F(Export, AsTheOutputOfAMixedJob) {
  Arguments mixed = arguments({"--formats", "fp8,full_prec", "--target-bits", "12", "-q",
                               "--export", "compressed-tensors"});
  std::replace(mixed.begin(), mixed.end(), out_, folder_);
  const Finished done = run_program(kQuantize, mixed);
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_THAT(done.out, ::testing::Not(HasSubstr("pare-job")));
  EXPECT_EQ(list_folder(dir_.path()),
            (std::vector<std::string>{"engine", "engine.recipe.json", "model"}));
}

// One format's export fails, which only its finished checkpoint shows: weights that are all
// positive have a zero point of 0, which version 1 of GPTQ cannot say. The others have theirs.
TEST_F(Export, AFailingExportTakesNoOtherAlong) {
  for (const std::string& name : list_folder(model_)) {
    if (!name.ends_with(".safetensors")) continue;
    std::string bytes = read_file(model_ + "/" + name);
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), sizeof(length));
    const auto header = nlohmann::json::parse(bytes.substr(8, length));
    const auto tensor = header.find("model.layers.0.mlp.up_proj.weight");
    if (tensor == header.end()) continue;
    const auto& offsets = tensor->at("data_offsets");
    for (size_t i = offsets[0]; i < offsets[1]; i += 2) bytes[8 + length + i + 1] &= 0x7f;
    write_file(model_ + "/" + name, bytes);
  }
  Arguments several =
      arguments({"--qformat", "int4_wo,int8_wo", "--asym", "-q", "--export", "gptq"});
  std::replace(several.begin(), several.end(), out_, std::string(dir_ / "x-{qformat}"));
  const Finished done = run_program(kQuantize, several);
  EXPECT_EQ(done.status, 4) << done.err;
  EXPECT_THAT(done.err, HasSubstr("x-int4_wo.pare-job.h5"));
  EXPECT_THAT(done.out, HasSubstr("x-int4_wo"));
  EXPECT_THAT(done.out, HasSubstr("x-int8_wo"));
  EXPECT_EQ(list_folder(dir_.path()),
            (std::vector<std::string>{"model", "x-int4_wo.pare-job.h5", "x-int8_wo"}));
}

TEST_F(Export, CheckNamesWhatIsRefused) {
  compress({"--no-pre-quant-scale"});
  ASSERT_EQ(run({out_, "--export", "awq", "-o", folder_}).status, 0);
  const Finished whole = run_program(kQuantize, {"check", folder_});
  EXPECT_EQ(whole.status, 0);
  EXPECT_THAT(whole.out, HasSubstr("nothing that an engine would refuse"));
  const Finished split = run_program(kQuantize, {"check", folder_, "--tp_size", "3", "--json"});
  EXPECT_EQ(split.status, 4);
  EXPECT_FALSE(nlohmann::json::parse(split.out)["refusals"].empty());
  EXPECT_EQ(run_program(kQuantize, {"check"}).status, 2);
  EXPECT_EQ(run_program(kQuantize, {"check", folder_ + "x"}).status, 3);
  EXPECT_EQ(run_program(kQuantize, {"check", folder_, "--tp_size", "0"}).status, 2);
}

TEST_F(Export, HelpFitsATerminal) {
  for (const char* command : {"export", "check"}) {
    const Finished done = run_program(kQuantize, {command, "--help"});
    EXPECT_EQ(done.status, 0);
    EXPECT_THAT(done.out, HasSubstr("quantize " + std::string(command)));
    std::istringstream lines(done.out);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80U) << line;
  }
}

}  // namespace
}  // namespace pare::testing
