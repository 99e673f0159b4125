// Damaged GGUF files: every length, count, offset and type is looked at before it is used.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

#include "formats/gguf_file.h"
#include "formats/gguf_source.h"
#include "tests/formats/gguf_files.h"
#include "tests/formats/test_files.h"

namespace pare::test {
namespace {

class GgufHostile : public ::testing::Test {
 protected:
  void expect_refused(const std::string& bytes, const std::vector<std::string>& words) const {
    write_file(path_, bytes);
    std::vector<std::string> parts = words;
    parts.push_back(path_);
    expect_error([&] { open_gguf(path_); }, ErrorCode::kInputMalformed, parts);
  }

  // One change of a whole model.
  void expect_refused(const std::function<void(GgufBytes&)>& change,
                      const std::vector<std::string>& words) const {
    GgufBytes file = whole_llama_gguf(32);
    change(file);
    expect_refused(file.bytes(), words);
  }

  TempFolder folder_;
  std::string path_ = folder_ / "m.gguf";
};

TEST_F(GgufHostile, CutAnywhere) {
  const GgufBytes file = whole_llama_gguf(32);
  const std::string whole = file.bytes();
  write_file(path_, whole);
  EXPECT_EQ(open_gguf(path_)->names().size(), 11U);
  for (size_t size = 0; size < file.header().size(); ++size) {
    write_file(path_, whole.substr(0, size));
    EXPECT_THROW(GgufFile{path_}, Error) << size;
  }
  expect_refused(whole.substr(0, whole.size() - 1), {"output_norm.weight", "truncated"});
  expect_refused(whole.substr(0, file.header().size()), {"token_embd.weight", "truncated"});
}

TEST_F(GgufHostile, AnyByteOfTheHeaderMayChange) {
  const GgufBytes file = whole_llama_gguf(32);
  const std::string whole = file.bytes();
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  int refused = 0;
  for (size_t at = 0; at < file.header().size(); ++at) {
    std::string bytes = whole;
    bytes[at] = static_cast<char>(random() & 255U);
    write_file(path_, bytes);
    try {
      const auto source = open_gguf(path_);
      for (const std::string& name : source->names()) {
        if (!source->is_compressed(name)) source->dense(name);
        source->release({name});
      }
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 100);
}

TEST_F(GgufHostile, TheBeginning) {
  expect_refused("", {"no GGUF file"});
  expect_refused([](GgufBytes& file) { file.signature = "GGUX"; }, {"no GGUF file"});
  expect_refused([](GgufBytes& file) { file.version = 1; }, {"version 1"});
  expect_refused([](GgufBytes& file) { file.version = 0x03000000; }, {"big-endian"});
  expect_refused([](GgufBytes& file) { file.more_tensors = 1; }, {"tensor 11"});
  expect_refused([](GgufBytes& file) { file.more_tensors = uint64_t{1} << 63; }, {"tensor 11"});
  expect_refused([](GgufBytes& file) { file.more_keys = uint64_t{1} << 62; }, {"key"});
}

TEST_F(GgufHostile, Keys) {
  const auto raw = [&](uint32_t type, const std::string& bytes,
                       const std::vector<std::string>& words) {
    expect_refused([&](GgufBytes& file) { file.raw("odd", type, bytes); }, words);
  };
  raw(13, "", {"\"odd\"", "value type 13"});
  raw(8, little_endian(uint64_t{1} << 60, 8), {"\"odd\"", "1152921504606846976 bytes"});
  raw(8, little_endian(UINT64_MAX, 8), {"\"odd\""});
  raw(9, little_endian(9, 4) + little_endian(0, 8), {"\"odd\"", "array of arrays"});
  raw(9, little_endian(77, 4) + little_endian(0, 8), {"\"odd\"", "value type 77"});
  for (const uint64_t type : {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12}) {
    raw(9, little_endian(type, 4) + little_endian(uint64_t{1} << 61, 8), {"\"odd\"", "truncated"});
    raw(9, little_endian(type, 4) + little_endian(UINT64_MAX, 8), {"\"odd\"", "truncated"});
  }
  raw(7, "\x02", {"\"odd\"", "truth value"});
  raw(9, little_endian(10, 4) + little_endian(1, 8) + little_endian(UINT64_MAX, 8),
      {"\"odd\"", "out of range"});
  const auto changed = [&](const std::function<void(GgufBytes&)>& change,
                           const std::vector<std::string>& words) {
    expect_refused(change, words);
  };
  changed([](GgufBytes& file) { file.number("llama.block_count", 1); }, {"block_count", "twice"});
  changed([](GgufBytes& file) { file.number("split.count", 3); }, {"3 files", "split"});
  for (const uint32_t alignment : {0U, 3U, 33U, 0x80000000U}) {
    changed([=](GgufBytes& file) { file.number("general.alignment", alignment); },
            {"general.alignment"});
  }
  changed([](GgufBytes& file) { file.text("general.alignment", "32"); }, {"no integer"});
  changed([](GgufBytes& file) { file.text("llama.rope.freq_base", "1"); }, {"rope.freq_base"});
  changed([](GgufBytes& file) { file.real("llama.rope.freq_base", NAN); }, {"rope.freq_base"});
  changed([](GgufBytes& file) { file.number("llama.vocab.x", 1), file.number("split.count", 9); },
          {"split"});
}

TEST_F(GgufHostile, KeysThatTheModelNeeds) {
  for (const char* key : {"embedding_length", "attention.head_count", "block_count",
                          "context_length", "feed_forward_length"}) {
    GgufBytes file;
    file.text("general.architecture", "llama");
    file.real("llama.attention.layer_norm_rms_epsilon", 1e-5F);
    for (const char* other : {"embedding_length", "attention.head_count", "block_count",
                              "context_length", "feed_forward_length"}) {
      if (std::string(other) != key) file.number(std::string("llama.") + other, 64);
    }
    file.tensor("token_embd.weight", {64, 2}, 0, std::string(512, '\0'));
    expect_refused(file.bytes(), {std::string("llama.") + key, "missing"});
    file.number(std::string("llama.") + key, 0);
    expect_refused(file.bytes(), {std::string("llama.") + key, "expected a positive number"});
  }
  GgufBytes none;
  expect_refused(none.bytes(), {"general.architecture", "missing"});
  none.text("general.architecture", "mamba");
  expect_refused(none.bytes(), {"\"mamba\"", "llama, qwen2"});
}

TEST_F(GgufHostile, Tensors) {
  const auto tensor = [&](const std::vector<uint64_t>& dimensions, uint32_t type, uint64_t offset,
                          const std::vector<std::string>& words) {
    expect_refused(
        [&](GgufBytes& file) { file.tensor_at("blk.0.x.weight", dimensions, type, offset); },
        words);
  };
  const uint64_t far = uint64_t{1} << 40;
  tensor({}, 0, far, {"blk.0.x.weight", "0 dimensions"});
  tensor({1, 1, 1, 1, 1}, 0, far, {"5 dimensions"});
  tensor({0}, 0, far, {"dimension 0 is 0"});
  tensor({uint64_t{1} << 32, uint64_t{1} << 32}, 0, far, {"dimension 1"});
  tensor({UINT64_MAX}, 0, far, {"dimension 0"});
  tensor({uint64_t{1} << 40, 2}, 0, far, {"dimension 1"});
  tensor({32}, 4, far, {"type 4", "not known"});
  tensor({32}, UINT32_MAX, far, {"not known"});
  tensor({33, 2}, 2, far, {"Q4_0", "33", "multiple of 32"});
  tensor({128, 2}, 12, far, {"Q4_K", "multiple of 256"});
  tensor({32}, 0, far, {"not among"});
  tensor({32}, 0, UINT64_MAX - 31, {"not among"});
  tensor({32}, 0, 17, {"17", "multiple of 32"});
  tensor({32}, 0, 0, {"overlap", "token_embd.weight"});
  tensor({32}, 0, 992, {"overlap"});
  expect_refused(
      [](GgufBytes& file) { file.tensor("output_norm.weight", {4}, 0, std::string(16, '\0')); },
      {"output_norm.weight", "twice"});
  expect_refused([](GgufBytes& file) { file.tensor("", {4}, 0, std::string(16, '\0')); },
                 {"no name"});
  expect_refused(
      [](GgufBytes& file) { file.tensor(std::string(5000, 'n'), {4}, 0, std::string(16, '\0')); },
      {"5000 bytes"});
  expect_refused(
      [](GgufBytes& file) { file.tensor("blk.0.odd.weight", {4}, 0, std::string(16, '\0')); },
      {"blk.0.odd.weight", "architecture llama"});
  expect_refused(
      [](GgufBytes& file) {
        file.tensor("blk.1.ffn_up.weight", {256, 1}, 19, std::string(50, '\0'));
      },
      {"blk.1.ffn_up.weight", "IQ1_S", "not read"});
  expect_refused(
      [](GgufBytes& file) { file.tensor("rope_freqs.weight", {3}, 0, std::string(12, '\0')); },
      {"rope_freqs.weight"});
  expect_refused(
      [](GgufBytes& file) { file.tensor("rope_freqs.weight", {8}, 0, std::string(32, '\0')); },
      {"rope_freqs.weight"});
  expect_refused(
      [](GgufBytes& file) {
        file.tensor("blk.1.attn_q.weight", {4, 3}, 0, std::string(48, '\0'));
      },
      {"blk.1.attn_q.weight", "heads"});
}

}  // namespace
}  // namespace pare::test
