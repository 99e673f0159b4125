// What --help prints, taken apart again: manual pages and shell completions are made of it, so that
// they can say nothing that the program does not.
//
// The form is that of help_page() in tools/help.cpp. Values; safe from any thread.
//
//   const HelpText help = parse_help(text);
//   for (const HelpGroup& group : help.groups) std::puts(group.title.c_str());
#pragma once

#include <string>
#include <vector>

namespace pare::tools {

struct HelpOption {
  std::vector<std::string> names;  ///< "-o", "--output"; short ones first.
  std::string value;               ///< "PATH", "on|off"; empty for a flag.
  std::string text;                ///< One line.
};

struct HelpGroup {
  std::string title;
  std::vector<HelpOption> options;
};

/// What is neither about options nor about usage, such as a table.
struct HelpSection {
  std::string title;
  std::vector<std::string> lines;
};

struct HelpText {
  std::string description;  ///< A sentence.
  std::vector<std::string> examples;
  std::vector<std::string> usage;
  std::string remark;
  std::vector<HelpGroup> groups;
  std::vector<HelpSection> sections;
};

/// Throws Error(kInputMalformed), naming the line, for a text of another form.
HelpText parse_help(const std::string& text);

/// The first words of the lines of a list or a table: those that are not indented, without what
/// stands above a rule of dashes.
std::vector<std::string> first_words(const std::vector<std::string>& lines);

std::vector<std::string> split_lines(const std::string& text);

}  // namespace pare::tools
