// Completions of bash, zsh and fish from the help pages of a program.
//
// What follows an option is seen from the word that stands for its value: "on|off" are the words
// themselves, DIR, FILE, FILE.json, PATH and MODEL are places in the file system; for other words
// there may be a list, by the option's name.
//
//   ProgramHelp program{"quantize", parse_help(main), {{"export", parse_help(exporting)}}, {}};
//   std::string script = bash_completion(program);
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tools/pages/help_text.h"

namespace pare::tools {

struct ProgramHelp {
  std::string name;
  HelpText main;
  std::vector<std::pair<std::string, HelpText>> commands;  ///< By the word that begins them.
  std::map<std::string, std::vector<std::string>> words;   ///< By option without its dashes.
};

/// What may follow an option.
struct CompletedValue {
  enum class Kind { kNone, kAny, kWords, kFiles, kFolders };
  Kind kind = Kind::kNone;         ///< kNone: the option is a flag.
  std::vector<std::string> words;  ///< kWords.
  bool list = false;               ///< kWords: several, with commas between them.
  std::string ending;              ///< kFiles: ".json", or "" for all.
};

/// Of an option of `page`, which is one of the program's.
CompletedValue completed_value(const ProgramHelp& program, const HelpText& page,
                               const HelpOption& option);

std::string bash_completion(const ProgramHelp& program);
std::string zsh_completion(const ProgramHelp& program);
std::string fish_completion(const ProgramHelp& program);

}  // namespace pare::tools
