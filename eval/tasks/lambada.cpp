// LAMBADA (Paperno et al., 2016): the last word of a passage, which needs all of it. JSON lines
// with text. The word is what follows the last blank, as in lm-evaluation-harness: punctuation and
// line breaks before it belong to it.
#include "eval/tasks/task_forms.h"

namespace pare {
namespace {

TaskItem from_record(const Record& record) {
  const std::string raw = record.text("text");
  const std::string_view text = stripped(raw);
  const size_t blank = text.rfind(' ');
  if (blank == std::string_view::npos) record.fail("\"text\" is a single word; expected a passage");
  TaskItem item;
  item.question = text.substr(0, blank);
  item.choices.push_back({"", std::string(text.substr(blank))});
  return item;
}

std::vector<TaskItem> read_items(TaskFiles& files, const std::string& path) {
  return read_each(files, path, from_record);
}

}  // namespace

TaskForm lambada() {
  return {.name = "lambada",
          .summary = "LAMBADA, the last word of a passage, greedily; JSON lines",
          .scoring = ChoiceScoring::kGreedy,
          .read_items = read_items,
          .splits = {"test", "val", "dev"}};
}

}  // namespace pare
