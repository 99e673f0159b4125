#include "tokenizer/oniguruma_syntax.h"

#include <cstdint>
#include <utility>

#include "pare/error.h"
#include "tokenizer/unicode.h"
#include "tokenizer/unicode_properties.h"

namespace pare {
namespace {

// Property White_Space and its complement, as the inside of a class.
constexpr std::string_view kSpace =
    "\\t-\\r\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}"
    "\\x{3000}";
constexpr std::string_view kNotSpace =
    "\\x00-\\x08\\x0e-\\x1f\\x21-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}"
    "\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}"
    "\\x{3001}-\\x{10ffff}";
constexpr std::string_view kWord = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
constexpr std::string_view kHexDigit = "0-9A-Fa-f";

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& origin)
      : pattern_(pattern), origin_(origin) {}

  std::string run() {
    while (at_ < pattern_.size()) {
      const char c = pattern_[at_];
      if (c == '\\') {
        escape(/*in_class=*/false);
      } else if (c == '[') {
        character_class();
      } else if (c == '(') {
        group();
      } else if (c == '{') {
        interval();
      } else {
        out_ += c;
        ++at_;
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view construct) const {
    throw Error(ErrorCode::kInputMalformed, origin_ + ": regular expression " +
                                                quoted_text(pattern_) + ": " +
                                                std::string(construct) + " is not supported");
  }
  [[noreturn]] void broken(std::string_view what) const {
    throw Error(ErrorCode::kInputMalformed, origin_ + ": regular expression " +
                                                quoted_text(pattern_) +
                                                " is not valid: " + std::string(what));
  }

  bool next_is(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
  char peek(size_t ahead = 0) const {
    return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0';
  }

  // A set: inside a class its members, outside a class of its own.
  void set(std::string_view members, bool negated, bool in_class) {
    if (!in_class) {
      out_.append(negated ? "[^" : "[").append(members).append("]");
    } else if (!negated) {
      out_ += members;
    } else if (members == kSpace) {
      out_ += kNotSpace;
    } else {
      refuse("a negated set such as \\W or \\H inside a character class");
    }
  }

  void escape(bool in_class) {
    if (at_ + 1 >= pattern_.size()) broken("it ends with a backslash");
    const char c = pattern_[at_ + 1];
    at_ += 2;
    switch (c) {
      case 's':
      case 'S':
        return set(kSpace, c == 'S', in_class);
      case 'w':
      case 'W':
        return set(kWord, c == 'W', in_class);
      case 'h':
      case 'H':
        return set(kHexDigit, c == 'H', in_class);
      case 'd':
      case 'D':
        out_ += c == 'd' ? "\\p{Nd}" : "\\P{Nd}";
        return;
      case 'p':
      case 'P':
        return property(c == 'P', in_class);
      case 'v':
        out_ += "\\x0b";
        return;
      case 'x':
      case 'u':
        return code_point(c);
      case 'b':
      case 'B':
        return boundary(c == 'B', in_class);
      default:
        break;
    }
    const std::string_view same_anywhere = "nrtfae";
    const std::string_view same_outside = "AzZGRXKk123456789";
    if (same_anywhere.find(c) != std::string_view::npos ||
        (!in_class && same_outside.find(c) != std::string_view::npos)) {
      out_ += '\\';
      out_ += c;
    } else if (c == '0' && !is_digit(peek())) {
      out_ += "\\x00";
    } else if (is_letter(c) || is_digit(c)) {
      refuse(std::string("\\") + c + (in_class ? " inside a character class" : ""));
    } else {
      // An escaped sign is that sign; PCRE2 allows the backslash before ASCII only.
      if (static_cast<uint8_t>(c) < 0x80) out_ += '\\';
      out_ += c;
    }
  }

  void boundary(bool negated, bool in_class) {
    if (in_class) {
      if (negated) refuse("\\B inside a character class");
      out_ += "\\x08";
      return;
    }
    const std::string word = "[" + std::string(kWord) + "]";
    const std::string_view behind = negated ? "(?<!" : "(?<=";
    out_.append("(?:").append(behind).append(word).append(")(?!").append(word).append(")|");
    out_.append(negated ? "(?<=" : "(?<!").append(word).append(")(?=").append(word).append("))");
  }

  // \x{H…}, \xHH below 0x80 (above, Oniguruma means a byte of UTF-8, not a character), \uHHHH.
  void code_point(char kind) {
    std::string digits;
    if (kind == 'x' && peek() == '{') {
      for (++at_; is_hex(peek()); ++at_) digits += peek();
      if (peek() != '}' || digits.empty() || digits.size() > 8) broken("bad \\x{…}");
      ++at_;
    } else {
      const size_t length = kind == 'u' ? 4 : 2;
      for (; digits.size() < length && is_hex(peek()); ++at_) digits += peek();
      if (digits.size() != length) broken(std::string("bad \\") + kind);
      if (kind == 'x' && digits[0] >= '8') refuse("\\x" + digits + " (a byte of UTF-8)");
    }
    out_ += "\\x{" + digits + "}";
  }

  void property(bool negated, bool in_class) {
    const size_t close = pattern_.find('}', at_);
    if (peek() != '{' || close == std::string_view::npos) broken("bad \\p{…}");
    std::string_view name = pattern_.substr(at_ + 1, close - at_ - 1);
    at_ = close + 1;
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    std::string loose;
    for (const char c : name) {
      if (c == ' ' || c == '_' || c == '-') continue;
      if (!is_letter(c) && !is_digit(c)) refuse("\\p{" + std::string(name) + "}");
      loose += c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
    }
    if (loose == "space" || loose == "whitespace") return set(kSpace, negated, in_class);
    if (loose == "word") return set(kWord, negated, in_class);
    out_ += negated ? "\\P{" : "\\p{";
    const std::string_view known = pcre2_property_name(loose);
    if (!known.empty()) {
      out_ += known;
    } else {
      out_.append("sc:").append(loose);  // PCRE2 refuses what is not a script.
    }
    out_ += '}';
  }

  void character_class() {
    out_ += '[';
    ++at_;
    if (peek() == '^') {
      out_ += '^';
      ++at_;
    }
    size_t depth = 0;
    for (bool first = true;; first = false) {
      if (at_ >= pattern_.size()) broken("a character class has no end");
      const char c = pattern_[at_];
      if (c == ']' && !first) {
        if (depth == 0) break;
        close_inner_class();
        --depth;
        continue;
      }
      if (c == '\\') {
        escape(/*in_class=*/true);
      } else if (next_is("[:")) {
        posix_set();
      } else if (c == '[') {
        open_inner_class();
        ++depth;
      } else if (next_is("&&")) {
        refuse("&& inside a character class");
      } else {
        if (c == ']') out_ += '\\';
        out_ += c;
        ++at_;
      }
    }
    out_ += ']';
    ++at_;
  }

  // A class inside a class adds its members, so that its brackets can go, unless a hyphen next to
  // them would then make a range.
  void open_inner_class() {
    ++at_;
    if (peek() == '^') refuse("a negated character class inside a character class");
    if (peek() == ']') refuse("an empty character class inside a character class");
    if (peek() == '-' || out_.back() == '-') refuse_hyphen();
  }
  void close_inner_class() {
    ++at_;
    if (peek() == '-' || out_.back() == '-') refuse_hyphen();
  }
  [[noreturn]] void refuse_hyphen() const {
    refuse("a hyphen at the edge of a character class inside a character class");
  }

  void posix_set() {
    const size_t close = pattern_.find(":]", at_);
    if (close == std::string_view::npos) refuse("[: without :]");
    const std::string_view name = pattern_.substr(at_ + 2, close - at_ - 2);
    at_ = close + 2;
    if (name == "space") {
      out_ += kSpace;
    } else if (name == "word") {
      out_ += kWord;
    } else if (name == "alpha") {
      out_ += "\\p{Alphabetic}";
    } else if (name == "alnum") {
      out_ += "\\p{Alphabetic}\\p{Nd}";
    } else if (name == "digit") {
      out_ += "\\p{Nd}";
    } else if (name == "upper") {
      out_ += "\\p{Uppercase}";
    } else if (name == "lower") {
      out_ += "\\p{Lowercase}";
    } else {
      refuse("[:" + std::string(name) + ":]");
    }
  }

  void group() {
    if (next_is("(*")) refuse("(*…)");
    if (!next_is("(?")) {
      out_ += '(';
      ++at_;
      return;
    }
    for (const std::string_view start : {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"}) {
      if (next_is(start)) {
        out_ += start;
        at_ += start.size();
        return;
      }
    }
    if (next_is("(?<") && is_letter(peek(3))) {  // A named group.
      out_ += "(?<";
      at_ += 3;
      return;
    }
    options();
  }

  void options() {
    const bool at_start = at_ == 0;
    std::string letters;
    for (at_ += 2; is_letter(peek()) || peek() == '-'; ++at_) {
      const char c = peek();
      if (c != 'i' && c != 'm' && c != '-') refuse(std::string("(?") + c + ")");
      letters += c == 'm' ? 's' : c;
    }
    const char end = peek();
    if (letters.empty() || (end != ':' && end != ')')) refuse("a group of this kind, (?…)");
    // In the middle Oniguruma reads a(?i)b|c as a(?i:b|c), PCRE2 as a(?i:b)|(?i:c).
    if (end == ')' && !at_start) refuse("an option in the middle, (?" + letters + ")");
    out_ += "(?" + letters + end;
    ++at_;
  }

  void interval() {
    size_t at = at_ + 1;
    const auto number = [&] {
      std::string digits;
      for (; at < pattern_.size() && is_digit(pattern_[at]); ++at) digits += pattern_[at];
      return digits;
    };
    const std::string low = number();
    const bool comma = at < pattern_.size() && pattern_[at] == ',';
    if (comma) ++at;
    const std::string high = comma ? number() : low;
    const bool closed = at < pattern_.size() && pattern_[at] == '}';
    if (!closed || (low.empty() && high.empty())) {  // Not an interval: a brace.
      out_ += "\\{";
      ++at_;
      return;
    }
    at_ = at + 1;
    if (peek() == '+') refuse("+ behind an interval");
    if (peek() == '?' && !comma) refuse("? behind {n}");
    out_ += "{" + (low.empty() ? "0" : low) + (comma ? "," + high : "") + "}";
  }

  std::string_view pattern_;
  const std::string& origin_;
  size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string oniguruma_to_pcre2(std::string_view pattern, const std::string& origin) {
  return Translator(pattern, origin).run();
}

}  // namespace pare
