// The unigram model: known cuts, the definition on random vocabularies, and damaged vocabularies.
#include "tokenizer/unigram.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <random>

#include "pare/error.h"
#include "tests/tokenizer/small_tokenizer.h"

namespace pare {
namespace {

using Ids = std::vector<int32_t>;
using nlohmann::json;
using testing::HasSubstr;

Ids encode(const Unigram& unigram, const std::string& text) {
  UnigramCache cache;
  Ids ids;
  unigram.encode(text, cache, ids);
  Ids again;
  unigram.encode(text, cache, again);
  EXPECT_EQ(again, ids) << "from the cache";
  return ids;
}

UnigramModel small_model() {
  UnigramModel model;
  model.pieces = {{"<unk>", 0}, {"a", -2}, {"b", -3}, {"ab", -4}, {"abb", -9}, {"é", -5}};
  model.unknown_id = 0;
  return model;
}

std::string refusal_of(UnigramModel model) {
  try {
    const Unigram unigram(std::move(model), "test");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Unigram, TheLargestSumWins) {
  const Unigram unigram(small_model(), "test");
  EXPECT_EQ(encode(unigram, ""), Ids());
  EXPECT_EQ(encode(unigram, "ab"), Ids({3}));          // −4 against −5
  EXPECT_EQ(encode(unigram, "abb"), Ids({3, 2}));      // −7 against −9
  EXPECT_EQ(encode(unigram, "éaba"), Ids({5, 3, 1}));  // −11
  EXPECT_EQ(encode(unigram, "axya"), Ids({1, 0, 1}));  // A run of unknown characters is one.
  EXPECT_EQ(encode(unigram, "日"), Ids({0}));
  EXPECT_EQ(unigram.find("abb"), 4);
  EXPECT_EQ(unigram.find("abba"), -1);
}

// Of equal sums the one whose last piece begins earlier stays.
TEST(Unigram, TiesKeepTheFirst) {
  UnigramModel model;
  model.pieces = {{".", -2}, {"..", -4}};
  EXPECT_EQ(encode(Unigram(model, "test"), ".."), Ids({1}));
  model.pieces = {{".", -2}, {"..", -3}};
  EXPECT_EQ(encode(Unigram(model, "test"), "..."), Ids({0, 1}));
}

TEST(Unigram, ByteFallback) {
  UnigramModel model = small_model();
  model.byte_fallback = true;
  EXPECT_EQ(encode(Unigram(model, "test"), "日a"), Ids({0, 1})) << "without all bytes: unknown";
  model.pieces.push_back({"<0xE6>", -20});
  model.pieces.push_back({"<0x97>", -20});
  model.pieces.push_back({"<0xA5>", -20});
  EXPECT_EQ(encode(Unigram(model, "test"), "日a"), Ids({6, 7, 8, 1}));
}

TEST(Unigram, PiecesForSpecialUse) {
  UnigramModel model = small_model();
  model.pieces[3].use = PieceUse::kNever;
  EXPECT_EQ(encode(Unigram(model, "test"), "ab"), Ids({1, 2}));
  model.pieces[4].use = PieceUse::kAlways;
  EXPECT_EQ(encode(Unigram(model, "test"), "aabba"), Ids({1, 4, 1}));
  model = small_model();
  model.special_ids = {3};
  const Unigram unigram(model, "test");
  UnigramCache plain(/*allow_special=*/false);
  Ids ids;
  unigram.encode("ab", plain, ids);
  EXPECT_EQ(ids, Ids({1, 2}));
}

// The best of all ways to cut a text, by trying them all.
double best_sum(const UnigramModel& model, const std::string& text, size_t at) {
  if (at == text.size()) return 0;
  double lowest = std::numeric_limits<double>::max();
  for (const UnigramPiece& piece : model.pieces) lowest = std::min(lowest, piece.score);
  double best = lowest - 10 + best_sum(model, text, at + 1);
  for (const UnigramPiece& piece : model.pieces) {
    if (text.compare(at, piece.text.size(), piece.text) != 0) continue;
    best = std::max(best, piece.score + best_sum(model, text, at + piece.text.size()));
  }
  return best;
}

TEST(Unigram, EqualsTheDefinition) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  const auto random_word = [&](size_t most) {
    std::string word;
    for (size_t n = 1 + random() % most; n > 0; --n) word += "abcd"[random() % 4];
    return word;
  };
  for (int round = 0; round < 200; ++round) {
    UnigramModel model;
    model.unknown_id = 0;
    model.pieces = {{"?", -1}};
    for (int i = 0; i < 8; ++i) {
      const std::string word = random_word(3);
      const auto same = [&](const UnigramPiece& piece) { return piece.text == word; };
      if (std::any_of(model.pieces.begin(), model.pieces.end(), same)) continue;
      // Eighths add up exactly, so that sums can be compared.
      model.pieces.push_back({word, -static_cast<double>(1 + random() % 100) / 8});
    }
    const Unigram unigram(model, "test");
    double lowest = 0;
    for (const UnigramPiece& piece : model.pieces) lowest = std::min(lowest, piece.score);
    for (int i = 0; i < 10; ++i) {
      const std::string text = random_word(10);
      UnigramCache cache;
      Ids ids;
      unigram.encode(text, cache, ids);
      // Runs of unknown characters are one id: each of their characters counts.
      double sum = 0;
      size_t spelled = 0;
      for (const int32_t id : ids) {
        if (id == 0) continue;
        sum += model.pieces[static_cast<size_t>(id)].score;
        spelled += model.pieces[static_cast<size_t>(id)].text.size();
      }
      sum += static_cast<double>(text.size() - spelled) * (lowest - 10);
      ASSERT_EQ(sum, best_sum(model, text, 0)) << text;
    }
  }
}

TEST(Unigram, DamagedVocabularies) {
  UnigramModel model = small_model();
  model.pieces[1].score = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(refusal_of(model), HasSubstr("\"a\": its score is not a finite number"));
  model.pieces[1].score = -std::numeric_limits<double>::infinity();
  EXPECT_THAT(refusal_of(model), HasSubstr("finite"));
  model = small_model();
  model.unknown_id = 6;
  EXPECT_THAT(refusal_of(model), HasSubstr("unk_id is 6"));
  model = small_model();
  model.pieces[2].text.assign(kLongestToken + 1, 'x');
  EXPECT_THAT(refusal_of(model), HasSubstr("4097 bytes"));
  EXPECT_THAT(refusal_of({}), HasSubstr("empty"));
  model = small_model();
  model.unknown_id.reset();
  EXPECT_EQ(encode(Unigram(model, "test"), "ab"), Ids({3}));
  EXPECT_THROW(encode(Unigram(model, "test"), "x"), Error);
  // Empty pieces match nothing, repeated ones count as the last, as in the reference.
  model.pieces.push_back({"", 5});
  model.pieces.push_back({"ab", -4});
  EXPECT_EQ(encode(Unigram(model, "test"), "ab"), Ids({7}));
}

TEST(Unigram, FilesAreChecked) {
  json file = small_tokenizer_json();
  file["added_tokens"] = json::array();
  file["decoder"] = nullptr;
  const auto with = [&](const json& vocabulary, const json& unknown) {
    file["model"] = {{"type", "Unigram"}, {"unk_id", unknown}, {"vocab", vocabulary}};
    return refusal(file.dump());
  };
  const auto piece = [](const json& text, const json& score) { return json::array({text, score}); };
  const json one = json::array({piece("a", -1.5)});
  EXPECT_EQ(with(json::array({piece("a", -1.5), piece("b", -2)}), 0), "");
  EXPECT_EQ(with(one, nullptr), "");
  EXPECT_THAT(with(one, 1), HasSubstr("unk_id"));
  EXPECT_THAT(with(one, -1), HasSubstr("unk_id"));
  EXPECT_THAT(with(one, json::object()), HasSubstr("unk_id"));
  EXPECT_THAT(with(json::array({piece("a", nullptr)}), 0), HasSubstr("vocabulary entry 0"));
  EXPECT_THAT(with(json::array({piece(1, -1.5)}), 0), HasSubstr("[piece, score]"));
  EXPECT_THAT(with(json::array({"a"}), 0), HasSubstr("[piece, score]"));
  EXPECT_THAT(with(json::array(), 0), HasSubstr("empty"));
  EXPECT_THAT(with(json::object(), 0), HasSubstr("expected an array"));
}

// Quadratic work would take hours, and the test's time limit.
TEST(Unigram, LongTextsAreNotQuadratic) {
  const Unigram unigram(small_model(), "test");
  EXPECT_EQ(encode(unigram, std::string(500'000, 'a')), Ids(500'000, 1));
  EXPECT_EQ(encode(unigram, std::string(500'000, 'x')), Ids({0}));
}

}  // namespace
}  // namespace pare
