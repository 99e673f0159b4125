// Charsmaps: what they replace, and what damage does to them.
#include "tokenizer/charsmap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "pare/error.h"
#include "tests/tokenizer/small_charsmap.h"
#include "tests/tokenizer/small_tokenizer.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/unicode.h"

namespace pare {
namespace {

using testing::HasSubstr;

std::string refusal_of(const std::string& bytes, const std::string& text = "") {
  try {
    const Charsmap map(bytes, "test");
    map.longest(text);
    map.shortest(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInputMalformed);
    return error.what();
  }
  return "";
}

TEST(Charsmap, LongestAndShortest) {
  const Charsmap map(make_charsmap({{"a", "1"}, {"abc", "2"}, {"ﬁ", "fi"}, {"x", ""}}), "test");
  EXPECT_EQ(map.longest("abcd").size, 3U);
  EXPECT_EQ(map.longest("abcd").replacement, "2");
  EXPECT_EQ(map.shortest("abcd").size, 1U);
  EXPECT_EQ(map.shortest("abcd").replacement, "1");
  EXPECT_EQ(map.longest("ab").replacement, "1");
  EXPECT_EQ(map.longest("ﬁ").replacement, "fi");
  EXPECT_EQ(map.longest("ﬂ").size, 0U);
  EXPECT_EQ(map.longest("x").size, 1U);
  EXPECT_EQ(map.longest("x").replacement, "");
  EXPECT_EQ(map.longest("").size, 0U);
  EXPECT_EQ(map.longest(std::string_view("\0a", 2)).size, 0U);
  EXPECT_EQ(Charsmap("", "test").longest("a").size, 0U);
}

TEST(Charsmap, SizesAreChecked) {
  const std::string whole = make_charsmap({{"a", "1"}});
  EXPECT_EQ(refusal_of(whole, "a"), "");
  EXPECT_THAT(refusal_of("abc"), HasSubstr("3 bytes long"));
  EXPECT_THAT(refusal_of(std::string("\xFF\xFF\xFF\xFFxxxx")), HasSubstr("4294967295"));
  EXPECT_THAT(refusal_of(std::string("\x03\0\0\0xxxx", 8)), HasSubstr("multiple of 4"));
  EXPECT_THAT(refusal_of(std::string("\0\0\0\0xxxx", 8)), HasSubstr("multiple of 4"));
  EXPECT_THAT(refusal_of(whole + "\xFF"), HasSubstr("not UTF-8"));
  // The replacement is cut off, and then in the middle of "é".
  EXPECT_THAT(refusal_of(whole.substr(0, whole.size() - 2), "a"), HasSubstr("no text begins"));
}

// Whatever damage does, every access is checked: an error, another replacement, or nothing.
TEST(Charsmap, DamageIsFoundOrHarmless) {
  const std::string whole = make_charsmap({{"a", "1"}, {"ab", "é"}, {"é", "ab"}, {"日本", "x"}});
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  int refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string damaged = whole;
    for (size_t n = 1 + random() % 4; n > 0; --n) {
      // Mostly where the trie is not empty: a unit of zeros leads nowhere.
      damaged[random() % damaged.size()] = static_cast<char>(random());
    }
    if (random() % 4 == 0) damaged.resize(random() % damaged.size());
    for (const char* text : {"a", "ab", "é", "日本", "abab"}) {
      refused += refusal_of(damaged, text).empty() ? 0 : 1;
    }
  }
  EXPECT_GT(refused, 0);
}

TEST(Charsmap, Base64) {
  // RFC 4648, section 10.
  for (const auto& [text, bytes] :
       {std::pair("", ""), std::pair("Zg==", "f"), std::pair("Zm8=", "fo"),
        std::pair("Zm9v", "foo"), std::pair("Zm9vYg==", "foob"), std::pair("Zm9vYmE=", "fooba"),
        std::pair("Zm9vYmFy", "foobar")}) {
    std::string decoded;
    EXPECT_TRUE(decode_base64(text, decoded)) << text;
    EXPECT_EQ(decoded, bytes);
  }
  std::string decoded;
  for (const char* bad : {"Z", "Zg=", "Zg", "Zg=a", "Z===", "====", "Zm9\n", "Zm9-"}) {
    EXPECT_FALSE(decode_base64(bad, decoded)) << bad;
  }
  EXPECT_TRUE(decode_base64("+/+/", decoded));
  EXPECT_EQ(decoded, "\xFB\xFF\xBF");
}

// In a tokenizer.json the shortest entry that a grapheme cluster begins with takes all of it.
TEST(Charsmap, NormalizerAsksForClustersFirst) {
  const Normalizer normalizer({NormalizePrecompiled{make_charsmap(
                                  {{"e\u0301", "E"}, {"e", "3"}, {"\r", "R"}, {"日", "D"}})}},
                              "test");
  RegexScratch scratch;
  EXPECT_EQ(normalizer.apply("ee\u0301f", scratch), "33f");
  EXPECT_EQ(normalizer.apply("\r\n", scratch), "R");  // One cluster.
  EXPECT_EQ(normalizer.apply("\ra\r", scratch), "RaR");
  EXPECT_EQ(normalizer.apply("日本", scratch), "D本");
  // A cluster of six bytes or more is taken apart.
  EXPECT_EQ(normalizer.apply("日\u0301", scratch), "D");
  EXPECT_EQ(normalizer.apply("日\u0301\u0301", scratch), "D\u0301\u0301");
}

}  // namespace
}  // namespace pare
