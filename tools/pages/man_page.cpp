#include "tools/pages/man_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>
#include <utility>

#include "pare/error.h"

namespace pare::tools {
namespace {

constexpr std::array<std::pair<int, const char*>, 10> kStatuses = {{
    {0, "done"},
    {static_cast<int>(ErrorCode::kInternal), "a bug in pare"},
    {static_cast<int>(ErrorCode::kUsage),
     "usage: an unknown option, a contradiction, a pattern that matches nothing"},
    {static_cast<int>(ErrorCode::kInputMissing), "an input is missing or cannot be read"},
    {static_cast<int>(ErrorCode::kInputMalformed),
     "an input is damaged or of a kind that is not supported"},
    {static_cast<int>(ErrorCode::kWriteFailed),
     "output could not be written: disk full, no permission, exists already"},
    {static_cast<int>(ErrorCode::kLimitExceeded),
     "out of memory, or more than --max-memory allows"},
    {static_cast<int>(ErrorCode::kNonFinite), "NaN or infinity in weights or activations"},
    {static_cast<int>(ErrorCode::kGateFailed), "a gate failed; the result is complete"},
    {static_cast<int>(ErrorCode::kInterrupted),
     "interrupted by SIGINT or SIGTERM; a second signal stops at once"},
}};

/// Text for troff: a hyphen is one that can be typed, and nothing is a request.
std::string escaped(std::string_view text) {
  std::string result;
  for (const char letter : text) {
    if (letter == '\\') {
      result += "\\e";
    } else if (letter == '-') {
      result += "\\-";
    } else {
      if (result.empty() && (letter == '.' || letter == '\'')) result += "\\&";
      result += letter;
    }
  }
  return result;
}

std::string as_printed(const std::vector<std::string>& lines) {
  std::string result = ".nf\n";
  for (const std::string& line : lines) result += escaped(line) + "\n";
  return result + ".fi\n";
}

std::string upper(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char letter) { return static_cast<char>(std::toupper(letter)); });
  return text;
}

/// "Writes a checkpoint." as "writes a checkpoint".
std::string phrase(std::string sentence) {
  if (sentence.ends_with('.')) sentence.pop_back();
  if (!sentence.empty()) sentence[0] = static_cast<char>(std::tolower(sentence[0]));
  return sentence;
}

std::string entry(const HelpOption& option) {
  std::string names;
  for (const std::string& name : option.names) {
    names += (names.empty() ? "" : ", ") + fmt::format("\\fB{}\\fR", escaped(name));
  }
  if (!option.value.empty()) names += fmt::format(" \\fI{}\\fR", escaped(option.value));
  return fmt::format(".TP\n{}\n{}\n", names, escaped(option.text));
}

}  // namespace

std::string man_page(const std::string& name, const std::string& version, const HelpText& help,
                     const std::vector<std::string>& see_also) {
  std::string page = fmt::format(".TH \"{}\" 1 \"\" \"pare {}\" \"pare\"\n", upper(name), version);
  page += fmt::format(".SH NAME\n{} \\- {}\n", escaped(name), escaped(phrase(help.description)));
  page += ".SH SYNOPSIS\n" + as_printed(help.usage);
  page += fmt::format(".SH DESCRIPTION\n{}\n", escaped(help.description));
  if (!help.remark.empty()) page += fmt::format(".PP\n{}\n", escaped(help.remark));
  page += ".SH OPTIONS\n";
  for (const HelpGroup& group : help.groups) {
    page += fmt::format(".SS \"{}\"\n", escaped(group.title));
    for (const HelpOption& option : group.options) page += entry(option);
  }
  for (const HelpSection& section : help.sections) {
    page += fmt::format(".SH \"{}\"\n", upper(section.title)) + as_printed(section.lines);
  }
  page += ".SH EXAMPLES\n" + as_printed(help.examples);
  page += ".SH \"EXIT STATUS\"\n";
  for (const auto& [status, meaning] : kStatuses) {
    page += fmt::format(".TP\n\\fB{}\\fR\n{}\n", status, escaped(meaning));
  }
  if (!see_also.empty()) {
    page += ".SH \"SEE ALSO\"\n";
    for (const std::string& other : see_also) {
      page += fmt::format(".BR {} (1){}\n", escaped(other), other == see_also.back() ? "" : ",");
    }
  }
  return page;
}

}  // namespace pare::tools
