#include "tests/eval_tasks/task_fixture.h"

#include <filesystem>

#include "pare/error.h"

namespace pare::testing {

TaskFolder::TaskFolder(const Files& files) {
  for (const auto& [name, content] : files) {
    std::filesystem::create_directories(std::filesystem::path(folder_ / name).parent_path());
    write_file(folder_ / name, content);
  }
}

std::string prompt_of(const Task& task, size_t group, size_t item, size_t choice) {
  const TaskGroup& of = task.groups.at(group);
  std::string prompt = of.header;
  for (const std::string& example : of.examples) prompt += example;
  return prompt + of.items.at(item).question + of.items.at(item).choices.at(choice).prefix;
}

std::string failure_of(const std::string& name, const TaskFolder& folder, const std::string& file,
                       const TaskOptions& options) {
  try {
    read_task(name, file.empty() ? folder.path() : folder / file, options);
  } catch (const Error& error) {
    std::string message = std::string(error_code_name(error.code())) + ": " + error.what();
    const std::string prefix = folder.path();
    for (size_t at = 0; (at = message.find(prefix)) != std::string::npos;) {
      message.erase(at, prefix.size() + (message[at + prefix.size()] == '/' ? 1 : 0));
    }
    return message;
  }
  return "";
}

std::string mmlu_rows(const std::string& name, size_t count) {
  std::string rows;
  for (size_t i = 0; i < count; ++i) {
    rows += name + " " + std::to_string(i) + ",w,x,y,z," + std::string(1, "ABCD"[i % 4]) + "\n";
  }
  return rows;
}

}  // namespace pare::testing
