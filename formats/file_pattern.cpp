#include "formats/file_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cstdint>
#include <memory>

#include "pare/error.h"

namespace pare {
namespace {

/// Steps after which a pattern is given up.
constexpr uint32_t kMatchLimit = 100'000;

}  // namespace

bool pattern_matches(const std::string& pattern, const std::string& text,
                     const std::string& subject, const std::string& before,
                     const std::string& after) {
  const std::string whole = before + pattern + after;
  int error = 0;
  size_t place = 0;
  const std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(whole.data()), whole.size(), PCRE2_ANCHORED,
                    &error, &place, nullptr),
      pcre2_code_free);
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
      code == nullptr ? nullptr : pcre2_match_data_create_from_pattern(code.get(), nullptr),
      pcre2_match_data_free);
  const std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> context(
      pcre2_match_context_create(nullptr), pcre2_match_context_free);
  const auto refuse = [&](const char* what) {
    throw Error(ErrorCode::kInputMalformed, subject + ": pattern \"" + pattern + "\" " + what);
  };
  if (code == nullptr || match == nullptr || context == nullptr) {
    refuse("is no regular expression");
  }
  pcre2_set_match_limit(context.get(), kMatchLimit);
  const int found = pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                0, 0, match.get(), context.get());
  if (found < 0 && found != PCRE2_ERROR_NOMATCH) refuse("takes too long to match");
  return found >= 0;
}

}  // namespace pare
