// Task files that a test writes, and errors as text.
#pragma once

#include <map>
#include <string>

#include "eval/tasks/task.h"
#include "tests/support/program.h"

namespace pare::testing {

/// Contents by name; names may have folders in them.
using Files = std::map<std::string, std::string>;

/// A folder with the given files.
class TaskFolder {
 public:
  explicit TaskFolder(const Files& files);
  std::string operator/(const std::string& name) const { return folder_ / name; }
  std::string path() const { return folder_.path().string(); }

 private:
  TempDir folder_;
};

/// What a Task shows a model: the prompt of an item for one of its choices.
std::string prompt_of(const Task& task, size_t group, size_t item, size_t choice = 0);

/// "CODE: MESSAGE" of the Error that reading throws, with the folder's path left out; "" if none.
std::string failure_of(const std::string& name, const TaskFolder& folder, const std::string& file,
                       const TaskOptions& options = {});

/// `count` rows of MMLU's form, questions "NAME 0", "NAME 1", …, answers A, B, C, D, A, …
std::string mmlu_rows(const std::string& name, size_t count);

}  // namespace pare::testing
