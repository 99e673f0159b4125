// What a task of multiple choice asks, as text: independent of models and tokenizers.
//
// A group is what shares instructions and examples, such as a subject of MMLU. A prompt is
//
//   header + examples[0] + … + examples[shots − 1] + question + choice.prefix
//
// and each choice is scored by the log-likelihood of its continuation after that prompt.
//
//   Task task = read_task("mmlu", "data/mmlu", {.shots = 5});
//   for (const TaskGroup& group : task.groups) …
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace pare {

/// How the choice is made from the log-likelihoods.
enum class ChoiceScoring : uint8_t {
  kSum,           ///< Largest sum of log-probabilities ("acc").
  kPerCharacter,  ///< Largest sum over the continuation's characters, a leading space not counted
                  ///< ("acc_norm").
  kGreedy,  ///< Right when each token of the only continuation is the most likely one (LAMBADA).
};

struct Choice {
  std::string prefix;  ///< Belongs to the context; usually empty (WinoGrande's option is not).
  std::string continuation;  ///< What is scored, for example " A" or " is ripping level tiles off."
};

struct TaskItem {
  std::string question;
  std::vector<Choice> choices;
  int64_t answer = 0;  ///< Index into choices.
  std::string source;  ///< "FILE:LINE" for messages.
  int64_t row = 0;     ///< Number of the question in its file, from 0.
};

struct TaskGroup {
  std::string name;      ///< Subject; the task's name where the set has no subjects.
  std::string category;  ///< MMLU: STEM, humanities, social sciences, other; else empty.
  std::string header;
  std::vector<std::string> examples;  ///< At most as many as shots were asked for.
  std::vector<TaskItem> items;
};

struct Task {
  std::string name;
  ChoiceScoring scoring = ChoiceScoring::kSum;
  std::vector<TaskGroup> groups;
  /// Of the one file that was read; of several, over the lines "DIGEST  NAME" that sha256sum prints
  /// for them, in order of their names.
  std::string sha256;

  int64_t item_count() const {
    int64_t count = 0;
    for (const TaskGroup& group : groups) count += static_cast<int64_t>(group.items.size());
    return count;
  }
};

struct TaskOptions {
  int64_t shots = -1;  ///< Examples before each question; negative: the task's usual number.
  double limit = 0;    ///< Questions of the whole task: a count, or a share when below 1; 0: all.
};

/// Names and one line about each built-in task.
std::vector<std::pair<std::string, std::string>> task_table();

/// Reads a built-in task from the file or folder `path`, which must hold only one file that fits,
/// or with the name "jsonl" (or a path that ends in .jsonl as `name`) a custom one. A limited task
/// takes the same share of each group, evenly spread over its questions, always the same ones.
/// Throws Error(kUsage) for an unknown name, Error(kInputMissing), Error(kInputMalformed) with file
/// and line for what does not fit: a question without choices, an answer that is none of them, a
/// subject without examples when shots are asked for, no question at all.
Task read_task(const std::string& name, const std::string& path, const TaskOptions& options);

}  // namespace pare
