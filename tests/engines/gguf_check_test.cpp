// What check_gguf() finds: nothing in a good file, and each damage by its name.
#include "engines/gguf_check.h"

#include <gmock/gmock.h>

#include <functional>

#include "core/dtype.h"
#include "pare/error.h"
#include "tests/formats/gguf_files.h"
#include "tests/support/program.h"

namespace pare::testing {
namespace {

using test::GgufBytes;
using ::testing::HasSubstr;

class GgufCheck : public ::testing::Test {
 protected:
  EngineFindings findings_of(const std::string& bytes) const {
    write_file(path_, bytes);
    EngineFindings findings;
    check_gguf(path_, {}, findings);
    return findings;
  }

  // A whole model with a tokenizer of as many tokens as rows.
  static GgufBytes model() {
    GgufBytes file = test::whole_llama_gguf(32);
    file.number("general.file_type", 0);
    return file;
  }
  static GgufBytes with_tokens(GgufBytes file, size_t count) {
    std::vector<std::string> tokens;
    for (size_t i = 0; i < count; ++i) tokens.push_back("t" + std::to_string(i));
    file.text("tokenizer.ggml.model", "gpt2");
    file.text("tokenizer.ggml.pre", "gpt-2");
    file.texts("tokenizer.ggml.tokens", tokens);
    file.texts("tokenizer.ggml.merges", {});
    return file;
  }

  void expect_refused(const GgufBytes& file, const std::string& subject,
                      const std::string& words) const {
    const EngineFindings findings = findings_of(file.bytes());
    ASSERT_EQ(findings.refusals.size(), 1U) << subject;
    EXPECT_EQ(findings.refusals[0].subject, subject);
    EXPECT_THAT(findings.refusals[0].message, HasSubstr(words));
  }

  TempDir folder_;
  std::string path_ = folder_ / "m.gguf";
};

TEST_F(GgufCheck, AGoodFileHasNoFindings) {
  const EngineFindings findings = findings_of(with_tokens(model(), 8).bytes());
  EXPECT_TRUE(findings.refusals.empty());
  EXPECT_TRUE(findings.remarks.empty());
  EXPECT_EQ(findings.quantized_linears, 0);
  EngineFindings again;
  check_gguf(folder_.path().string(), {}, again);
  EXPECT_TRUE(again.refusals.empty());
}

TEST_F(GgufCheck, KeysOfTheTokenizer) {
  expect_refused(model(), "tokenizer.ggml.model", "missing");
  expect_refused(with_tokens(model(), 7), "tokenizer.ggml.tokens", "7 tokens");
  GgufBytes types = with_tokens(model(), 8);
  types.integers("tokenizer.ggml.token_type", {1, 1});
  expect_refused(types, "tokenizer.ggml.token_type", "2 elements");
  GgufBytes bos = with_tokens(model(), 8);
  bos.number("tokenizer.ggml.bos_token_id", 8);
  expect_refused(bos, "tokenizer.ggml.bos_token_id", "8");
  GgufBytes adds = with_tokens(model(), 8);
  adds.truth("tokenizer.ggml.add_bos_token", true);
  expect_refused(adds, "tokenizer.ggml.add_bos_token", "no token");
  GgufBytes twice = model();
  twice.text("tokenizer.ggml.model", "llama");
  twice.texts("tokenizer.ggml.tokens", {"a", "a", "c", "d", "e", "f", "g", "h"});
  twice.reals("tokenizer.ggml.scores", std::vector<float>(8));
  expect_refused(twice, "tokenizer.ggml.tokens", "twice");
  GgufBytes scores = model();
  scores.text("tokenizer.ggml.model", "llama");
  scores.texts("tokenizer.ggml.tokens", {"a", "b", "c", "d", "e", "f", "g", "h"});
  expect_refused(scores, "tokenizer.ggml.scores", "0 elements");
}

TEST_F(GgufCheck, KeysOfTheArchitecture) {
  GgufBytes heads = with_tokens(model(), 8);
  heads.number("llama.rope.dimension_count", 4);
  expect_refused(heads, "llama.rope.dimension_count", "16");
  GgufBytes vocabulary = with_tokens(model(), 8);
  vocabulary.number("llama.vocab_size", 9);
  expect_refused(vocabulary, "llama.vocab_size", "8");
  GgufBytes values = with_tokens(model(), 8);
  values.number("llama.attention.value_length", 8);
  expect_refused(values, "llama.attention.value_length", "keys");
  // Keys without which nothing else can be said.
  GgufBytes none;
  none.text("general.architecture", "llama");
  none.tensor("token_embd.weight", {32, 8}, 0, std::string(1024, '\0'));
  const EngineFindings findings = findings_of(with_tokens(none, 8).bytes());
  EXPECT_EQ(findings.refusals.size(), 6U);
}

TEST_F(GgufCheck, Tensors) {
  const GgufBytes good = with_tokens(model(), 8);
  const auto with = [&](const std::string& name, const std::vector<uint64_t>& dimensions,
                        uint32_t type, const std::string& bytes) {
    GgufBytes file = good;
    file.tensor(name, dimensions, type, bytes);
    return file;
  };
  expect_refused(with("blk.1.ffn_up.weight", {32, 64}, 0, std::string(8192, '\0')),
                 "blk.1.ffn_up.weight", "none of architecture");
  expect_refused(with("output.weight", {32, 7}, 0, std::string(896, '\0')), "output.weight",
                 "[7, 32], expected [8, 32]");
  expect_refused(with("blk.0.attn_q.bias", {32}, 2, std::string(18, '\0')), "blk.0.attn_q.bias",
                 "Q4_0, expected F32");
  std::string nan = std::string(34 * 8, '\0');
  nan[0] = '\x01';
  nan[1] = '\x7e';
  nan[2] = '\x01';
  expect_refused(with("output.weight", {32, 8}, 8, nan), "output.weight", "1 rows have values");
  const std::string long_name = "blk.0." + std::string(60, 'x') + ".weight";
  const EngineFindings findings =
      findings_of(with(long_name, {32}, 0, std::string(128, '\0')).bytes());
  ASSERT_EQ(findings.refusals.size(), 2U);  // the name, and that nobody uses it
  EXPECT_THAT(findings.refusals[0].message, HasSubstr("73 bytes"));
  // Missing ones are all named.
  const EngineFindings missing = findings_of(with_tokens(test::llama_gguf("llama", 32), 8).bytes());
  EXPECT_EQ(missing.refusals.size(), 10U);
  // Qwen 2 has biases.
  const EngineFindings biases = findings_of(with_tokens(test::llama_gguf("qwen2", 32), 8).bytes());
  EXPECT_EQ(biases.refusals.size(), 13U);
}

TEST_F(GgufCheck, WhatCannotBeReadIsOneRefusal) {
  const std::string whole = with_tokens(model(), 8).bytes();
  for (const size_t size : {size_t{0}, size_t{3}, size_t{20}, size_t{300}, whole.size() - 1}) {
    const EngineFindings findings = findings_of(whole.substr(0, size));
    ASSERT_EQ(findings.refusals.size(), 1U) << size;
    EXPECT_THAT(findings.refusals[0].message, HasSubstr(path_));
  }
  EngineFindings findings;
  EXPECT_THROW(check_gguf(folder_ / "no-such", {}, findings), Error);
  // A number of layers that the file cannot have costs no memory.
  GgufBytes layers;
  layers.text("general.architecture", "llama");
  for (const char* key : {"context_length", "embedding_length", "feed_forward_length",
                          "attention.head_count", "attention.head_count_kv"}) {
    layers.number(std::string("llama.") + key, 2147483647);
  }
  layers.number("llama.block_count", 2147483647);
  layers.real("llama.attention.layer_norm_rms_epsilon", 1e-5F);
  EXPECT_FALSE(findings_of(layers.bytes()).refusals.empty());
}

TEST_F(GgufCheck, OtherArchitecturesAreLeftAlone) {
  GgufBytes file;
  file.text("general.architecture", "mamba");
  const EngineFindings findings = findings_of(with_tokens(file, 8).bytes());
  EXPECT_TRUE(findings.refusals.empty());
  ASSERT_EQ(findings.remarks.size(), 1U);
  EXPECT_EQ(findings.remarks[0].subject, "mamba");
}

}  // namespace
}  // namespace pare::testing
