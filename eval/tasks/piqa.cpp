// PIQA (Bisk et al., 2020): which of two solutions reaches a goal. JSON lines with goal, sol1, sol2
// and either label or, beside NAME.jsonl, the file NAME-labels.lst with a number a line.
#include <algorithm>
#include <filesystem>

#include "eval/tasks/task_forms.h"
#include "tokenizer/unicode.h"

namespace pare {
namespace {

TaskItem from_record(const Record& record) {
  TaskItem item;
  item.question = "Question: " + record.text("goal") + "\nAnswer:";
  item.choices = spaced_choices({record.text("sol1"), record.text("sol2")});
  item.answer = record.has("label") ? record.index("label", 2) : -1;
  return item;
}

std::vector<int64_t> read_labels(TaskFiles& files, const std::string& path) {
  const std::string text = files.read(path);
  std::vector<int64_t> labels;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = stripped(std::string_view(text).substr(at, end - at));
    at = end + 1;
    if (line.empty() && text.find_first_not_of(" \t\r\n", at) == std::string::npos) break;
    labels.push_back(parse_index(line, 2));
    if (labels.back() < 0) {
      malformed(at_line(path, static_cast<int64_t>(labels.size())),
                quoted_text(line) + "; expected the label 0 or 1");
    }
  }
  return labels;
}

std::vector<TaskItem> read_items(TaskFiles& files, const std::string& path) {
  std::vector<TaskItem> items = read_each(files, path, from_record);
  size_t labelled = 0;
  for (const TaskItem& item : items) labelled += item.answer >= 0;
  if (labelled == items.size()) return items;
  if (labelled > 0) {
    for (const TaskItem& item : items) {
      if (item.answer < 0) malformed(item.source, "has no \"label\", unlike other lines");
    }
  }
  const std::filesystem::path file(path);
  const std::string labels_path =
      (file.parent_path() / (file.stem().string() + "-labels.lst")).string();
  if (!std::filesystem::exists(labels_path)) {
    malformed(items[0].source, "has no \"label\", and there is no file " + labels_path);
  }
  const std::vector<int64_t> labels = read_labels(files, labels_path);
  if (labels.size() != items.size()) {
    malformed(labels_path, std::to_string(labels.size()) + " labels for " +
                               std::to_string(items.size()) + " questions in " + path);
  }
  for (size_t i = 0; i < items.size(); ++i) items[i].answer = labels[i];
  return items;
}

}  // namespace

TaskForm piqa() {
  return {.name = "piqa",
          .summary = "PIQA, two solutions; JSON lines with labels inside or in a -labels.lst",
          .read_items = read_items,
          .splits = {"val", "dev"}};
}

}  // namespace pare
