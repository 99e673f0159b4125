// pare_pages: makes manual pages and completions while pare is built. Not installed.
//
//   pare_pages man NAME VERSION HELP [OTHER_PAGE …]
//   pare_pages bash|zsh|fish PROGRAM HELP [COMMAND=HELP …] [OPTION,OPTION:LIST …]
//
// HELP is a file with what --help printed, LIST one with a list of words for the options.
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "pare/error.h"
#include "tools/arguments.h"
#include "tools/main_guard.h"
#include "tools/pages/completions.h"
#include "tools/pages/man_page.h"

namespace pare::tools {
namespace {

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(ErrorCode::kInputMissing, path + ": cannot be opened");
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

int run(const std::vector<std::string>& arguments) {
  if (arguments.size() < 3) throw Error(ErrorCode::kUsage, "too few arguments; see main.cpp");
  const std::string& form = arguments[0];
  const std::string& name = arguments[1];
  if (form == "man") {
    if (arguments.size() < 4) throw Error(ErrorCode::kUsage, "man: NAME VERSION HELP [OTHER …]");
    write_stdout(man_page(name, arguments[2], parse_help(read(arguments[3])),
                          {arguments.begin() + 4, arguments.end()}));
    return 0;
  }
  ProgramHelp program{name, parse_help(read(arguments[2])), {}, {}};
  for (size_t i = 3; i < arguments.size(); ++i) {
    const size_t split = arguments[i].find_first_of("=:");
    if (split == std::string::npos) {
      throw Error(ErrorCode::kUsage, "expected COMMAND=HELP or OPTION:LIST: " + arguments[i]);
    }
    const std::string left = arguments[i].substr(0, split);
    const std::string text = read(arguments[i].substr(split + 1));
    if (arguments[i][split] == '=') {
      program.commands.emplace_back(left, parse_help(text));
    } else {
      for (const std::string& option : split_list(left)) {
        program.words[option] = first_words(split_lines(text));
      }
    }
  }
  check_choice(form, {"bash", "zsh", "fish"}, "form");
  write_stdout(form == "bash"  ? bash_completion(program)
               : form == "zsh" ? zsh_completion(program)
                               : fish_completion(program));
  return 0;
}

}  // namespace
}  // namespace pare::tools

int main(int argc, char** argv) {
  const auto arguments = pare::tools::arguments_of(argc, argv);
  return pare::tools::run_guarded("pare_pages", false, [&] { return pare::tools::run(arguments); });
}
