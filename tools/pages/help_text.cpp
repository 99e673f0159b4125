#include "tools/pages/help_text.h"

#include <algorithm>
#include <sstream>
#include <string_view>

#include "pare/error.h"
#include "tools/arguments.h"

namespace pare::tools {
namespace {

std::string trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(' ');
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(' ') - begin + 1));
}

void append_words(std::string& text, std::string_view more) {
  const std::string words = trimmed(more);
  if (words.empty()) return;
  if (!text.empty()) text += ' ';
  text += words;
}

/// "-o, --output PATH"
HelpOption parse_spelling(std::string_view spelling) {
  HelpOption option;
  while (spelling.starts_with('-')) {
    const size_t end = std::min(spelling.find_first_of(", "), spelling.size());
    option.names.emplace_back(spelling.substr(0, end));
    const bool more = end < spelling.size() && spelling[end] == ',';
    spelling.remove_prefix(std::min(end + (more ? 2 : 1), spelling.size()));
    if (!more) break;
  }
  option.value = spelling;
  return option;
}

class Parser {
 public:
  explicit Parser(const std::string& text) : lines_(split_lines(text)) {}

  HelpText run() {
    while (at_ < lines_.size() && !line().empty()) append_words(help_.description, take());
    while (at_ < lines_.size()) {
      if (line().empty()) {
        ++at_;
      } else if (line() == "Examples:") {
        ++at_;
        while (indented()) help_.examples.push_back(take().substr(2));
      } else if (line().starts_with("Usage: ")) {
        help_.usage.push_back(take().substr(7));
        while (indented()) help_.usage.push_back(trimmed(take()));
      } else if (line().ends_with(':')) {
        parse_titled();
      } else {
        append_words(help_.remark, take());
      }
    }
    if (help_.description.empty() || help_.usage.empty() || help_.groups.empty()) {
      throw Error(ErrorCode::kInputMalformed,
                  "help: expected a description, a usage and options, found a page without");
    }
    return std::move(help_);
  }

 private:
  const std::string& line() const { return lines_[at_]; }
  const std::string& take() { return lines_[at_++]; }
  bool indented() const { return at_ < lines_.size() && line().starts_with("  "); }

  void parse_titled() {
    const std::string title = line().substr(0, line().size() - 1);
    ++at_;
    if (at_ < lines_.size() && line().starts_with("  -")) {
      help_.groups.push_back({title, {}});
      while (indented()) parse_option(help_.groups.back());
    } else {
      help_.sections.push_back({title, {}});
      while (at_ < lines_.size() && !line().empty()) help_.sections.back().lines.push_back(take());
    }
  }

  void parse_option(HelpGroup& group) {
    const std::string indent(kHelpIndent, ' ');
    const std::string first = take();
    if (!first.starts_with("  -")) {
      throw Error(ErrorCode::kInputMalformed, "help: expected an option, found \"" + first + "\"");
    }
    // A description begins on the same line where there is room for two spaces before it.
    const bool described = first.size() > kHelpIndent && first.substr(kHelpIndent - 2, 2) == "  ";
    std::string spelling = trimmed(described ? first.substr(0, kHelpIndent) : first);
    while (indented() && line().starts_with("    ") && !line().starts_with(indent)) {
      append_words(spelling, take());
    }
    HelpOption option = parse_spelling(spelling);
    if (described) option.text = first.substr(kHelpIndent);
    while (indented() && line().starts_with(indent)) append_words(option.text, take());
    group.options.push_back(std::move(option));
  }

  std::vector<std::string> lines_;
  size_t at_ = 0;
  HelpText help_;
};

}  // namespace

std::vector<std::string> split_lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

HelpText parse_help(const std::string& text) { return Parser(text).run(); }

std::vector<std::string> first_words(const std::vector<std::string>& lines) {
  std::vector<std::string> words;
  for (const std::string& line : lines) {
    if (line.starts_with("--")) {
      words.clear();
    } else if (!line.empty() && line[0] != ' ') {
      words.push_back(line.substr(0, line.find(' ')));
    }
  }
  return words;
}

}  // namespace pare::tools
