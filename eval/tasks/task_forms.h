// The built-in tasks, one a source file: prompt, choices and scoring.
//
// A new task is a function here, a small file, and a line in the table of task.cpp. A reader gives
// each question its text as the model sees it; the answered question of an example follows from
// it, see example_text(). Readers throw Error(kInputMalformed) with file and line. Pure but for
// what they read; one TaskFiles a thread.
//
//   TaskForm form = piqa();
//   std::vector<TaskItem> items = form.read_items(files, "valid.jsonl");
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "eval/tasks/records.h"
#include "eval/tasks/task.h"
#include "eval/tasks/task_files.h"

namespace pare {

struct TaskForm {
  std::string_view name;
  std::string_view summary;  ///< One line.
  ChoiceScoring scoring = ChoiceScoring::kSum;
  int64_t shots = 0;  ///< When the caller does not say.

  /// For sets of one file, and where its folder may hold it and its examples.
  std::vector<TaskItem> (*read_items)(TaskFiles& files, const std::string& path) = nullptr;
  std::string_view hint = "";
  std::vector<std::string_view> splits = {};

  /// For sets with groups, instead.
  std::vector<TaskGroup> (*read_groups)(TaskFiles& files, int64_t shots) = nullptr;
};

TaskForm mmlu();
TaskForm hellaswag();
TaskForm piqa();
TaskForm arc_easy();
TaskForm arc_challenge();
TaskForm winogrande();
TaskForm boolq();
TaskForm lambada();
TaskForm custom_jsonl();

/// A question that was answered right, and the blank line behind it.
std::string example_text(const TaskItem& item);

/// The first `shots` of `items` as examples; throws Error(kInputMalformed) naming `path` when there
/// are fewer.
std::vector<std::string> take_examples(const std::vector<TaskItem>& items, int64_t shots,
                                       const std::string& path);

/// Choices with the blank that stands between a prompt and what follows it.
std::vector<Choice> spaced_choices(const std::vector<std::string>& texts);

/// The items of a file of records, one each.
template <typename ReadRecord>
std::vector<TaskItem> read_each(TaskFiles& files, const std::string& path, ReadRecord read) {
  std::vector<TaskItem> items;
  for (const Record& record : parse_records(files.read(path), path)) {
    TaskItem item = read(record);
    item.source = record.source();
    item.row = static_cast<int64_t>(items.size());
    items.push_back(std::move(item));
  }
  return items;
}

/// The parts of an instruction: what stands after `markers[0]` up to `markers[1]`, and so on; the
/// last marker ends the last part. The text must begin with the first marker.
std::vector<std::string> split_instruction(const Record& record,
                                           const std::vector<std::string>& markers);

}  // namespace pare
