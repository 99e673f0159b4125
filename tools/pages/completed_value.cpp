#include <algorithm>

#include "tools/arguments.h"
#include "tools/pages/completions.h"

namespace pare::tools {
namespace {

std::vector<std::string> alternatives(std::string text) {
  std::replace(text.begin(), text.end(), '|', ',');
  return split_list(text);
}

std::string without_dashes(const std::string& name) {
  return name.substr(std::min(name.find_first_not_of('-'), name.size()));
}

/// Alternatives that an option of the same name has on any page of the program.
std::vector<std::string> words_elsewhere(const ProgramHelp& program, const HelpOption& option) {
  const auto on_page = [&](const HelpText& page) -> std::vector<std::string> {
    for (const HelpGroup& group : page.groups) {
      for (const HelpOption& other : group.options) {
        if (other.names.back() == option.names.back() &&
            other.value.find('|') != std::string::npos) {
          return alternatives(other.value);
        }
      }
    }
    return {};
  };
  std::vector<std::string> words = on_page(program.main);
  for (const auto& [name, page] : program.commands) {
    if (words.empty()) words = on_page(page);
  }
  return words;
}

/// The names in the table that a page has for a word: "Forms" for FORM.
std::vector<std::string> words_of_section(const HelpText& page, const std::string& value) {
  for (const HelpSection& section : page.sections) {
    std::string title = section.title;
    std::transform(title.begin(), title.end(), title.begin(),
                   [](unsigned char letter) { return static_cast<char>(std::toupper(letter)); });
    if (title == value + "S") return first_words(section.lines);
  }
  return {};
}

}  // namespace

CompletedValue completed_value(const ProgramHelp& program, const HelpText& page,
                               const HelpOption& option) {
  using Kind = CompletedValue::Kind;
  const std::string& value = option.value;
  if (value.empty()) return {};
  CompletedValue result{.kind = Kind::kWords, .words = {}, .list = false, .ending = {}};
  result.list = value.find(',') != std::string::npos;
  for (const std::string& name : option.names) {
    const auto known = program.words.find(without_dashes(name));
    if (known != program.words.end()) result.words = known->second;
  }
  if (result.words.empty() && value.find('|') != std::string::npos) {
    result.words = alternatives(value);
  }
  if (result.words.empty()) result.words = words_of_section(page, value);
  if (result.words.empty()) result.words = words_elsewhere(program, option);
  if (!result.words.empty()) return result;
  result.list = false;
  if (value == "DIR") {
    result.kind = Kind::kFolders;
  } else if (value.starts_with("FILE")) {
    result.kind = Kind::kFiles;
    result.ending = value.substr(4);
  } else {
    result.kind = value == "PATH" || value == "MODEL" ? Kind::kFiles : Kind::kAny;
  }
  return result;
}

}  // namespace pare::tools
