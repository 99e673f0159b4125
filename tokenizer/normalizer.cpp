#include "tokenizer/normalizer.h"

#include <utility>

namespace pare {
namespace {

std::string replace_all(const std::string& text, const Regex& regex, const std::string& content,
                        RegexScratch& scratch) {
  std::vector<MatchSpan> spans;
  regex.split(text, scratch, spans);
  std::string result;
  for (const MatchSpan& span : spans) {
    if (span.is_match) {
      result += content;
    } else {
      result.append(text, span.begin, span.end - span.begin);
    }
  }
  return result;
}

}  // namespace

Normalizer::Normalizer(std::vector<NormalizerStep> steps, const std::string& origin)
    : steps_(std::move(steps)) {
  for (const NormalizerStep& step : steps_) {
    regexes_.emplace_back();
    if (const auto* replace = std::get_if<NormalizeReplace>(&step)) {
      const auto kind = replace->pattern.is_regex ? Regex::Kind::kPattern : Regex::Kind::kLiteral;
      regexes_.back().emplace(replace->pattern.text, kind, origin);
    }
  }
}

std::string Normalizer::apply(std::string_view text, RegexScratch& scratch) const {
  std::string result(text);
  for (size_t i = 0; i < steps_.size(); ++i) {
    const NormalizerStep& step = steps_[i];
    if (const auto* unicode = std::get_if<NormalizeUnicode>(&step)) {
      result = normalize_unicode(result, unicode->form);
    } else if (std::holds_alternative<NormalizeLowercase>(step)) {
      result = lowercase(result);
    } else if (const auto* prepend = std::get_if<NormalizePrepend>(&step)) {
      if (!result.empty()) result.insert(0, prepend->text);
    } else if (const auto* replace = std::get_if<NormalizeReplace>(&step)) {
      result = replace_all(result, *regexes_[i], replace->content, scratch);
    }
  }
  return result;
}

}  // namespace pare
