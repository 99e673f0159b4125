// A task of the user's own: JSON lines with question, choices, answer (index from 0, letter or text
// of the right choice) and optionally subject, by which questions are grouped and given examples.
// Examples are the lines of NAME_dev.jsonl beside NAME.jsonl, in the same form.
#include <algorithm>
#include <filesystem>
#include <map>

#include "eval/tasks/task_forms.h"
#include "pare/error.h"

namespace pare {
namespace {

struct Question {
  std::string subject;
  TaskItem item;
};

std::vector<Question> read_questions(TaskFiles& files, const std::string& path) {
  std::vector<Question> questions;
  for (const Record& record : parse_records(files.read(path), path)) {
    Question question;
    question.subject = record.has("subject") ? record.text("subject") : "";
    const std::vector<std::string> choices = record.texts("choices");
    question.item.question = "Question: " + record.text("question") + "\nAnswer:";
    question.item.choices = spaced_choices(choices);
    question.item.answer = record.answer("answer", choices);
    question.item.source = record.source();
    question.item.row = static_cast<int64_t>(questions.size());
    questions.push_back(std::move(question));
  }
  return questions;
}

std::vector<TaskGroup> read_groups(TaskFiles& files, int64_t shots) {
  if (files.is_folder()) {
    throw Error(ErrorCode::kUsage, files.root() + ": is a folder; name the .jsonl file in it");
  }
  const std::filesystem::path path(files.root());
  const std::string own_name = path.stem().string();
  std::vector<TaskGroup> groups;
  std::map<std::string, size_t> place;
  for (Question& question : read_questions(files, files.root())) {
    const std::string name = question.subject.empty() ? own_name : question.subject;
    const auto [entry, is_new] = place.try_emplace(name, groups.size());
    if (is_new) groups.push_back({name, "", "", {}, {}});
    groups[entry->second].items.push_back(std::move(question.item));
  }
  if (shots <= 0) return groups;
  const std::string dev = (path.parent_path() / (own_name + "_dev.jsonl")).string();
  if (!std::filesystem::exists(dev)) {
    malformed(files.root(), std::to_string(shots) +
                                " shots were asked for, but there is no file of examples " + dev);
  }
  std::map<std::string, std::vector<TaskItem>> taught;
  for (Question& question : read_questions(files, dev)) {
    taught[question.subject.empty() ? own_name : question.subject].push_back(
        std::move(question.item));
  }
  for (TaskGroup& group : groups) {
    group.examples = take_examples(taught[group.name], shots, dev + " (" + group.name + ")");
  }
  return groups;
}

}  // namespace

TaskForm custom_jsonl() {
  return {.name = "jsonl",
          .summary = "a task of your own; JSON lines with question, choices, answer, subject",
          .read_groups = read_groups};
}

}  // namespace pare
