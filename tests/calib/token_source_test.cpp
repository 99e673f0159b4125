#include "calib/token_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <thread>

#include "core/sha256.h"
#include "pare/error.h"
#include "tests/support/memory_source.h"
#include "tests/support/program.h"
#include "tests/support/reference.h"

namespace pare {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::MemorySource;
using testing::TempDir;
using testing::write_file;

using Documents = std::vector<std::vector<int32_t>>;

// Message of the error that `call` throws with `code`.
template <typename Call>
std::string message_of(ErrorCode code, Call call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

class TokenSource : public ::testing::Test {
 protected:
  // Documents of a file with this name and content.
  Documents read(const std::string& name, const std::string& content, int64_t needed = 0,
                 uint64_t seed = 0) {
    write_file(folder_ / name, content);
    return read_documents(folder_ / name, *model_, needed, seed).documents;
  }

  std::string refusal(const std::string& name, const std::string& content) {
    return message_of(ErrorCode::kInputMalformed, [&] { read(name, content); });
  }

  std::vector<int32_t> encode(const std::string& text) const {
    return load_tokenizer(*model_).encode(text, /*add_special_tokens=*/true);
  }

  TempDir folder_;
  std::unique_ptr<WeightSource> model_ =
      open_weight_source(std::string(PARE_SOURCE_DIR) + "/demo/model");
};

TEST_F(TokenSource, LinesWithTextAreDocuments) {
  const Documents found = read("c.jsonl",
                               "{\"text\": \"The first one.\"}\n"
                               "\n  \t\r\n"
                               "{\"id\": 7, \"text\": \"Caf\\u00e9\\n\\\"quoted\\\"\"}\r\n");
  EXPECT_THAT(found, ElementsAre(encode("The first one."), encode("Café\n\"quoted\"")));
  EXPECT_NE(found[0], found[1]);
  EXPECT_GT(found[0].size(), 1U);
}

TEST_F(TokenSource, LinesWithIdsAreTakenAsTheyAre) {
  EXPECT_THAT(read("c.jsonl",
                   "{\"input_ids\": [5, 0, 2147483647]}\n{\"tokens\": [1, 2]}\n"
                   "{\"input_ids\": [], \"text\": \"not read\"}"),
              ElementsAre(ElementsAre(5, 0, 2147483647), ElementsAre(1, 2), IsEmpty()));
}

// Other tools write more than one of the keys.
TEST_F(TokenSource, TheKeyThatHoldsWhatItSaysIsTaken) {
  for (const char* line : {R"({"text": "The first one.", "tokens": 4})",
                           R"({"text": "The first one.", "input_ids": null})",
                           R"({"text": "The first one.", "tokens": ["The", "first", "one"]})",
                           R"({"text": "The first one.", "tokens": {"count": 4}})",
                           R"({"text": "The first one.", "input_ids": "5 6"})"}) {
    EXPECT_THAT(read("c.jsonl", line), ElementsAre(encode("The first one."))) << line;
  }
  EXPECT_THAT(read("c.jsonl", R"({"text": "x", "input_ids": 3, "tokens": [1, 2]})"),
              ElementsAre(ElementsAre(1, 2)));
  EXPECT_THAT(read("c.jsonl", R"({"text": 5, "input_ids": [3], "tokens": ["x"]})"),
              ElementsAre(ElementsAre(3)));
  EXPECT_THAT(refusal("c.jsonl", R"({"text": 5, "tokens": ["x"]})"), HasSubstr("\"x\""));
  EXPECT_THAT(refusal("c.jsonl", R"({"tokens": 4})"), HasSubstr("line 1"));
}

TEST_F(TokenSource, APipeIsRead) {
  const std::string path = folder_ / "pipe.jsonl";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const std::string content = "{\"input_ids\": [1, 2]}\n{\"input_ids\": [3]}\n";
  std::thread writer([&] { write_file(path, content); });
  const TokenDocuments found = read_documents(path, *model_, 0, 0);
  writer.join();
  EXPECT_THAT(found.documents, ElementsAre(ElementsAre(1, 2), ElementsAre(3)));
  EXPECT_EQ(found.text_sha256, sha256_hex(std::string_view(content)));
}

TEST_F(TokenSource, LinksInACircleAreMissingInput) {
  std::filesystem::create_symlink("loop.jsonl", folder_ / "loop.jsonl");
  EXPECT_THAT(message_of(ErrorCode::kInputMissing,
                         [&] { read_documents(folder_ / "loop.jsonl", *model_, 0, 0); }),
              AllOf(HasSubstr("loop.jsonl"), HasSubstr("symbolic links")));
}

// The most memory that this process had at once.
int64_t peak_bytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    if (word != "VmHWM:") continue;
    int64_t kib = 0;
    status >> kib;
    return kib * 1024;
  }
  return -1;
}

TEST_F(TokenSource, ALargeFileTakesLittleMemory) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer keeps memory that was freed";
#endif
  constexpr int kLines = 96;
  const std::string path = folder_ / "large.jsonl";
  {
    std::ofstream file(path, std::ios::binary);
    const std::string filler((size_t{1} << 20) - 2, 'x');
    for (int i = 0; i < kLines; ++i) {
      file << "{\"input_ids\": [" << i << "], \"note\": \"" << filler << "é\"}\n";
    }
  }
  for (const uint64_t seed : {0, 1}) {
    // A child, whose peak begins with what it has.
    const pid_t child = ::fork();
    if (child == 0) {
      const int64_t before = peak_bytes();
      const auto found = read_documents(path, *model_, 3, seed).documents.size();
      const int64_t grown = peak_bytes() - before;
      if (before < 0 || found != 3) ::_exit(99);
      ::_exit(static_cast<int>(std::min<int64_t>(grown >> 20, 98)));
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_LT(WEXITSTATUS(status), kLines / 3) << "MiB, or 99 for a failure";
  }
}

TEST_F(TokenSource, LongFilesAreCheckedToTheirEnd) {
  // Characters of two bytes from an odd position: one lies across each end of a block.
  std::string text = "x";
  while (text.size() < (size_t{9} << 20)) text += "é";
  const std::string line = "{\"input_ids\": [1], \"note\": \"" + text + "\"}\n";
  write_file(folder_ / "l.jsonl", line);
  EXPECT_EQ(read_documents(folder_ / "l.jsonl", *model_, 0, 0).text_sha256,
            sha256_hex(std::string_view(line)));
  EXPECT_THAT(refusal("l.jsonl", line + "\xff"),
              HasSubstr("byte " + std::to_string(line.size()) + " "));
}

TEST_F(TokenSource, IdsNeedNoTokenizer) {
  const MemorySource bare("{}");
  write_file(folder_ / "ids.jsonl", "{\"input_ids\": [1, 2]}");
  EXPECT_THAT(read_documents(folder_ / "ids.jsonl", bare, 0, 0).documents,
              ElementsAre(ElementsAre(1, 2)));
  write_file(folder_ / "text.txt", "words");
  EXPECT_THAT(message_of(ErrorCode::kInputMissing,
                         [&] { read_documents(folder_ / "text.txt", bare, 0, 0); }),
              HasSubstr("tokenizer.json"));
}

TEST_F(TokenSource, APlainTextIsOneDocument) {
  const std::string text = "One line.\n\nAnother {\"text\": \"line\"}.\n";
  for (const char* name : {"wiki.txt", "wiki.test.raw", "wiki"}) {
    EXPECT_THAT(read(name, text), ElementsAre(encode(text)));
  }
}

TEST_F(TokenSource, IdFiles) {
  EXPECT_THAT(read("a.ids", "1 2 3\n\n4,5, 6\n"),
              ElementsAre(ElementsAre(1, 2, 3), ElementsAre(4, 5, 6)));
  EXPECT_THAT(read("a.tokens", "7"), ElementsAre(ElementsAre(7)));
  EXPECT_THAT(read("a.json", "[1, 2, 3]"), ElementsAre(ElementsAre(1, 2, 3)));
  EXPECT_THAT(read("a.json", "[[1, 2],\n [3]]"), ElementsAre(ElementsAre(1, 2), ElementsAre(3)));
}

TEST_F(TokenSource, HashIsOfTheFile) {
  write_file(folder_ / "a.ids", "1 2 3\n");
  EXPECT_EQ(read_documents(folder_ / "a.ids", *model_, 0, 0).text_sha256,
            sha256_hex(std::string_view("1 2 3\n")));
}

TEST_F(TokenSource, MalformedLinesAreNamed) {
  const std::string good = "{\"input_ids\": [1]}\n";
  for (const char* bad :
       {"{\"text\": \"cut", "[1, 2]", "words", "{}", "{\"text\": 5}", "{\"input_ids\": 5}",
        "{\"input_ids\": [1.5]}", "{\"input_ids\": [-1]}", "{\"input_ids\": [2147483648]}",
        "{\"input_ids\": [\"1\"]}", "{\"input_ids\": null}"}) {
    EXPECT_THAT(refusal("c.jsonl", good + "\n" + bad + "\n" + good),
                AllOf(HasSubstr("c.jsonl"), HasSubstr("line 3")))
        << bad;
  }
  for (const char* bad : {"1 two 3", "1.5", "-1", "2147483648", "99999999999999999999", "0x10"}) {
    EXPECT_THAT(refusal("c.ids", std::string("1 2\n") + bad),
                AllOf(HasSubstr("c.ids"), HasSubstr("line 2")))
        << bad;
  }
  EXPECT_THAT(refusal("c.json", "[[1], [\"x\"]]"), HasSubstr("c.json"));
  EXPECT_THAT(refusal("c.json", "[[1], 2]"), HasSubstr("c.json"));
}

TEST_F(TokenSource, AMissingFileIsNamed) {
  EXPECT_THAT(message_of(ErrorCode::kInputMissing,
                         [&] { read_documents(folder_ / "nothing.txt", *model_, 0, 0); }),
              HasSubstr("nothing.txt"));
}

TEST_F(TokenSource, EndingsAreReadInUpperAndLowerCase) {
  EXPECT_THAT(read("C.JSONL", "{\"input_ids\": [1, 2]}"), ElementsAre(ElementsAre(1, 2)));
  EXPECT_THAT(read("c.JsonL", "{\"input_ids\": [1, 2]}"), ElementsAre(ElementsAre(1, 2)));
  EXPECT_THAT(read("A.IDS", "1 2"), ElementsAre(ElementsAre(1, 2)));
  EXPECT_THAT(read("A.Json", "[1, 2]"), ElementsAre(ElementsAre(1, 2)));
  EXPECT_THAT(read("A.TOKENS", "1 2"), ElementsAre(ElementsAre(1, 2)));
}

TEST_F(TokenSource, AnEmptyFileAndAFolderAreCalledThat) {
  for (const char* name : {"e.txt", "e.jsonl", "e.ids"}) {
    EXPECT_THAT(refusal(name, ""), AllOf(HasSubstr(name), HasSubstr("is empty")));
  }
  std::filesystem::create_directory(folder_ / "texts.jsonl");
  EXPECT_THAT(message_of(ErrorCode::kInputMissing,
                         [&] { read_documents(folder_ / "texts.jsonl", *model_, 0, 0); }),
              AllOf(HasSubstr("texts.jsonl"), HasSubstr("is a folder")));
}

TEST_F(TokenSource, WhatIsNoTextIsRefused) {
  for (const char* name : {"c.txt", "c.jsonl", "c.jsonl.gz", "c.ids", "c"}) {
    EXPECT_THAT(refusal(name, "\x1f\x8b\x08 and more"),
                AllOf(HasSubstr(name), HasSubstr("compressed (gzip)")));
    EXPECT_THAT(refusal(name, "PK\x03\x04 and more"), HasSubstr("compressed (zip)"));
    EXPECT_THAT(refusal(name, "\x28\xb5\x2f\xfd and more"), HasSubstr("compressed (zstd)"));
    EXPECT_THAT(refusal(name,
                        "\xfd"
                        "7zXZ and more"),
                HasSubstr("compressed (xz)"));
    EXPECT_THAT(refusal(name, std::string("words\0more", 10)),
                AllOf(HasSubstr(name), HasSubstr("byte 5 is NUL")));
  }
}

TEST_F(TokenSource, InvalidUtf8IsRefusedAtItsByte) {
  for (const char* bad : {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc3", "\xc3(", "\xe2\x82",
                          "\xe2(\xac", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
                          "\xf0\x9f\x98", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff"}) {
    EXPECT_THAT(refusal("c.txt", std::string("caf\xc3\xa9 ") + bad),
                AllOf(HasSubstr("c.txt"), HasSubstr("byte 6 "), HasSubstr("UTF-8")));
    EXPECT_THAT(refusal("c.txt", std::string("caf\xc3\xa9 ") + bad + " and more"),
                HasSubstr("byte 6 "));
  }
  // The first and the last code point of each length, and those beside the surrogates.
  const std::string good =
      "\x01\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4"
      "\x8f\xbf"
      "\xbf";
  EXPECT_THAT(read("c.txt", good), ElementsAre(encode(good)));
}

TEST_F(TokenSource, JsonLinesUnderAnotherNameAreRefused) {
  const std::string lines = "{\"text\": \"The first one.\"}\n{\"text\": \"Another.\"}\n";
  for (const char* name : {"c.txt", "c.json", "c.ids", "c"}) {
    EXPECT_THAT(refusal(name, lines), AllOf(HasSubstr(name), HasSubstr("rename it to .jsonl")));
    EXPECT_THAT(refusal(name, "\n" + lines), HasSubstr("rename it to .jsonl"));
  }
  for (const char* prose : {"{braces} are no object\n", "{\n}\n", "[1, 2]\n", "5\n"}) {
    EXPECT_THAT(read("c.txt", prose), ElementsAre(encode(prose)));
  }
}

TEST_F(TokenSource, WikiTextIsText) {
  const std::string path = testing::reference_dir() + "/data/wikitext2/wiki.test.raw";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no reference data at " << path;
  const Documents found = read_documents(path, *model_, 0, 0).documents;
  ASSERT_EQ(found.size(), 1U);
  EXPECT_GT(found[0].size(), 100'000U);
}

// Documents [0], [1], … one a line.
std::string numbered_lines(int count, bool json) {
  std::string lines;
  for (int i = 0; i < count; ++i) {
    lines += json ? "{\"input_ids\": [" + std::to_string(i) + "]}\n" : std::to_string(i) + "\n";
  }
  return lines;
}

std::vector<int32_t> first_ids(const Documents& documents) {
  std::vector<int32_t> ids;
  for (const auto& document : documents) ids.push_back(document.at(0));
  return ids;
}

TEST_F(TokenSource, SeedZeroKeepsTheOrderAndOthersShuffle) {
  std::vector<int32_t> in_order(100);
  std::iota(in_order.begin(), in_order.end(), 0);
  for (const bool json : {true, false}) {
    const std::string name = json ? "n.jsonl" : "n.ids";
    const std::string lines = numbered_lines(100, json);
    const auto order = [&](uint64_t seed) { return first_ids(read(name, lines, 0, seed)); };
    EXPECT_EQ(order(0), in_order);
    EXPECT_NE(order(1), in_order);
    EXPECT_NE(order(1), order(2));
    EXPECT_EQ(order(7), order(7));
    std::vector<int32_t> sorted = order(7);
    std::sort(sorted.begin(), sorted.end());
    EXPECT_EQ(sorted, in_order) << "each document once";
  }
}

// The order is part of what a seed means: it must not change from one release to the next.
TEST_F(TokenSource, TheOrderOfASeedIsFixed) {
  EXPECT_THAT(first_ids(read("n.jsonl", numbered_lines(8, true), 0, 1)),
              ElementsAre(4, 6, 3, 5, 1, 7, 2, 0));
}

TEST_F(TokenSource, StopsWhenThereIsEnough) {
  EXPECT_EQ(read("n.jsonl", numbered_lines(100, true), 10).size(), 10U);
  EXPECT_EQ(read("n.ids", numbered_lines(100, false), 10).size(), 10U);
  // A line that is not needed is not read.
  EXPECT_EQ(read("n.jsonl", numbered_lines(3, true) + "damaged\n", 3).size(), 3U);
  EXPECT_EQ(read("n.jsonl", numbered_lines(3, true), 10).size(), 3U);
}

TEST(TokenWindows, AreCutAcrossDocumentsWithoutPadding) {
  const TokenDocuments documents{{{1, 2, 3}, {}, {4}, {5, 6, 7, 8, 9}}, ""};
  const TokenWindows three = make_windows(documents, 3, 2, "x");
  EXPECT_EQ(three.count, 3);
  EXPECT_EQ(three.length, 2);
  EXPECT_THAT(three.ids, ElementsAre(1, 2, 3, 4, 5, 6));
  const TokenWindows all = make_windows(documents, 0, 2, "x");
  EXPECT_EQ(all.count, 4);
  EXPECT_THAT(all.ids, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
  EXPECT_EQ(make_windows(documents, 1, 9, "x").ids.size(), 9U);
  EXPECT_NE(three.ids_sha256, all.ids_sha256);
}

TEST(TokenWindows, HashIsOfLittleEndianIds) {
  const TokenWindows windows = make_windows({{{1, 258}}, ""}, 1, 2, "x");
  EXPECT_EQ(windows.ids_sha256, sha256_hex(std::string_view("\1\0\0\0\2\1\0\0", 8)));
}

TEST(TokenWindows, TooFewTokensAreRefusedWithBothNumbers) {
  const TokenDocuments documents{{{1, 2, 3}, {4, 5, 6, 7}}, ""};
  EXPECT_THAT(
      message_of(ErrorCode::kInputMalformed, [&] { make_windows(documents, 4, 2, "calib.jsonl"); }),
      AllOf(HasSubstr("calib.jsonl"), HasSubstr("7 tokens"), HasSubstr("8")));
  EXPECT_THAT(
      message_of(ErrorCode::kInputMalformed, [&] { make_windows(documents, 0, 100, "eval.txt"); }),
      AllOf(HasSubstr("eval.txt"), HasSubstr("7 tokens"), HasSubstr("100")));
  EXPECT_THAT(message_of(ErrorCode::kInputMalformed, [] { make_windows({}, 0, 5, "empty.txt"); }),
              HasSubstr("0 tokens"));
}

}  // namespace
}  // namespace pare
