#include "tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>

#include "pare/error.h"
#include "tokenizer/oniguruma_syntax.h"
#include "tokenizer/unicode.h"

namespace pare {
namespace {

// A hundred thousand times what a tokenizer's pattern needs for a word, and about a second of work:
// beyond it the pattern and the text are an attack, or a mistake.
constexpr uint32_t kMatchLimit = 20'000'000;
constexpr uint32_t kHeapLimitKib = 512 * 1024;

template <auto free_function>
struct Free {
  template <typename T>
  void operator()(T* pointer) const {
    free_function(pointer);
  }
};

using Code = std::unique_ptr<pcre2_code, Free<pcre2_code_free>>;
using CompileContext = std::unique_ptr<pcre2_compile_context, Free<pcre2_compile_context_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Free<pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Free<pcre2_match_data_free>>;

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

[[noreturn]] void fail_without_memory() {
  throw Error(ErrorCode::kLimitExceeded, "out of memory for a regular expression");
}

}  // namespace

struct RegexScratch::State {
  MatchContext context;
  MatchData data;
};

RegexScratch::RegexScratch() : state_(std::make_unique<State>()) {
  state_->context.reset(pcre2_match_context_create(nullptr));
  state_->data.reset(pcre2_match_data_create(1, nullptr));  // Groups are not asked for.
  if (!state_->context || !state_->data) fail_without_memory();
  pcre2_set_match_limit(state_->context.get(), kMatchLimit);
  pcre2_set_heap_limit(state_->context.get(), kHeapLimitKib);
}
RegexScratch::~RegexScratch() = default;
RegexScratch::RegexScratch(RegexScratch&&) noexcept = default;
RegexScratch& RegexScratch::operator=(RegexScratch&&) noexcept = default;

struct Regex::State {
  Code code;
  std::string pattern;
  std::string origin;
};

Regex::Regex(std::string_view pattern, Kind kind, const std::string& origin)
    : state_(std::make_unique<State>()) {
  state_->pattern = pattern;
  state_->origin = origin;
  const bool literal = kind == Kind::kLiteral;
  const std::string source = literal ? std::string(pattern) : oniguruma_to_pcre2(pattern, origin);
  // Oniguruma's Ruby syntax lets ^ and $ match at every line and knows one newline, "\n".
  const uint32_t options =
      PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C);
  const CompileContext context(pcre2_compile_context_create(nullptr));
  if (!context) fail_without_memory();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  size_t offset = 0;
  state_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source.data()), source.size(),
                                   options, &error, &offset, context.get()));
  if (!state_->code) {
    throw Error(ErrorCode::kInputMalformed, origin + ": regular expression " +
                                                quoted_text(pattern) +
                                                " is not valid: " + message_of(error));
  }
  // Where the processor or the system allows no JIT the interpreter gives the same matches.
  pcre2_jit_compile(state_->code.get(), PCRE2_JIT_COMPLETE);
}
Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

bool Regex::find(std::string_view text, size_t from, RegexScratch& scratch,
                 MatchSpan& match) const {
  pcre2_match_data* data = scratch.state_->data.get();
  const auto attempt = [&](uint32_t options) {
    return pcre2_match(state_->code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                       from, PCRE2_NO_UTF_CHECK | options, data, scratch.state_->context.get());
  };
  int result = attempt(0);
  // Compiled code backtracks on a small fixed stack, the interpreter on the heap.
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = attempt(PCRE2_NO_JIT);
  if (result == PCRE2_ERROR_NOMATCH) return false;
  if (result < 0) {
    throw Error(ErrorCode::kLimitExceeded,
                state_->origin + ": regular expression " + quoted_text(state_->pattern) +
                    " gave up at byte " + std::to_string(from) + " of a text of " +
                    std::to_string(text.size()) + " bytes: " + message_of(result));
  }
  const size_t* bounds = pcre2_get_ovector_pointer(data);
  // \K in a lookahead can put the start behind the end.
  match = {std::min(bounds[0], bounds[1]), bounds[1], true};
  return true;
}

void Regex::split(std::string_view text, RegexScratch& scratch,
                  std::vector<MatchSpan>& spans) const {
  size_t covered = 0;  // End of the last span.
  size_t from = 0;
  bool after_match = false;
  MatchSpan match{};
  while (from <= text.size() && find(text, from, scratch, match)) {
    if (match.begin == match.end && after_match && match.end == covered) {
      from += from < text.size() ? code_point_at(text, from).size : 1;
      continue;
    }
    if (covered < match.begin) spans.push_back({covered, match.begin, false});
    spans.push_back({std::max(covered, match.begin), match.end, true});
    covered = from = match.end;
    after_match = true;
  }
  if (covered < text.size()) spans.push_back({covered, text.size(), false});
}

}  // namespace pare
