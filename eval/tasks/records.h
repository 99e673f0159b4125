// JSON objects of a task file, one a line (.jsonl) or the elements of one array (.json), each
// knowing its line, so that whatever does not fit is named by file and line.
//
//   for (const Record& record : parse_records(files.read(path), path)) use(record.text("goal"));
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace pare {

class Record {
 public:
  /// REQUIRES: `object` is an object.
  Record(nlohmann::json object, std::string source)
      : object_(std::move(object)), source_(std::move(source)) {}

  const std::string& source() const { return source_; }  ///< "FILE:LINE".

  /// Whether the key is there and not null.
  bool has(const char* key) const;
  bool is_object(const char* key) const;

  /// A string that is not blank; as it stands.
  std::string text(const char* key) const;

  /// A string, which may be blank, or "" when the key is not there.
  std::string text_or_empty(const char* key) const;

  /// At least two strings, none of them blank.
  std::vector<std::string> texts(const char* key) const;

  bool boolean(const char* key) const;
  Record object(const char* key) const;
  std::vector<Record> objects(const char* key) const;

  /// Which of `count` a whole number or its decimal text means, counted from `first`.
  int64_t index(const char* key, int64_t count, int64_t first = 0) const;

  /// Which of the texts a value means: its index from 0, its letter ("A", "B", …) or the text
  /// itself; where there are `labels`, only one of these. What means two of them is an error.
  int64_t answer(const char* key, const std::vector<std::string>& texts,
                 const std::vector<std::string>& labels = {}) const;

  /// Throws Error(kInputMalformed): "FILE:LINE: WHAT".
  [[noreturn]] void fail(const std::string& what) const;

 private:
  const nlohmann::json& at(const char* key) const;
  [[noreturn]] void fail_value(const char* key, const std::string& expected) const;

  nlohmann::json object_;
  std::string source_;
};

/// Blank lines between records are skipped. Throws Error(kInputMalformed) with file and line for
/// what is no JSON object, and when there is none at all.
std::vector<Record> parse_records(const std::string& text, const std::string& path);

/// The index that `word`, decimal digits only, gives among `count`, counted from `first`; or −1.
int64_t parse_index(std::string_view word, int64_t count, int64_t first = 0);

/// The `count` letters from A on.
std::vector<std::string> letters(size_t count);

}  // namespace pare
