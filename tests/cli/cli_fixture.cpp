#include "tests/cli/cli_fixture.h"

#include <gmock/gmock.h>

#include <sstream>

namespace pare::testing {

std::vector<std::string> error_lines(const std::string& err) {
  std::vector<std::string> lines;
  std::istringstream stream(err);
  for (std::string line; std::getline(stream, line);) {
    if (line.find(": error: ") != std::string::npos) lines.push_back(line);
  }
  return lines;
}

void TinyModel::expect_failure(const Arguments& arguments, int status,
                               const std::vector<std::string>& words,
                               const RunOptions& options) const {
  const auto before = list_folder(dir_.path());
  const Finished run = run_program(kQuantize, arguments, options);
  EXPECT_EQ(run.status, status) << run.err;
  EXPECT_EQ(run.out, "");
  const auto lines = error_lines(run.err);
  ASSERT_EQ(lines.size(), 1U) << run.err;
  EXPECT_TRUE(run.err.ends_with(lines[0] + "\n")) << run.err;
  for (const std::string& word : words) EXPECT_THAT(lines[0], ::testing::HasSubstr(word));
  EXPECT_EQ(list_folder(dir_.path()), before);
}

nlohmann::json without_timings(nlohmann::json value) {
  if (value.is_object()) {
    for (const char* key :
         {"seconds", "phase_seconds", "timings", "peak_rss_bytes", "planned_memory_bytes"}) {
      value.erase(key);
    }
  }
  if (value.is_structured()) {
    for (auto& item : value) item = without_timings(item);
  }
  return value;
}

}  // namespace pare::testing
