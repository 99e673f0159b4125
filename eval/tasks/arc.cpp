// ARC (Clark et al., 2018), easy and challenge: science questions with three to five choices. JSON
// lines with question.stem and question.choices, or question and choices.text and .label, both with
// answerKey; or an array of records with instruction and answer. The choices are not shown.
#include "eval/tasks/task_forms.h"

namespace pare {
namespace {

struct Parts {
  std::string question;
  std::vector<std::string> choices;
  int64_t answer = 0;
};

// "… question: Q\n\nAnswer1: … Answer2: …\n\nAnswer format: answer1/answer2".
Parts from_instruction(const Record& record) {
  const std::string text = record.text("instruction");
  const std::string_view format_marker = "\n\nAnswer format: ";
  const size_t format = text.rfind(format_marker);
  if (format == std::string::npos) record.fail("the instruction has no \"Answer format:\"");
  std::vector<std::string> names{"answer1"};
  std::string names_text = "answer1";
  const std::string_view given =
      stripped(std::string_view(text).substr(format + format_marker.size()));
  while (names_text.size() < given.size()) {
    names.push_back("answer" + std::to_string(names.size() + 1));
    names_text += "/" + names.back();
  }
  if (names_text != given || names.size() < 2) {
    record.fail("the answer format is not answer1/answer2/…");
  }
  std::vector<std::string> markers{"Please choose the correct answer to the question: ",
                                   "\n\nAnswer1: "};
  for (size_t i = 2; i <= names.size(); ++i) {
    markers.push_back(" Answer" + std::to_string(i) + ": ");
  }
  markers.emplace_back(format_marker);
  std::vector<std::string> found = split_instruction(record, markers);
  Parts parts{found[0], {found.begin() + 1, found.end()}, 0};
  parts.answer = record.answer("answer", parts.choices, names);
  return parts;
}

Parts from_stem(const Record& record) {
  const Record question = record.object("question");
  Parts parts{question.text("stem"), {}, 0};
  std::vector<std::string> labels;
  for (const Record& choice : question.objects("choices")) {
    parts.choices.push_back(choice.text("text"));
    labels.push_back(choice.text("label"));
  }
  parts.answer = record.answer("answerKey", parts.choices, labels);
  return parts;
}

Parts from_columns(const Record& record) {
  const Record choices = record.object("choices");
  Parts parts{record.text("question"), choices.texts("text"), 0};
  const std::vector<std::string> labels = choices.texts("label");
  if (labels.size() != parts.choices.size()) {
    record.fail(std::to_string(labels.size()) + " labels for " +
                std::to_string(parts.choices.size()) + " choices");
  }
  parts.answer = record.answer("answerKey", parts.choices, labels);
  return parts;
}

TaskItem from_record(const Record& record) {
  const Parts parts = record.has("instruction")      ? from_instruction(record)
                      : record.is_object("question") ? from_stem(record)
                                                     : from_columns(record);
  TaskItem item;
  item.question = "Question: " + parts.question + "\nAnswer:";
  item.choices = spaced_choices(parts.choices);
  item.answer = parts.answer;
  return item;
}

std::vector<TaskItem> read_items(TaskFiles& files, const std::string& path) {
  return read_each(files, path, from_record);
}

}  // namespace

TaskForm arc_easy() {
  return {.name = "arc_easy",
          .summary = "ARC-Easy, science questions; JSON lines, or an array of instructions",
          .read_items = read_items,
          .hint = "easy",
          .splits = {"test", "val", "dev"}};
}

TaskForm arc_challenge() {
  return {.name = "arc_challenge",
          .summary = "ARC-Challenge, science questions; JSON lines, or an array of instructions",
          .read_items = read_items,
          .hint = "challenge",
          .splits = {"test", "val", "dev"}};
}

}  // namespace pare
