// BoolQ (Clark et al., 2019): yes or no, after a passage. JSON lines with question, passage and
// answer (or label, 0 for no and 1 for yes); prompt and order of choices of lm-evaluation-harness.
#include "eval/tasks/task_forms.h"

namespace pare {
namespace {

TaskItem from_record(const Record& record) {
  std::string question = record.text("question");
  if (!question.ends_with('?')) question += '?';
  TaskItem item;
  item.question = record.text("passage") + "\nQuestion: " + question + "\nAnswer:";
  item.choices = spaced_choices({"no", "yes"});
  item.answer = record.has("answer") ? int64_t{record.boolean("answer")} : record.index("label", 2);
  return item;
}

std::vector<TaskItem> read_items(TaskFiles& files, const std::string& path) {
  return read_each(files, path, from_record);
}

}  // namespace

TaskForm boolq() {
  return {.name = "boolq",
          .summary = "BoolQ, yes or no after a passage; JSON lines",
          .read_items = read_items,
          .splits = {"val", "dev"}};
}

}  // namespace pare
