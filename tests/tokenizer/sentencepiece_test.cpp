// SentencePiece models: written by hand, the reference's, and damaged ones.
#include "tokenizer/sentencepiece.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "pare/error.h"
#include "tests/support/reference.h"
#include "tests/tokenizer/random_text.h"
#include "tests/tokenizer/small_charsmap.h"
#include "tests/tokenizer/small_tokenizer.h"

namespace pare {
namespace {

using Ids = std::vector<int32_t>;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr const char* kName = "tokenizer.model";

// Ids 0 … 2 are "<unk>", "<s>", "</s>".
ModelSpec small_spec(int kind) {
  return {.kind = kind,
          .pieces = {{"<unk>", 0, 2},
                     {"<s>", 0, 3},
                     {"</s>", 0, 3},
                     {"▁", -1},
                     {"a", -2},
                     {"b", -3},
                     {"▁a", -2.5F},
                     {"ab", -4},
                     {"c", -5}}};
}

Tokenizer open(const ModelSpec& spec, const SentencePieceSettings& settings = {}) {
  return Tokenizer::from_sentencepiece(make_sentencepiece(spec), settings, kName);
}

std::string refusal_of(const std::string& bytes) {
  try {
    Tokenizer::from_sentencepiece(bytes, {}, kName).encode("a b", true);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInputMalformed);
    EXPECT_THAT(error.what(), StartsWith(kName));
    return error.what();
  }
  return "";
}

std::string refusal_of(const ModelSpec& spec) { return refusal_of(make_sentencepiece(spec)); }

TEST(SentencePiece, Unigram) {
  const Tokenizer tokenizer = open(small_spec(1));
  EXPECT_EQ(tokenizer.encode("a ab", false), Ids({6, 3, 7}));
  EXPECT_EQ(tokenizer.encode("  a   ab ", false), Ids({6, 3, 7}));
  EXPECT_EQ(tokenizer.encode("a zz", false), Ids({6, 3, 0}));
  EXPECT_EQ(tokenizer.encode("", false), Ids());
  EXPECT_EQ(tokenizer.encode("   ", false), Ids());
  EXPECT_EQ(tokenizer.decode({6, 3, 7}), "a ab");
  EXPECT_EQ(tokenizer.vocab_size(), 9);
  EXPECT_EQ(tokenizer.token_to_id("▁a"), 6);
  EXPECT_EQ(tokenizer.token_to_id("</s>"), 2);
}

// The pair whose piece has the largest score is merged first: "▁a" (−2.5) before "ab" (−4).
TEST(SentencePiece, BytePairs) {
  const Tokenizer tokenizer = open(small_spec(2));
  EXPECT_EQ(tokenizer.encode("ab", false), Ids({6, 5}));
  EXPECT_EQ(tokenizer.encode("bab", false), Ids({3, 5, 7}));
  EXPECT_EQ(tokenizer.encode("zz y", false), Ids({3, 0, 3, 0}));
}

// "q" is no piece, but "aq" is: it is put together all the same, and a lone "q" is unknown.
TEST(SentencePiece, CharactersThatAreOnlyPartsOfPieces) {
  ModelSpec spec = small_spec(2);
  spec.pieces.push_back({"bq", -6});
  spec.pieces.push_back({"bqw", -7});
  EXPECT_EQ(open(spec).encode("bq", false), Ids({3, 9}));
  EXPECT_EQ(open(spec).encode("bqw", false), Ids({3, 10}));
  EXPECT_EQ(open(spec).encode("aqwz", false), Ids({6, 0}));
  EXPECT_EQ(open(spec).token_to_id("q"), -1);
  EXPECT_EQ(open(spec).vocab_size(), 11);
}

TEST(SentencePiece, Bytes) {
  for (const int kind : {1, 2}) {
    ModelSpec spec = small_spec(kind);
    spec.byte_fallback = true;
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    for (size_t byte = 0; byte < 256; ++byte) {
      spec.pieces.push_back(
          {std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">", 0, 6});
    }
    const Tokenizer tokenizer = open(spec);
    EXPECT_EQ(tokenizer.encode("aé", false), Ids({6, 9 + 0xC3, 9 + 0xA9}));
    EXPECT_EQ(tokenizer.decode(tokenizer.encode("aé <0x41>\n\t日", false)), "aé <0x41>\n\t日");
    EXPECT_EQ(tokenizer.token_text(9 + 0xC3), "\xC3");
    spec.pieces.pop_back();
    EXPECT_THAT(refusal_of(spec), HasSubstr("256 byte pieces"));
  }
}

// User-defined pieces are found first, the longest one, and neither merged nor normalized.
TEST(SentencePiece, UserDefinedPieces) {
  for (const int kind : {1, 2}) {
    ModelSpec spec = small_spec(kind);
    spec.pieces.push_back({"ba", 0, 4});
    spec.pieces.push_back({"bac", 0, 4});
    spec.pieces.push_back({"acc", -9});
    spec.charsmap = make_charsmap({{"b", "c"}});
    EXPECT_EQ(open(spec).encode("aba", false), Ids({6, 9})) << kind;
    EXPECT_EQ(open(spec).encode("abacc", false), Ids({6, 10, 8})) << kind;
    EXPECT_EQ(open(spec).encode("b", false), Ids({3, 8})) << kind;  // By the charsmap.
  }
}

TEST(SentencePiece, Normalization) {
  ModelSpec spec = small_spec(1);
  spec.charsmap = make_charsmap({{"\t", " "}, {"á", "ab"}, {"x", ""}, {"xy", "  "}});
  const auto normalize = [&](std::string_view text) {
    return SentencePiece(parse_sentencepiece(make_sentencepiece(spec), kName), {}, kName)
        .normalize(text);
  };
  EXPECT_EQ(normalize("\t a\t á"), "▁a▁ab");
  EXPECT_EQ(normalize("axayab xy"), "▁aayab");
  EXPECT_EQ(normalize("\t xy\t"), "");
  EXPECT_EQ(normalize("x"), "");
  spec.remove_extra_whitespaces = false;
  EXPECT_EQ(normalize(" a  "), "▁▁a▁▁");
  EXPECT_EQ(normalize(""), "");
  spec.add_dummy_prefix = false;
  EXPECT_EQ(normalize(" a"), "▁a");
  EXPECT_EQ(normalize("a"), "a");
  spec.add_dummy_prefix = spec.whitespace_as_suffix = true;
  EXPECT_EQ(normalize("a b"), "a▁b▁");
}

TEST(SentencePiece, SpecialTokens) {
  SentencePieceSettings settings{.add_bos = true, .add_eos = true, .extra_ids = 2};
  const Tokenizer tokenizer = open(small_spec(1), settings);
  EXPECT_EQ(tokenizer.encode("a", true), Ids({1, 6, 2}));
  EXPECT_EQ(tokenizer.encode("a", false), Ids({6}));
  EXPECT_EQ(tokenizer.vocab_size(), 11);
  const EncodeOptions parse{.add_special_tokens = false, .parse_special = true};
  EXPECT_EQ(tokenizer.encode("a</s>a<extra_id_0>", parse), Ids({6, 2, 6, 10}));
  EXPECT_EQ(tokenizer.encode("</s>", false), Ids({3, 0}));  // "▁" and a run of unknown ones.
  EXPECT_EQ(tokenizer.decode({1, 6, 2, 6}), "<s> a</s> a");
  EXPECT_EQ(tokenizer.decode({1, 6, 2, 6}, /*skip_special_tokens=*/true), "a a");
  settings.eos_token = "▁a";
  settings.bos_token = "absent";
  EXPECT_THROW(open(small_spec(1), settings), Error);
  settings.bos_token = "<s>";
  EXPECT_EQ(open(small_spec(1), settings).encode("b", true), Ids({1, 3, 5, 6}));
}

TEST(SentencePiece, UnsupportedKindsAreNamed) {
  EXPECT_THAT(refusal_of(small_spec(3)), HasSubstr("model_type 3"));
  ModelSpec spec = small_spec(2);
  spec.pieces[7].type = 5;
  EXPECT_THAT(refusal_of(spec), HasSubstr("\"ab\": unused"));
  spec.kind = 1;
  EXPECT_EQ(open(spec).encode("ab", false), Ids({6, 5}));
}

TEST(SentencePiece, PiecesAreChecked) {
  const auto with = [](const ModelPiece& piece) {
    ModelSpec spec = small_spec(1);
    spec.pieces.push_back(piece);
    return refusal_of(spec);
  };
  EXPECT_EQ(with({"d", -1}), "");
  EXPECT_THAT(with({"", -1}), HasSubstr("piece 9 is empty"));
  EXPECT_THAT(with({"a", -1}), HasSubstr("\"a\" is listed twice"));
  EXPECT_THAT(with({"\xFF", -1}), HasSubstr("UTF-8"));
  EXPECT_THAT(with({std::string("d\0e", 3), -1}), HasSubstr("UTF-8"));
  EXPECT_THAT(with({"d", std::numeric_limits<float>::quiet_NaN()}), HasSubstr("finite"));
  EXPECT_THAT(with({"d", std::numeric_limits<float>::infinity()}), HasSubstr("finite"));
  EXPECT_THAT(with({"d", -1, 7}), HasSubstr("type 7"));
  EXPECT_THAT(with({"d", -1, 0}), HasSubstr("type 0"));
  EXPECT_THAT(with({"d", -1, 2}), HasSubstr("2 pieces are of type unknown"));
  EXPECT_THAT(with({"<0x0G>", -1, 6}), HasSubstr("is a byte"));
  EXPECT_THAT(with({std::string(5000, 'd'), -1}), HasSubstr("5000 bytes"));
  ModelSpec spec = small_spec(1);
  spec.pieces.erase(spec.pieces.begin());
  EXPECT_THAT(refusal_of(spec), HasSubstr("0 pieces are of type unknown"));
  spec.pieces.clear();
  EXPECT_THAT(refusal_of(spec), HasSubstr("no pieces"));
}

TEST(SentencePiece, TruncationsAreRefused) {
  const std::string whole = make_sentencepiece(small_spec(1));
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string message = refusal_of(whole.substr(0, size));
    // A cut between two fields leaves a shorter file that is as good as any.
    if (message.empty()) {
      EXPECT_GT(size, make_piece({"<unk>", 0, 2}).size() - 1);
    } else {
      EXPECT_LT(message.size(), 300U);
    }
  }
  EXPECT_THAT(refusal_of("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F"), HasSubstr("bytes where"));
  EXPECT_THAT(refusal_of(std::string(20, '\xFF')), HasSubstr("more than 64 bits"));
  EXPECT_THAT(refusal_of("\x0B"), HasSubstr("wire type 3"));
  EXPECT_THAT(refusal_of(varint_field(1, 5)), HasSubstr("wrong form"));
  EXPECT_THAT(refusal_of("<!DOCTYPE html><html>"), HasSubstr("SentencePiece"));
}

TEST(SentencePiece, FlippedBytes) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  ModelSpec spec = small_spec(2);
  spec.pieces.push_back({"abc", -1, 4});
  spec.charsmap = make_charsmap({{"á", "ab"}, {"b", "é"}});
  // Few of the bytes of a double array mean something; the text makes them matter.
  const std::string whole = make_sentencepiece(spec);
  int refused = 0;
  for (int i = 0; i < 5000; ++i) {
    std::string damaged = whole;
    damaged[random() % damaged.size()] = static_cast<char>(random());
    refused += refusal_of(damaged).empty() ? 0 : 1;
  }
  EXPECT_GT(refused, 0);
}

class SentencePieceFamily : public ::testing::Test {
 protected:
  std::string read(const std::string& name) {
    return read_file(testing::reference_dir() + "/tokenizers/" + name);
  }
};

// The two files of Llama 2 describe one tokenizer: merges in one, scores in the other.
TEST_F(SentencePieceFamily, LlamasTwoFilesAgree) {
  const std::string json = read("llama2/tokenizer.json");
  const std::string model = read("llama2/tokenizer.model");
  if (json.empty() || model.empty()) GTEST_SKIP() << "no reference data";
  const Tokenizer from_json = Tokenizer::from_json(json, "tokenizer.json");
  const Tokenizer from_model =
      Tokenizer::from_sentencepiece(model, {.add_bos = true}, "tokenizer.model");
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int i = 0; i < 1000; ++i) {
    const std::string text = random_text(random, random() % 100);
    const Ids ids = from_json.encode(text, true);
    ASSERT_EQ(from_model.encode(text, true), ids) << text;
    ASSERT_EQ(from_model.decode(ids, true), text);
    ASSERT_EQ(from_json.decode(ids, true), text);
  }
}

TEST_F(SentencePieceFamily, DamagedModelsOfTheReference) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (const char* name : {"llama2/tokenizer.model", "t5/spiece.model"}) {
    const std::string whole = read(name);
    if (whole.empty()) GTEST_SKIP() << "no reference data";
    for (int i = 0; i < 40; ++i) {
      std::string damaged = whole;
      for (int n = 0; n < 20; ++n) damaged[random() % damaged.size()] = static_cast<char>(random());
      refusal_of(damaged);
      refusal_of(damaged.substr(0, random() % damaged.size()));
    }
  }
}

}  // namespace
}  // namespace pare
