#include "eval/tasks/task.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "eval/limit.h"
#include "eval/tasks/task_files.h"
#include "eval/tasks/task_forms.h"
#include "pare/error.h"

namespace pare {
namespace {

std::vector<TaskForm> all_forms() {
  return {mmlu(),       hellaswag(), piqa(),    arc_easy(),    arc_challenge(),
          winogrande(), boolq(),     lambada(), custom_jsonl()};
}

TaskForm form_named(const std::string& name) {
  std::string known;
  for (const TaskForm& form : all_forms()) {
    if (form.name == name) return form;
    known += (known.empty() ? "" : ", ") + std::string(form.name);
  }
  throw Error(ErrorCode::kUsage, "unknown task \"" + name + "\"; known are " + known +
                                     ", and any file whose name ends in .jsonl");
}

std::vector<TaskGroup> read_one_file(const TaskForm& form, TaskFiles& files, int64_t shots) {
  const std::string path = files.find({form.name, form.hint, form.splits});
  TaskGroup group;
  group.name = form.name;
  group.items = form.read_items(files, path);
  if (shots > 0) {
    const std::string examples =
        TaskFiles::find_beside(path, {form.name, form.hint, {"train", "dev"}});
    if (examples.empty()) {
      malformed(path, std::to_string(shots) +
                          " shots were asked for, but the folder holds no file of examples (a "
                          ".jsonl, .json or .txt with \"train\" or \"dev\" in its name)");
    }
    group.examples = take_examples(form.read_items(files, examples), shots, examples);
  }
  return {std::move(group)};
}

// How many of each group, `wanted` in all: the share's whole part each, and the rest one by one to
// the groups with the largest fractions, earlier groups first.
std::vector<int64_t> quotas(const std::vector<TaskGroup>& groups, int64_t wanted, int64_t count) {
  std::vector<int64_t> quota;
  std::vector<int64_t> rest;
  for (const TaskGroup& group : groups) {
    const int64_t scaled = static_cast<int64_t>(group.items.size()) * wanted;
    quota.push_back(scaled / count);
    rest.push_back(scaled % count);
  }
  std::vector<size_t> order(groups.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return rest[a] > rest[b]; });
  const int64_t missing = wanted - std::accumulate(quota.begin(), quota.end(), int64_t{0});
  for (size_t i = 0; i < static_cast<size_t>(missing); ++i) ++quota[order[i]];
  return quota;
}

void limit_task(Task& task, double limit) {
  const int64_t count = task.item_count();
  const int64_t wanted = limited_count(limit, count);
  if (wanted == count) return;
  const std::vector<int64_t> quota = quotas(task.groups, wanted, count);
  for (size_t g = 0; g < task.groups.size(); ++g) {
    std::vector<TaskItem>& items = task.groups[g].items;
    const size_t size = items.size();
    const auto keep = static_cast<size_t>(quota[g]);
    // The middles of `keep` equal parts: distinct, because no part is shorter than one question.
    for (size_t i = 0; i < keep; ++i) {
      const size_t from = (2 * i + 1) * size / (2 * keep);
      if (from != i) items[i] = std::move(items[from]);
    }
    items.resize(keep);
  }
  std::erase_if(task.groups, [](const TaskGroup& group) { return group.items.empty(); });
}

}  // namespace

std::vector<std::pair<std::string, std::string>> task_table() {
  std::vector<std::pair<std::string, std::string>> table;
  for (const TaskForm& form : all_forms()) table.emplace_back(form.name, form.summary);
  return table;
}

Task read_task(const std::string& name, const std::string& path, const TaskOptions& options) {
  const bool is_path = name.ends_with(".jsonl");
  if (is_path && !path.empty() && path != name) {
    throw Error(ErrorCode::kUsage, "the task " + name + " is a file itself; it takes no path");
  }
  limited_count(options.limit, 1);  // Refused before anything is read.
  const TaskForm form = form_named(is_path ? "jsonl" : name);
  TaskFiles files(is_path ? name : path);
  Task task;
  task.name = form.name == "jsonl" ? std::filesystem::path(files.root()).stem().string() : name;
  task.scoring = form.scoring;
  const int64_t shots = options.shots < 0 ? form.shots : options.shots;
  task.groups = form.read_groups != nullptr ? form.read_groups(files, shots)
                                            : read_one_file(form, files, shots);
  task.sha256 = files.sha256();
  limit_task(task, options.limit);
  return task;
}

std::string example_text(const TaskItem& item) {
  const Choice& right = item.choices[static_cast<size_t>(item.answer)];
  return item.question + right.prefix + right.continuation + "\n\n";
}

std::vector<std::string> take_examples(const std::vector<TaskItem>& items, int64_t shots,
                                       const std::string& path) {
  if (static_cast<int64_t>(items.size()) < shots) {
    malformed(path, "holds " + std::to_string(items.size()) + " examples, but " +
                        std::to_string(shots) + " shots were asked for");
  }
  std::vector<std::string> examples;
  for (size_t i = 0; i < static_cast<size_t>(shots); ++i)
    examples.push_back(example_text(items[i]));
  return examples;
}

std::vector<Choice> spaced_choices(const std::vector<std::string>& texts) {
  std::vector<Choice> choices;
  for (const std::string& text : texts) choices.push_back({"", " " + text});
  return choices;
}

std::vector<std::string> split_instruction(const Record& record,
                                           const std::vector<std::string>& markers) {
  const std::string text = record.text("instruction");
  if (!text.starts_with(markers[0])) {
    record.fail("the instruction does not begin with \"" + markers[0] + "\"");
  }
  std::vector<std::string> parts;
  size_t begin = markers[0].size();
  for (size_t i = 1; i < markers.size(); ++i) {
    const size_t end = text.find(markers[i], begin);
    const std::string& marker = markers[i];
    if (end == std::string::npos) {
      record.fail("the instruction has no \"" + std::string(stripped(marker)) +
                  "\" where one belongs");
    }
    parts.push_back(text.substr(begin, end - begin));
    if (stripped(parts.back()).empty()) {
      record.fail("the instruction has nothing before \"" + std::string(stripped(marker)) + "\"");
    }
    begin = end + marker.size();
  }
  return parts;
}

}  // namespace pare
