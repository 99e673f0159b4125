// WinoGrande (Sakaguchi et al., 2020): which of two names fills a blank. Partial evaluation (Trinh
// and Le, 2018): the sentence up to the blank with a name put in is the context, and what follows
// is scored, the same words for both. JSON lines with sentence, option1, option2 and answer, or an
// array of records with instruction and answer.
#include "eval/tasks/task_forms.h"

namespace pare {
namespace {

TaskItem from_parts(const Record& record, const std::string& sentence,
                    const std::vector<std::string>& options) {
  const size_t blank = sentence.find('_');
  if (blank == std::string::npos || sentence.find('_', blank + 1) != std::string::npos) {
    record.fail("the sentence has not exactly one blank \"_\"");
  }
  std::string_view rest = std::string_view(sentence).substr(blank + 1);
  const std::string_view text = stripped(rest);
  if (text.empty()) record.fail("nothing follows the blank, so there is nothing to score");
  rest = rest.substr(0, static_cast<size_t>(text.data() + text.size() - rest.data()));
  TaskItem item;
  for (const std::string& option : options) {
    item.choices.push_back({sentence.substr(0, blank) + option, std::string(rest)});
  }
  return item;
}

TaskItem from_record(const Record& record) {
  if (!record.has("instruction")) {
    TaskItem item = from_parts(record, record.text("sentence"),
                               {record.text("option1"), record.text("option2")});
    item.answer = record.index("answer", 2, 1);
    return item;
  }
  const std::vector<std::string> parts = split_instruction(
      record,
      {"Please choose the correct answer to fill in the blank to complete the given sentence: ",
       "\n\nOption1: ", " Option2: ", " Answer format: option1/option2"});
  TaskItem item = from_parts(record, parts[0], {parts[1], parts[2]});
  item.answer = record.answer("answer", {parts[1], parts[2]}, {"option1", "option2"});
  return item;
}

std::vector<TaskItem> read_items(TaskFiles& files, const std::string& path) {
  return read_each(files, path, from_record);
}

}  // namespace

TaskForm winogrande() {
  return {.name = "winogrande",
          .summary = "WinoGrande, partial evaluation; JSON lines, or an array of instructions",
          .read_items = read_items,
          .splits = {"val", "dev", "test"}};
}

}  // namespace pare
