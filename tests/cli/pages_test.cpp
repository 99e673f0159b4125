// Manual pages and completions are made of what --help prints: nothing of it is lost on the way,
// and nothing of it can mean something to troff or a shell.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pare/error.h"
#include "tools/evaluation_command.h"
#include "tools/pages/completions.h"
#include "tools/pages/man_page.h"
#include "tools/quantize_command.h"

namespace pare::tools {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using Kind = CompletedValue::Kind;

const char* const kHelp = R"(Writes a checkpoint in
one more form.

Examples:
  tool in.h5 -o out
  tool in.h5 \
      --much

Usage: tool FILE -o DIR
       tool check DIR

Options may be typed.
Defaults are in brackets.

Output:
  -o, --output, --output_dir DIR
                            Folder to write
  --form FORM               Form, see
                            below [a]
  --mode on|off             How [on]
  --force                   Replace

Gates (exit status 8), judged:
  --max-loss P%             As large

Forms:
Name  Meaning
----  -------
a     .the first 'form'
b-c   the second \ form
)";

HelpOption option_of(const HelpText& help, const std::string& name) {
  for (const HelpGroup& group : help.groups) {
    for (const HelpOption& option : group.options) {
      if (option.names.back() == name) return option;
    }
  }
  ADD_FAILURE() << "no option " << name;
  return {};
}

TEST(HelpText, IsTakenApart) {
  const HelpText help = parse_help(kHelp);
  EXPECT_EQ(help.description, "Writes a checkpoint in one more form.");
  EXPECT_THAT(help.examples, ElementsAre("tool in.h5 -o out", "tool in.h5 \\", "    --much"));
  EXPECT_THAT(help.usage, ElementsAre("tool FILE -o DIR", "tool check DIR"));
  EXPECT_EQ(help.remark, "Options may be typed. Defaults are in brackets.");
  ASSERT_EQ(help.groups.size(), 2U);
  EXPECT_EQ(help.groups[1].title, "Gates (exit status 8), judged");
  const HelpOption output = help.groups[0].options[0];
  EXPECT_THAT(output.names, ElementsAre("-o", "--output", "--output_dir"));
  EXPECT_EQ(output.value, "DIR");
  EXPECT_EQ(output.text, "Folder to write");
  EXPECT_EQ(option_of(help, "--form").text, "Form, see below [a]");
  EXPECT_EQ(option_of(help, "--force").value, "");
  ASSERT_EQ(help.sections.size(), 1U);
  EXPECT_THAT(first_words(help.sections[0].lines), ElementsAre("a", "b-c"));
  EXPECT_THAT(first_words({"one", "    of it", "two words"}), ElementsAre("one", "two"));
}

TEST(HelpText, OfAnotherFormIsRefused) {
  for (const char* text : {"", "Words.", "Words.\n\nUsage: tool\n", "\nUsage: tool\n",
                           "W.\n\nUsage: t\n\nGroup:\n  -a    x\n  no option\n"}) {
    EXPECT_THROW(parse_help(text), Error) << text;
  }
}

/// Every option of a program's table comes back from its help page as it was described.
template <typename Describe>
void expect_round_trip(Describe describe) {
  CLI::App app("Does something.");
  app.set_help_flag("");
  describe(app);
  const HelpText help = parse_help(help_page(app, "tool [options]", {"tool"}));
  size_t count = 0;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_lnames().empty()) continue;
    ++count;
    const HelpOption found = option_of(help, "--" + option->get_lnames().back());
    EXPECT_EQ(found.names.size(), option->get_lnames().size() + option->get_snames().size());
    EXPECT_EQ(found.value, option->get_items_expected_max() == 0 ? "" : option->get_type_name());
    EXPECT_THAT(found.text, ::testing::StartsWith(option->get_description()));
  }
  size_t parsed = 0;
  for (const HelpGroup& group : help.groups) parsed += group.options.size();
  EXPECT_EQ(parsed, count);
  EXPECT_GT(count, 20U);
}

TEST(HelpText, HasAllThatTheProgramsTablesSay) {
  Command command;
  expect_round_trip([&](CLI::App& app) { describe_options(app, command); });
  EvaluationCommand evaluation;
  expect_round_trip([&](CLI::App& app) { describe_evaluation(app, evaluation); });
}

TEST(ManPage, NothingIsARequestByAccident) {
  const std::string page = man_page("tool-form", "1.2.3", parse_help(kHelp), {"tool", "other"});
  EXPECT_THAT(page, ::testing::StartsWith(".TH \"TOOL-FORM\" 1 \"\" \"pare 1.2.3\" \"pare\"\n"));
  EXPECT_THAT(page, HasSubstr("tool\\-form \\- writes a checkpoint in one more form\n"));
  EXPECT_THAT(page, HasSubstr("\\fB\\-o\\fR, \\fB\\-\\-output\\fR"));
  EXPECT_THAT(page, HasSubstr("tool in.h5 \\e\n"));
  EXPECT_THAT(page, HasSubstr("the second \\e form\n"));
  EXPECT_THAT(page, HasSubstr(".SH \"FORMS\"\n"));
  EXPECT_THAT(page, HasSubstr(".BR tool (1),\n.BR other (1)\n"));
  HelpText help = parse_help(kHelp);
  help.sections[0].lines = {".so /etc/passwd", "'quoted'"};
  const std::string guarded = man_page("tool", "1", help, {});
  EXPECT_THAT(guarded, HasSubstr("\n\\&.so /etc/passwd\n\\&'quoted'\n"));
  EXPECT_THAT(guarded, Not(HasSubstr("\n.so")));
}

ProgramHelp program() {
  return {"my-tool", parse_help(kHelp), {{"check", parse_help(kHelp)}}, {{"max-loss", {"1%"}}}};
}

TEST(Completions, ValuesAreSeenFromTheirWords) {
  const ProgramHelp tool = program();
  const auto kind = [&](const std::string& value) {
    return completed_value(tool, tool.main, {{"--x"}, value, ""}).kind;
  };
  EXPECT_EQ(kind(""), Kind::kNone);
  EXPECT_EQ(kind("N"), Kind::kAny);
  EXPECT_EQ(kind("DIR"), Kind::kFolders);
  EXPECT_EQ(kind("PATH"), Kind::kFiles);
  EXPECT_EQ(completed_value(tool, tool.main, {{"--x"}, "FILE.json", ""}).ending, ".json");
  EXPECT_THAT(completed_value(tool, tool.main, {{"--form"}, "FORM", ""}).words,
              ElementsAre("a", "b-c"));
  EXPECT_THAT(completed_value(tool, tool.main, {{"--max-loss"}, "P%", ""}).words,
              ElementsAre("1%"));
  EXPECT_THAT(completed_value(tool, tool.main, {{"--x"}, "on|off", ""}).words,
              ElementsAre("on", "off"));
  // What is said on one page holds for the same option on another.
  EXPECT_THAT(completed_value(tool, tool.main, {{"--mode"}, "MODE", ""}).words,
              ElementsAre("on", "off"));
  EXPECT_TRUE(completed_value(tool, tool.main, {{"--max-loss"}, "P%[,P%]", ""}).list);
}

TEST(Completions, KnowCommandsAndOptions) {
  const std::string bash = bash_completion(program());
  EXPECT_THAT(bash, HasSubstr("complete -F _pare_my_tool my-tool\n"));
  EXPECT_THAT(bash, HasSubstr("-o | --output | --output_dir) _pare_my_tool_folders ;;"));
  EXPECT_THAT(bash, HasSubstr("compgen -W \"check\""));
  const std::string zsh = zsh_completion(program());
  EXPECT_THAT(zsh, ::testing::StartsWith("#compdef my-tool\n"));
  EXPECT_THAT(zsh, HasSubstr("'(--mode)--mode=[How \\[on\\]]:on|off:(on off)'"));
  const std::string fish = fish_completion(program());
  EXPECT_THAT(fish, HasSubstr("complete -c my-tool -n '__fish_seen_subcommand_from check' -l mode "
                              "-x -a 'on off' -d 'How [on]'\n"));
  HelpText hostile = parse_help(kHelp);
  hostile.groups[0].options[3].text = "it's $(reboot) \\";
  const ProgramHelp quoted{"tool", hostile, {}, {}};
  EXPECT_THAT(zsh_completion(quoted), HasSubstr("'(--force)--force[it'\\''s $(reboot) \\\\]'"));
  EXPECT_THAT(fish_completion(quoted), HasSubstr("-d 'it\\'s $(reboot) \\\\'\n"));
}

}  // namespace
}  // namespace pare::tools
