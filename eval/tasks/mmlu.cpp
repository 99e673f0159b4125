// MMLU (Hendrycks et al., Measuring Massive Multitask Language Understanding, 2021) in the form of
// its authors: dev/SUBJECT_dev.csv with the examples, test/SUBJECT_test.csv with the questions; six
// columns (question, four choices, letter), no header. Prompts and the four categories are those
// of the paper's code.
#include <algorithm>
#include <array>
#include <filesystem>
#include <set>

#include "eval/tasks/csv.h"
#include "eval/tasks/task_forms.h"

namespace pare {
namespace {

struct SubjectCategory {
  std::string_view category;
  std::string_view subjects;  ///< Each between blanks.
};

constexpr std::array<SubjectCategory, 4> kCategories{{
    {"STEM",
     " abstract_algebra astronomy college_biology college_chemistry college_computer_science "
     "college_mathematics college_physics computer_security conceptual_physics "
     "electrical_engineering elementary_mathematics high_school_biology high_school_chemistry "
     "high_school_computer_science high_school_mathematics high_school_physics "
     "high_school_statistics machine_learning "},
    {"humanities",
     " formal_logic high_school_european_history high_school_us_history high_school_world_history "
     "international_law jurisprudence logical_fallacies moral_disputes moral_scenarios philosophy "
     "prehistory professional_law world_religions "},
    {"social sciences",
     " econometrics high_school_geography high_school_government_and_politics "
     "high_school_macroeconomics high_school_microeconomics high_school_psychology "
     "human_sexuality professional_psychology public_relations security_studies sociology "
     "us_foreign_policy "},
    {"other",
     " anatomy business_ethics clinical_knowledge college_medicine global_facts human_aging "
     "management marketing medical_genetics miscellaneous nutrition professional_accounting "
     "professional_medicine virology "},
}};

// Empty for a subject that is not one of the 57.
std::string category_of(const std::string& subject) {
  for (const SubjectCategory& entry : kCategories) {
    if (entry.subjects.find(" " + subject + " ") != std::string_view::npos) {
      return std::string(entry.category);
    }
  }
  return "";
}

TaskItem read_row(const CsvRecord& record, const std::string& source, int64_t row) {
  if (record.fields.size() != 6) {
    malformed(source, std::to_string(record.fields.size()) +
                          " columns; expected 6: the question, four choices and the letter");
  }
  TaskItem item;
  item.source = source;
  item.row = row;
  const std::string_view question = stripped(record.fields[0]);
  if (question.empty()) malformed(source, "the question is empty");
  item.question = question;
  for (size_t i = 0; i < 4; ++i) {
    const std::string& choice = record.fields[i + 1];
    const std::string letter(1, static_cast<char>('A' + i));
    if (stripped(choice).empty()) malformed(source, "choice " + letter + " is empty");
    item.question += "\n" + letter + ". " + choice;
    item.choices.push_back({"", " " + letter});
  }
  item.question += "\nAnswer:";
  const std::string& answer = record.fields[5];
  if (answer.size() != 1 || answer[0] < 'A' || answer[0] > 'D') {
    malformed(source, "the answer is \"" + answer.substr(0, 40) + "\"; expected A, B, C or D");
  }
  item.answer = answer[0] - 'A';
  return item;
}

std::vector<TaskItem> read_items(TaskFiles& files, const std::string& path) {
  std::vector<TaskItem> items;
  for (const CsvRecord& record : parse_csv(files.read(path), path)) {
    items.push_back(
        read_row(record, at_line(path, record.line), static_cast<int64_t>(items.size())));
  }
  return items;
}

// Subjects of the files SUBJECT + `ending` in `folder`, sorted.
std::set<std::string> subjects_in(const std::string& folder, const std::string& ending) {
  std::set<std::string> subjects;
  for (const std::string& name : files_in(folder)) {
    if (!name.ends_with(".csv")) continue;
    const std::string subject =
        name.ends_with(ending) ? name.substr(0, name.size() - ending.size()) : "";
    const bool is_plain = std::all_of(subject.begin(), subject.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
    });
    if (subject.empty() || !is_plain) {
      malformed((std::filesystem::path(folder) / name).string(),
                "not named SUBJECT" + ending +
                    " in lower case; rename or remove it, a copy of a "
                    "file would count twice");
    }
    subjects.insert(subject);
  }
  return subjects;
}

std::vector<TaskGroup> read_subjects(TaskFiles& files, int64_t shots) {
  const std::filesystem::path root(files.root());
  const std::string dev = (root / "dev").string();
  const std::string test = (root / "test").string();
  if (!std::filesystem::is_directory(test)) {
    malformed(files.root(),
              "no folder of MMLU: expected test/SUBJECT_test.csv (and "
              "dev/SUBJECT_dev.csv for the examples) in it");
  }
  const std::set<std::string> subjects = subjects_in(test, "_test.csv");
  if (subjects.empty()) malformed(test, "holds no SUBJECT_test.csv");
  const std::set<std::string> taught =
      std::filesystem::is_directory(dev) ? subjects_in(dev, "_dev.csv") : std::set<std::string>();
  for (const std::string& subject : taught) {
    // A folder that lost a file would give an accuracy over fewer subjects, unnoticed.
    if (!subjects.contains(subject)) {
      malformed(test, "has no " + subject + "_test.csv, but dev/ has its examples");
    }
  }
  std::vector<TaskGroup> groups;
  for (const std::string& subject : subjects) {
    TaskGroup group{subject, category_of(subject), "", {}, {}};
    std::string spoken = subject;
    std::replace(spoken.begin(), spoken.end(), '_', ' ');
    group.header =
        "The following are multiple choice questions (with answers) about " + spoken + ".\n\n";
    if (shots > 0) {
      const std::string path = (std::filesystem::path(dev) / (subject + "_dev.csv")).string();
      if (!taught.contains(subject)) {
        malformed(path, "is not there, but " + std::to_string(shots) +
                            " shots were asked for; add it, or ask for 0 shots");
      }
      group.examples = take_examples(read_items(files, path), shots, path);
    }
    group.items =
        read_items(files, (std::filesystem::path(test) / (subject + "_test.csv")).string());
    groups.push_back(std::move(group));
  }
  return groups;
}

}  // namespace

TaskForm mmlu() {
  return {.name = "mmlu",
          .summary = "MMLU, 57 subjects, 5-shot; a folder with dev/ and test/ in CSV",
          .shots = 5,
          .read_groups = read_subjects};
}

}  // namespace pare
