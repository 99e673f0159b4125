// The help page. CLI11's own does not wrap, and begins with options instead of examples.
#include <fmt/format.h>

#include <algorithm>

#include "tools/arguments.h"

namespace pare::tools {
namespace {

constexpr size_t kColumns = 80;
constexpr size_t kIndent = kHelpIndent;

// "-o, --output PATH"
std::string spelling(const CLI::Option& option) {
  std::string names;
  const auto append = [&](std::string_view dashes, const std::string& name) {
    if (!names.empty()) names += ", ";
    names += fmt::format("{}{}", dashes, name);
  };
  for (const std::string& name : option.get_snames()) append("-", name);
  for (const std::string& name : option.get_lnames()) append("--", name);
  const std::string value = option.get_type_name();
  // An option without a value is a flag.
  if (option.get_items_expected_max() == 0 || value.empty()) return names;
  return names + " " + value;
}

// Words of `text` in lines of at most kColumns, each after the first indented by `indent`.
std::string wrapped(std::string_view text, size_t column, size_t indent) {
  std::string result;
  while (!text.empty()) {
    const size_t space = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, space);
    text.remove_prefix(std::min(space + 1, text.size()));
    if (column + 1 + word.size() > kColumns && column > indent) {
      result += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      result += ' ';
      ++column;
    }
    result += word;
    column += word.size();
  }
  return result;
}

std::string entry(const CLI::Option& option) {
  std::string text = "  " + wrapped(spelling(option), 2, 4);
  if (text.size() + 2 > kIndent) {
    text += "\n" + std::string(kIndent, ' ');
  } else {
    text.resize(kIndent, ' ');
  }
  std::string description = option.get_description();
  if (!option.get_default_str().empty()) {
    description += fmt::format(" [{}]", option.get_default_str());
  }
  return text + wrapped(description, kIndent, kIndent) + "\n";
}

}  // namespace

std::string help_page(const CLI::App& app, std::string_view usage,
                      const std::vector<std::string>& examples) {
  std::string page = wrapped(app.get_description(), 0, 0) + "\n\nExamples:\n";
  for (const std::string& example : examples) page += "  " + example + "\n";
  page += fmt::format("\nUsage: {}\n", usage);
  page += "\nLong options may be typed with - or _. Defaults are in brackets.\n";
  for (const std::string& group : app.get_groups()) {
    if (group.empty()) continue;
    std::string entries;
    for (const CLI::Option* option : app.get_options()) {
      const bool named = !option->get_lnames().empty() || !option->get_snames().empty();
      if (option->get_group() == group && named) entries += entry(*option);
    }
    if (!entries.empty()) page += fmt::format("\n{}:\n{}", group, entries);
  }
  return page;
}

}  // namespace pare::tools
