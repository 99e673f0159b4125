// HellaSwag (Zellers et al., 2019): which of four endings goes on. Either JSON lines with
// activity_label, ctx_a and ctx_b (or ctx), endings, label; or the text form, six lines a question:
// context, number of the right ending, four endings. Texts are prepared as lm-evaluation-harness
// does, which also capitalizes ctx_b; in the text form that is lost.
#include <algorithm>

#include "eval/tasks/task_forms.h"
#include "tokenizer/unicode.h"

namespace pare {
namespace {

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  size_t at = 0;
  while ((at = text.find(from, at)) != std::string::npos) {
    text.replace(at, from.size(), to);
    at += to.size();
  }
}

// WikiHow's marks, such as [header], are no language.
std::string without_marks(std::string_view raw) {
  std::string text(stripped(raw));
  replace_all(text, " [title]", ". ");
  std::string kept;
  for (size_t at = 0; at < text.size();) {
    const size_t close = text[at] == '[' ? text.find(']', at) : std::string::npos;
    // A mark ends on its line.
    if (close != std::string::npos && text.find('\n', at) > close) {
      at = close + 1;
    } else {
      kept += text[at++];
    }
  }
  replace_all(kept, "  ", " ");
  return kept;
}

// The first letter in upper case, the others in lower case.
std::string capitalized(const std::string& text) {
  std::string result = lowercase(text);
  if (!result.empty() && result[0] >= 'a' && result[0] <= 'z') {
    result[0] = static_cast<char>(result[0] - 'a' + 'A');
  }
  return result;
}

std::vector<Choice> endings(const std::vector<std::string>& raw, const std::string& source) {
  std::vector<std::string> texts;
  for (const std::string& ending : raw) {
    texts.push_back(without_marks(ending));
    if (stripped(texts.back()).empty()) {
      malformed(source, "ending " + std::to_string(texts.size()) + " is empty");
    }
  }
  return spaced_choices(texts);
}

TaskItem from_record(const Record& record) {
  TaskItem item;
  std::string context = record.has("ctx_a") ? record.text_or_empty("ctx_a") + " " +
                                                  capitalized(record.text_or_empty("ctx_b"))
                                            : record.text("ctx");
  if (record.has("activity_label")) context.insert(0, record.text("activity_label") + ": ");
  item.question = without_marks(context);
  const std::vector<std::string> raw = record.texts("endings");
  if (raw.size() != 4) record.fail(std::to_string(raw.size()) + " endings; expected 4");
  item.choices = endings(raw, record.source());
  item.answer = record.index("label", 4);
  return item;
}

std::vector<TaskItem> from_text(const std::string& text, const std::string& path) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.emplace_back(stripped(std::string_view(text).substr(at, end - at)));
    at = end + 1;
  }
  while (lines.back().empty()) lines.pop_back();
  std::vector<TaskItem> items;
  for (size_t first = 0; first < lines.size(); first += 6) {
    TaskItem item;
    item.source = at_line(path, static_cast<int64_t>(first) + 1);
    item.row = static_cast<int64_t>(items.size());
    if (lines.size() - first < 6) {
      malformed(item.source,
                "the file ends within a question; expected six lines: context, number "
                "of the right ending, four endings");
    }
    item.question = without_marks(lines[first]);
    if (item.question.empty()) malformed(item.source, "the context is empty");
    const std::string answer_source = at_line(path, static_cast<int64_t>(first) + 2);
    item.answer = parse_index(lines[first + 1], 4);
    if (item.answer < 0) {
      malformed(answer_source, quoted_text(lines[first + 1]) +
                                   "; expected the number of the right ending, 0 to 3");
    }
    item.choices = endings({lines[first + 2], lines[first + 3], lines[first + 4], lines[first + 5]},
                           item.source);
    items.push_back(std::move(item));
  }
  return items;
}

std::vector<TaskItem> read_items(TaskFiles& files, const std::string& path) {
  if (path.ends_with(".txt")) return from_text(files.read(path), path);
  return read_each(files, path, from_record);
}

}  // namespace

TaskForm hellaswag() {
  return {.name = "hellaswag",
          .summary = "HellaSwag, endings normalized by length; text of six lines, or JSON lines",
          .scoring = ChoiceScoring::kPerCharacter,
          .read_items = read_items,
          .splits = {"val"}};
}

}  // namespace pare
