#include "tools/pages/completions.h"

#include <fmt/format.h>

#include <string_view>

namespace pare::tools {
namespace {

using Kind = CompletedValue::Kind;

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

/// In single quotes, for bash and zsh.
std::string quoted(const std::string& text) { return "'" + replaced(text, "'", "'\\''") + "'"; }

/// The same for fish, where a backslash keeps its meaning in single quotes.
std::string fish_quoted(const std::string& text) {
  return "'" + replaced(replaced(text, "\\", "\\\\"), "'", "\\'") + "'";
}

/// A shell function's name for a page of a program.
std::string function_of(const ProgramHelp& program) {
  return "_pare_" + replaced(program.name, "-", "_");
}

std::string command_words(const ProgramHelp& program) {
  std::vector<std::string> words;
  for (const auto& [name, page] : program.commands) words.push_back(name);
  return fmt::format("{}", fmt::join(words, " "));
}

template <typename Use>
void for_each_option(const HelpText& page, Use use) {
  for (const HelpGroup& group : page.groups) {
    for (const HelpOption& option : group.options) use(option);
  }
}

std::string bash_page(const ProgramHelp& program, const HelpText& page) {
  const std::string function = function_of(program);
  std::string cases;
  std::string all;
  for_each_option(page, [&](const HelpOption& option) {
    for (const std::string& name : option.names) {
      if (name.starts_with("--")) all += (all.empty() ? "" : " ") + name;
    }
    const CompletedValue value = completed_value(program, page, option);
    std::string action;
    switch (value.kind) {
      case Kind::kNone:
        return;
      case Kind::kAny:
        action = "return";
        break;
      case Kind::kWords:
        action = fmt::format("{}_{} {}", function, value.list ? "list" : "words",
                             quoted(fmt::format("{}", fmt::join(value.words, " "))));
        break;
      case Kind::kFiles:
        action = fmt::format("{}_files {}", function, quoted(value.ending));
        break;
      case Kind::kFolders:
        action = fmt::format("{}_folders", function);
        break;
    }
    cases += fmt::format("        {}) {} ;;\n", fmt::join(option.names, " | "), action);
  });
  return fmt::format(
      "      case $previous in\n"
      "{}"
      "        *) {}_rest {} ;;\n"
      "      esac\n",
      cases, function, quoted(all));
}

/// What zsh has to find in the brackets of a specification, or between its colons.
std::string zsh_escaped(std::string text) {
  for (const std::string_view letter : {"\\", "[", "]", ":"}) {
    text = replaced(std::move(text), letter, "\\" + std::string(letter));
  }
  return text;
}

std::string zsh_specification(const ProgramHelp& program, const HelpText& page,
                              const HelpOption& option) {
  const CompletedValue value = completed_value(program, page, option);
  const bool repeated = option.text.find("may be repeated") != std::string::npos;
  std::string action;
  if (value.kind != Kind::kNone) {
    action = ":" + zsh_escaped(option.value) + ":";
    if (value.kind == Kind::kWords) {
      const std::string words = fmt::format("{}", fmt::join(value.words, " "));
      action += value.list ? fmt::format("_values -s , value {}", words) : "(" + words + ")";
    } else if (value.kind == Kind::kFiles) {
      action += value.ending.empty() ? "_files" : fmt::format("_files -g \"*{}\"", value.ending);
    } else if (value.kind == Kind::kFolders) {
      action += "_files -/";
    }
  }
  std::string lines;
  for (const std::string& name : option.names) {
    // Of several names one is enough, unless the option may be repeated.
    const std::string others = fmt::format("({})", fmt::join(option.names, " "));
    const std::string equals = value.kind == Kind::kNone ? "" : name.starts_with("--") ? "=" : "+";
    lines += fmt::format("    {} \\\n", quoted((repeated ? "*" : others) + name + equals + "[" +
                                               zsh_escaped(option.text) + "]" + action));
  }
  return lines;
}

std::string zsh_page(const ProgramHelp& program, const HelpText& page, const std::string& first) {
  std::string text = "  _arguments -S : \\\n";
  for_each_option(
      page, [&](const HelpOption& option) { text += zsh_specification(program, page, option); });
  if (!first.empty()) text += fmt::format("    {} \\\n", quoted(first));
  return text + "    '*:file:_files'\n";
}

std::string fish_page(const ProgramHelp& program, const HelpText& page,
                      const std::string& condition) {
  std::string lines;
  for_each_option(page, [&](const HelpOption& option) {
    lines += fmt::format("complete -c {} -n {}", program.name, fish_quoted(condition));
    for (const std::string& name : option.names) {
      lines += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
    }
    const CompletedValue value = completed_value(program, page, option);
    const std::string words = fmt::format("{}", fmt::join(value.words, " "));
    switch (value.kind) {
      case Kind::kNone:
        break;
      case Kind::kAny:
        lines += " -x";
        break;
      case Kind::kWords:
        lines += " -x -a " +
                 fish_quoted(value.list ? fmt::format("(__fish_append , {})", words) : words);
        break;
      case Kind::kFiles:
        lines += value.ending.empty()
                     ? std::string(" -r -F")
                     : " -r -k -a " +
                           fish_quoted(fmt::format("(__fish_complete_suffix {})", value.ending));
        break;
      case Kind::kFolders:
        lines += " -x -a '(__fish_complete_directories)'";
        break;
    }
    lines += " -d " + fish_quoted(option.text) + "\n";
  });
  return lines;
}

}  // namespace

std::string bash_completion(const ProgramHelp& program) {
  const std::string function = function_of(program);
  std::string pages;
  for (const auto& [name, page] : program.commands) {
    pages += fmt::format("    {})\n{}      ;;\n", name, bash_page(program, page));
  }
  pages += fmt::format("    *)\n{}      ;;\n", bash_page(program, program.main));
  // Needs nothing but bash itself. "--option=value" arrives as three words.
  std::string script = R"(# bash completion for PROGRAM, made from what its --help prints.

FUNCTION_words() {
  mapfile -t COMPREPLY < <(compgen -W "$1" -- "$current")
}

FUNCTION_list() {
  local begun=""
  if [[ $current == *,* ]]; then begun=${current%,*},; fi
  mapfile -t COMPREPLY < <(compgen -P "$begun" -W "$1" -- "${current##*,}")
}

FUNCTION_files() {
  compopt -o filenames 2>/dev/null
  if [[ -z $1 ]]; then
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  else
    mapfile -t COMPREPLY < <(compgen -f -X "!*$1" -- "$current"; compgen -d -- "$current")
  fi
}

FUNCTION_folders() {
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen -d -- "$current")
}

FUNCTION_rest() {
  if [[ $current == -* ]]; then
    FUNCTION_words "$1"
    return
  fi
  FUNCTION_files ""
  if [[ $COMP_CWORD -eq 1 ]]; then
    mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -W "COMMANDS" -- "$current")
  fi
}

FUNCTION() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} page=""
  COMPREPLY=()
  if [[ $current == = ]]; then
    current=""
  elif [[ $previous == = && $COMP_CWORD -gt 2 ]]; then
    previous=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  if [[ $COMP_CWORD -gt 1 ]]; then page=${COMP_WORDS[1]}; fi
  case $page in
)";
  script += pages + "  esac\n}\n\ncomplete -F FUNCTION PROGRAM\n";
  script = replaced(std::move(script), "FUNCTION", function);
  script = replaced(std::move(script), "COMMANDS", command_words(program));
  return replaced(std::move(script), "PROGRAM", program.name);
}

std::string zsh_completion(const ProgramHelp& program) {
  std::string script = fmt::format(
      "#compdef {0}\n# zsh completion for {0}, made from what its --help prints.\n\n"
      "local curcontext=$curcontext state line\n",
      program.name);
  for (const auto& [name, page] : program.commands) {
    script += fmt::format(
        "if (( CURRENT > 2 )) && [[ $words[2] == {} ]]; then\n"
        "  shift words\n  (( CURRENT-- ))\n{}  return\nfi\n",
        name, zsh_page(program, page, ""));
  }
  const std::string first =
      program.commands.empty()
          ? ""
          // With the space zsh adds no options of its own to the command.
          : fmt::format("1:model: _alternative \"commands:command:({})\" \"files:file:_files\"",
                        command_words(program));
  return script + zsh_page(program, program.main, first);
}

std::string fish_completion(const ProgramHelp& program) {
  std::string script =
      fmt::format("# fish completion for {}, made from what its --help prints.\n", program.name);
  const std::string words = command_words(program);
  const std::string none =
      words.empty() ? "true" : fmt::format("not __fish_seen_subcommand_from {}", words);
  script += fish_page(program, program.main, none);
  for (const auto& [name, page] : program.commands) {
    script += fmt::format("complete -c {} -n '__fish_is_first_arg' -a {} -d {}\n", program.name,
                          name, fish_quoted(page.description));
    script += fish_page(program, page, "__fish_seen_subcommand_from " + name);
  }
  return script;
}

}  // namespace pare::tools
