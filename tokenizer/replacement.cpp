#include "tokenizer/replacement.h"

#include <utility>
#include <vector>

namespace pare {

Replacement::Replacement(const TextPattern& pattern, std::string content, const std::string& origin)
    : content_(std::move(content)) {
  if (!pattern.is_regex && !pattern.text.empty()) {
    literal_ = pattern.text;
  } else {
    const auto kind = pattern.is_regex ? Regex::Kind::kPattern : Regex::Kind::kLiteral;
    regex_.emplace(pattern.text, kind, origin);
  }
}

std::string Replacement::apply(std::string_view text, RegexScratch& scratch) const {
  std::string result;
  result.reserve(text.size() + text.size() / 4);
  if (!regex_) {
    size_t at = 0;
    for (size_t found = text.find(literal_); found != std::string_view::npos;
         found = text.find(literal_, at)) {
      result.append(text, at, found - at).append(content_);
      at = found + literal_.size();
    }
    return result.append(text, at);
  }
  std::vector<MatchSpan> spans;
  regex_->split(text, scratch, spans);
  for (const MatchSpan& span : spans) {
    if (span.is_match) {
      result += content_;
    } else {
      result.append(text, span.begin, span.end - span.begin);
    }
  }
  return result;
}

}  // namespace pare
