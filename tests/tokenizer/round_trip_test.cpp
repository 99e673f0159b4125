// Properties that hold for any text.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/support/reference.h"
#include "tests/tokenizer/random_text.h"
#include "tests/tokenizer/small_tokenizer.h"
#include "tokenizer/bpe.h"
#include "tokenizer/unicode.h"

namespace pare {
namespace {

void expect_round_trips(const Tokenizer& tokenizer) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int i = 0; i < 500; ++i) {
    const std::string text = random_text(random, random() % 100);
    const std::vector<int32_t> ids = tokenizer.encode(text, false);
    ASSERT_EQ(tokenizer.decode(ids), text);
    for (const int32_t id : ids) {
      ASSERT_GE(id, 0);
      ASSERT_LT(id, tokenizer.vocab_size());
    }
  }
}

TEST(RoundTrip, SmallTokenizer) {
  auto json = small_tokenizer_json();
  expect_round_trips(load(json));
  json["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Punctuation"}, {"behavior", "MergedWithNext"}},
        {{"type", "Digits"}, {"individual_digits", true}},
        {{"type", "Split"},
         {"pattern", {{"Regex", "\\s+(?!\\S)|\\w+"}}},
         {"behavior", "MergedWithPrevious"},
         {"invert", true}},
        {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  expect_round_trips(load(json));
}

class RoundTripFamily : public ::testing::TestWithParam<const char*> {};

TEST_P(RoundTripFamily, RandomText) {
  const std::string path =
      testing::reference_dir() + "/tokenizers/" + GetParam() + "/tokenizer.json";
  const std::string json = read_file(path);
  if (json.empty()) GTEST_SKIP() << "no reference data: " << path;
  expect_round_trips(Tokenizer::from_json(json, GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Families, RoundTripFamily,
                         ::testing::Values("gpt2", "llama3", "starcoder", "falcon", "deepseek-v3",
                                           "llama2"));

TEST(RoundTrip, RandomBytesBecomeTheReplacedText) {
  const Tokenizer tokenizer = load(small_tokenizer_json());
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int i = 0; i < 2000; ++i) {
    std::string bytes(random() % 40, '\0');
    for (char& c : bytes)
      c = static_cast<char>(random() % 2 == 0 ? random() : 0x80 + random() % 128);
    const std::string text = replace_invalid_utf8(bytes);
    ASSERT_EQ(replace_invalid_utf8(text), text);
    ASSERT_EQ(tokenizer.decode(tokenizer.encode(bytes, false)), text);
  }
}

// Byte-pair encoding as it is defined: look at all pairs, merge the best, start again.
std::vector<std::string> plain_bpe(std::vector<std::string> symbols,
                                   const std::vector<std::pair<std::string, std::string>>& merges) {
  for (;;) {
    size_t best = symbols.size();
    size_t best_rank = merges.size();
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      for (size_t rank = 0; rank < best_rank; ++rank) {
        if (merges[rank] == std::pair(symbols[i], symbols[i + 1])) {
          best = i;
          best_rank = rank;
        }
      }
    }
    if (best == symbols.size()) return symbols;
    symbols[best] += symbols[best + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

TEST(Bpe, EqualsThePlainDefinition) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 200; ++round) {
    // Merges grow from what is there, in any order, so that ranks and lengths do not agree.
    std::vector<std::string> tokens = {"a", "b", "c"};
    BpeModel model;
    for (int i = 0; i < 12; ++i) {
      const std::string left = tokens[random() % tokens.size()];
      const std::string right = tokens[random() % tokens.size()];
      if (std::find(model.merges.begin(), model.merges.end(), std::pair(left, right)) !=
          model.merges.end()) {
        continue;
      }
      model.merges.emplace_back(left, right);
      if (std::find(tokens.begin(), tokens.end(), left + right) == tokens.end()) {
        tokens.push_back(left + right);
      }
    }
    std::shuffle(model.merges.begin(), model.merges.end(), random);
    model.vocabulary.reserve(tokens.size());
    for (size_t i = 0; i < tokens.size(); ++i) {
      model.vocabulary.emplace_back(tokens[i], static_cast<int32_t>(i));
    }
    const auto merges = model.merges;
    const Bpe bpe(model, "test");
    BpeCache cache;
    for (int word_number = 0; word_number < 20; ++word_number) {
      std::vector<std::string> characters;
      std::string word;
      for (size_t n = random() % 100; n > 0; --n) {
        characters.push_back(tokens[random() % 3]);
        word += characters.back();
      }
      std::vector<int32_t> ids;
      bpe.encode(word, cache, ids);
      std::vector<std::string> found;
      found.reserve(ids.size());
      for (const int32_t id : ids) found.push_back(tokens[static_cast<size_t>(id)]);
      ASSERT_EQ(found, plain_bpe(characters, merges)) << word;
      std::vector<int32_t> again;
      bpe.encode(word, cache, again);
      ASSERT_EQ(again, ids) << "from the cache";
    }
  }
}

// Two classes of marks in the wrong order, far apart: ordering them by insertion would take hours.
TEST(Normalization, LongRunsOfMarksAreNotQuadratic) {
  constexpr size_t kMarks = 500'000;
  std::string above;
  std::string below;
  for (size_t i = 0; i < kMarks; ++i) {
    above += "\u0301";
    below += "\u0316";
  }
  EXPECT_EQ(normalize_unicode("z" + above + below, UnicodeForm::kNfd), "z" + below + above);
  // The marks below do not come between "e" and the first mark above: they compose.
  EXPECT_EQ(normalize_unicode("e" + above + below, UnicodeForm::kNfc),
            "\u00E9" + below + above.substr(2));
}

// One word of a megabyte: quadratic work would take hours, and the test's time limit.
TEST(Bpe, LongWordsAreNotQuadratic) {
  auto json = small_tokenizer_json();
  json["pre_tokenizer"]["use_regex"] = false;
  const Tokenizer tokenizer = load(json);
  std::string text;
  for (int i = 0; i < 200'000; ++i) text += "hello";
  const std::vector<int32_t> ids = tokenizer.encode(text, false);
  EXPECT_EQ(ids, std::vector<int32_t>(200'000, 261));
}

}  // namespace
}  // namespace pare
