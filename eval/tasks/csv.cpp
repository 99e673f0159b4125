#include "eval/tasks/csv.h"

#include <algorithm>
#include <utility>

#include "pare/error.h"

namespace pare {
namespace {

class CsvParser {
 public:
  CsvParser(std::string_view text, const std::string& origin) : text_(text), origin_(origin) {
    // Empty lines at the end are what editors leave.
    while (text_.ends_with("\n\n") || text_.ends_with("\n\r\n")) {
      text_.remove_suffix(text_.ends_with("\r\n") ? 2 : 1);
    }
    if (text_ == "\n" || text_ == "\r\n") text_ = {};
  }

  std::vector<CsvRecord> parse() {
    std::vector<CsvRecord> records;
    while (at_ < text_.size()) {
      CsvRecord record{{}, line_};
      do {
        record.fields.push_back(peek() == '"' ? quoted_field() : plain_field());
      } while (accept(','));
      end_of_record();
      records.push_back(std::move(record));
    }
    return records;
  }

 private:
  [[noreturn]] void fail(int64_t line, const std::string& what) const {
    throw Error(ErrorCode::kInputMalformed, origin_ + ":" + std::to_string(line) + ": " + what);
  }

  /// The next character, or NUL at the end.
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  bool accept(char expected) {
    if (at_ >= text_.size() || text_[at_] != expected) return false;
    ++at_;
    return true;
  }

  std::string quoted_field() {
    const int64_t opened = line_;
    std::string field;
    ++at_;
    while (true) {
      const size_t quote = text_.find('"', at_);
      if (quote == std::string_view::npos) fail(opened, "a quote is opened and never closed");
      const std::string_view part = text_.substr(at_, quote - at_);
      line_ += std::count(part.begin(), part.end(), '\n');
      field += part;
      at_ = quote + 1;
      if (!accept('"')) return field;
      field += '"';
    }
  }

  std::string plain_field() {
    const size_t end = std::min(text_.find_first_of(",\r\n\"", at_), text_.size());
    if (end < text_.size() && text_[end] == '"') {
      fail(line_,
           "a quote inside a field that does not begin with one; write it doubled in quotes");
    }
    return std::string(text_.substr(std::exchange(at_, end), end - at_));
  }

  void end_of_record() {
    if (at_ >= text_.size()) return;
    const bool carriage_return = accept('\r');
    if (accept('\n')) {
      ++line_;
      return;
    }
    fail(line_, carriage_return ? "a carriage return without a line feed"
                                : "text after a closing quote; expected a comma or the line's end");
  }

  std::string_view text_;
  const std::string& origin_;
  size_t at_ = 0;
  int64_t line_ = 1;
};

}  // namespace

std::vector<CsvRecord> parse_csv(std::string_view text, const std::string& origin) {
  return CsvParser(text, origin).parse();
}

}  // namespace pare
