// Regular expressions as tokenizer.json writes them, matched by PCRE2.
//
// A Regex is immutable and safe to use from several threads; each thread brings its own
// RegexScratch. Text must be valid UTF-8: it is not checked again for every match.
//
//   const Regex regex("\\p{N}{1,3}", Regex::Kind::kPattern, "tokenizer.json");
//   RegexScratch scratch;
//   std::vector<MatchSpan> spans;
//   regex.split("a1234", scratch, spans);  // "a" no, "123" yes, "4" yes
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace pare {

/// A part of a text, [begin, end) in bytes, that matched or that lies between matches.
struct MatchSpan {
  size_t begin;
  size_t end;
  bool is_match;
};

/// What a match needs and one thread owns.
class RegexScratch {
 public:
  RegexScratch();
  ~RegexScratch();
  RegexScratch(RegexScratch&&) noexcept;
  RegexScratch& operator=(RegexScratch&&) noexcept;

 private:
  friend class Regex;
  struct State;
  std::unique_ptr<State> state_;
};

class Regex {
 public:
  enum class Kind {
    kPattern,  ///< Oniguruma syntax (tokenizer/oniguruma_syntax.h).
    kLiteral,  ///< The text itself.
  };

  /// `origin` is for messages. Throws Error(kInputMalformed) when the pattern is broken or uses
  /// what is not supported.
  Regex(std::string_view pattern, Kind kind, const std::string& origin);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  /// Cuts `text` into matches and what lies between, in order, without gaps; appends to `spans`.
  /// An empty match right behind another match is skipped, other empty matches are spans. Throws
  /// Error(kLimitExceeded) when the pattern backtracks without end on this text.
  void split(std::string_view text, RegexScratch& scratch, std::vector<MatchSpan>& spans) const;

 private:
  struct State;
  bool find(std::string_view text, size_t from, RegexScratch& scratch, MatchSpan& match) const;
  std::unique_ptr<State> state_;
};

}  // namespace pare
