// Inputs that are missing, broken or unsupported: the exit status, one clear line, no output.
#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <regex>

#include "tests/cli/cli_fixture.h"

namespace pare::testing {
namespace {

using ::testing::HasSubstr;

class Failure : public TinyModel {
 protected:
  std::string config_ = model_ + "/config.json";
  std::string shard_ = model_ + "/model-00002-of-00002.safetensors";
};

TEST_F(Failure, MissingModelNamesThePath) {
  expect_failure({"/no/such/model", "-o", out_, "--calib", kCalib}, 3, {"/no/such/model"});
  expect_failure({"/no/such/model", "-o", out_, "--calib", kCalib, "--dry-run"}, 3,
                 {"/no/such/model"});
}

TEST_F(Failure, FolderWithoutAModel) {
  std::filesystem::remove(config_);
  expect_failure(arguments(), 3, {"config.json"});
}

TEST_F(Failure, MissingShard) {
  std::filesystem::remove(shard_);
  expect_failure(arguments(), 3, {"model-00002-of-00002.safetensors"});
}

TEST_F(Failure, TruncatedShard) {
  std::filesystem::resize_file(shard_, std::filesystem::file_size(shard_) - 1000);
  expect_failure(arguments(), 4, {"model-00002-of-00002.safetensors"});
  std::filesystem::resize_file(shard_, 5);
  expect_failure(arguments(), 4, {"model-00002-of-00002.safetensors"});
}

TEST_F(Failure, ConfigThatDisagreesWithTheShapes) {
  edit_file(config_, "\"intermediate_size\": 96", "\"intermediate_size\": 80");
  expect_failure(arguments(), 4, {"96", "80"});
}

TEST_F(Failure, ConfigThatIsNoJson) {
  write_file(config_, "{\"architectures\": [");
  expect_failure(arguments(), 4, {"config.json"});
}

TEST_F(Failure, UnknownArchitecture) {
  edit_file(config_, "LlamaForCausalLM", "NonesuchForCausalLM");
  edit_file(config_, "\"model_type\": \"llama\"", "\"model_type\": \"nonesuch\"");
  expect_failure(arguments(), 4, {"onesuch"});
}

TEST_F(Failure, TokenizerThatIsNotBpe) {
  auto tokenizer = nlohmann::json::parse(read_file(model_ + "/tokenizer.json"));
  tokenizer["model"] = {{"type", "WordLevel"}, {"vocab", {{"a", 0}}}, {"unk_token", "a"}};
  write_file(model_ + "/tokenizer.json", tokenizer.dump());
  expect_failure(arguments(), 4, {"tokenizer.json", "WordLevel"});
}

TEST_F(Failure, NotANumberInAWeight) {
  for (const uint16_t bits : {uint16_t{0x7fc0}, uint16_t{0xff80}}) {  // NaN, minus infinity.
    poke_tensor(shard_, "model.layers.1.mlp.up_proj.weight", bits);
    expect_failure(arguments(), 7, {"model.layers.1.mlp.up_proj"});
    expect_failure(arguments({"--qformat", "full_prec", "--sparsity", "magnitude"}), 7,
                   {"model.layers.1.mlp.up_proj"});
  }
}

TEST_F(Failure, MissingCalibration) {
  expect_failure({model_, "-o", out_, "--calib", "/no/such/calib.jsonl"}, 3,
                 {"/no/such/calib.jsonl"});
}

TEST_F(Failure, TooLittleCalibration) {
  expect_failure(
      {model_, "-o", out_, "--calib", kCalib, "--calib_size", "100000", "--calib_seqlen", "256"}, 4,
      {"calib.jsonl", "100000"});
}

TEST_F(Failure, CalibrationThatIsNoJsonLines) {
  const std::string calib = dir_ / "broken.jsonl";
  write_file(calib, "{\"text\": \"fine\"}\n{\"text\": \n");
  expect_failure({model_, "-o", out_, "--calib", calib, "--calib_size", "8"}, 4, {"broken.jsonl"});
}

TEST_F(Failure, MemoryLimitIsRefusedUpFrontWithTheNumberThatWouldDo) {
  expect_failure(arguments({"--max-memory", "1MB"}), 6, {"1000000"});
  const Finished refused = run_program(kQuantize, arguments({"--max-memory", "1MB"}));
  std::smatch needed;
  ASSERT_TRUE(std::regex_search(refused.err, needed, std::regex("needs about ([0-9]+) bytes")))
      << refused.err;
  const Finished kept = run_program(kQuantize, arguments({"--max-memory", needed[1], "--json"}));
  EXPECT_EQ(kept.status, 0) << kept.err;
  EXPECT_LE(nlohmann::json::parse(kept.out).at("peak_rss_bytes").get<int64_t>(),
            std::stoll(needed[1]));
}

TEST_F(Failure, EvaluationOfWhatIsNotThere) {
  const Finished run = run_program(
      kAccuracyEval, {"--baseline", model_, "/no/such/candidate.h5", "--text", kText, "-q"});
  EXPECT_EQ(run.status, 3);
  EXPECT_EQ(run.out, "");
  EXPECT_THAT(run.err, HasSubstr("/no/such/candidate.h5"));
  EXPECT_EQ(run_program(kAccuracyEval, {"--baseline", model_, "--text", "/no/such/text"}).status,
            3);
}

TEST_F(Failure, EvaluationOfADamagedCheckpoint) {
  const std::string candidate = dir_ / "garbage.h5";
  write_file(candidate, "this is no HDF5 file");
  const Finished run =
      run_program(kAccuracyEval, {"--baseline", model_, candidate, "--text", kText, "-q"});
  EXPECT_EQ(run.status, 4);
  EXPECT_THAT(run.err, HasSubstr("garbage.h5"));
}

// The HDF5 library has complaints of its own about files whose structure is broken.
TEST_F(Failure, DamageInsideACheckpointIsOneLine) {
  ASSERT_EQ(run_program(kQuantize, arguments({"-q"})).status, 0);
  const std::string sound = read_file(out_);
  const std::string candidate = dir_ / "damaged.h5";
  int refused = 0;
  // Past the superblock, where groups and attributes are.
  for (size_t at = 100; at < 12000; at += 150) {
    std::string bytes = sound;
    for (size_t i = at; i < at + 8; ++i) bytes[i] = static_cast<char>(~bytes[i]);
    write_file(candidate, bytes);
    const Finished run = run_program(
        kAccuracyEval, {"--baseline", model_, candidate, "--text", kText, "--limit", "1", "-q"});
    EXPECT_TRUE(run.status == 0 || run.status == 4) << at << ": " << run.err;
    EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), run.status == 0 ? 0 : 1)
        << at << ": " << run.err;
    refused += run.status == 4;
  }
  EXPECT_GT(refused, 5);
}

TEST_F(Failure, EvaluationTextShorterThanAWindow) {
  const std::string text = dir_ / "short.txt";
  write_file(text, "three short words");
  const Finished run = run_program(kAccuracyEval, {"--baseline", model_, "--text", text, "-q"});
  EXPECT_EQ(run.status, 4) << run.err;
  EXPECT_THAT(run.err, HasSubstr("short.txt"));
}

// Both programs read text through one reader.
TEST_F(Failure, TextThatIsNone) {
  const std::string folder = dir_ / "folder.txt";
  std::filesystem::create_directory(folder);
  const auto expect = [&](const std::string& path, int status, const std::string& word) {
    expect_failure({model_, "-o", out_, "--calib", path}, status, {path, word});
    const Finished run = run_program(kAccuracyEval, {"--baseline", model_, "--text", path, "-q"});
    EXPECT_EQ(run.status, status) << run.err;
    EXPECT_EQ(run.out, "");
    EXPECT_THAT(run.err, HasSubstr(path));
    EXPECT_THAT(run.err, HasSubstr(word));
  };
  expect(folder, 3, "folder");
  const auto expect_content = [&](const std::string& name, const std::string& content,
                                  const std::string& word) {
    write_file(dir_ / name, content);
    expect(dir_ / name, 4, word);
  };
  expect_content("empty.txt", "", "empty");
  expect_content("c4.jsonl.gz", "\x1f\x8b\x08 and more", "gzip");
  expect_content("weights.bin", std::string("a\0b", 3), "byte 1 is NUL");
  expect_content("latin1.txt", "caf\xe9 au lait", "byte 3 ");
  expect_content("lines.json", "{\"text\": \"words\"}\n", "rename it to .jsonl");
}

TEST_F(Failure, VerifyWithoutTheGoldenFile) {
  const Finished run = run_program(kAccuracyEval, {"--verify", "/no/such/golden", model_});
  EXPECT_EQ(run.status, 3);
  EXPECT_THAT(run.err, HasSubstr("/no/such/golden"));
}

}  // namespace
}  // namespace pare::testing
