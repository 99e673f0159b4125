// A limited task: the same share of each group, spread evenly, always the same questions.
#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <set>

#include "pare/error.h"
#include "tests/eval_tasks/task_fixture.h"

namespace pare {
namespace {

using testing::failure_of;
using ::testing::HasSubstr;
using testing::mmlu_rows;
using testing::TaskFolder;

const std::vector<size_t> kSizes{100, 37, 3, 260, 1};

TaskFolder uneven_folder() {
  std::map<std::string, std::string> files;
  for (size_t i = 0; i < kSizes.size(); ++i) {
    const std::string subject(1, static_cast<char>('a' + i));
    files["test/" + subject + "_test.csv"] = mmlu_rows(subject, kSizes[i]);
  }
  return TaskFolder(files);
}

std::vector<std::string> sources(const Task& task) {
  std::vector<std::string> all;
  for (const TaskGroup& group : task.groups) {
    for (const TaskItem& item : group.items) all.push_back(item.source);
  }
  return all;
}

TEST(Limit, ExactCountSameShareOfEachGroupInOrderAndSpread) {
  const TaskFolder folder = uneven_folder();
  for (int64_t limit = 1; limit <= 401; limit += limit < 20 ? 1 : 17) {
    SCOPED_TRACE(limit);
    const Task task =
        read_task("mmlu", folder.path(), {.shots = 0, .limit = static_cast<double>(limit)});
    ASSERT_EQ(task.item_count(), limit);
    for (const TaskGroup& group : task.groups) {
      const auto size = static_cast<double>(kSizes[static_cast<size_t>(group.name[0] - 'a')]);
      const auto kept = static_cast<double>(group.items.size());
      ASSERT_GT(kept, 0);
      EXPECT_LT(std::abs(kept - size * static_cast<double>(limit) / 401), 1) << group.name;
      int64_t last = -1;
      for (size_t i = 0; i < group.items.size(); ++i) {
        const int64_t row = group.items[i].row;
        EXPECT_GT(row, last);
        last = row;
        // Each lies in its own one of `kept` equal parts.
        EXPECT_GE(static_cast<double>(row + 1), static_cast<double>(i) * size / kept);
        EXPECT_LE(static_cast<double>(row), static_cast<double>(i + 1) * size / kept);
        EXPECT_EQ(group.items[i].question.substr(0, 1), group.name);
        EXPECT_THAT(group.items[i].source, ::testing::EndsWith(":" + std::to_string(row + 1)));
        EXPECT_EQ(group.items[i].answer, row % 4);
      }
    }
  }
}

TEST(Limit, DeterministicAndTheFilesDigestStays) {
  const TaskFolder folder = uneven_folder();
  const Task once = read_task("mmlu", folder.path(), {.shots = 0, .limit = 50});
  const Task again = read_task("mmlu", folder.path(), {.shots = 0, .limit = 50});
  EXPECT_EQ(sources(once), sources(again));
  EXPECT_EQ(once.sha256, read_task("mmlu", folder.path(), {.shots = 0}).sha256);
}

TEST(Limit, ShareIsOfAll) {
  const TaskFolder folder = uneven_folder();
  EXPECT_EQ(read_task("mmlu", folder.path(), {.shots = 0, .limit = 0.25}).item_count(), 100);
  EXPECT_EQ(read_task("mmlu", folder.path(), {.shots = 0, .limit = 1e-9}).item_count(), 1);
  EXPECT_EQ(sources(read_task("mmlu", folder.path(), {.shots = 0, .limit = 0.25})),
            sources(read_task("mmlu", folder.path(), {.shots = 0, .limit = 100})));
}

TEST(Limit, AsManyAsThereAreOrMoreIsAll) {
  const TaskFolder folder = uneven_folder();
  const std::vector<std::string> all = sources(read_task("mmlu", folder.path(), {.shots = 0}));
  ASSERT_EQ(all.size(), 401u);
  EXPECT_EQ(std::set<std::string>(all.begin(), all.end()).size(), 401u);
  for (const double limit : {401.0, 402.0, 1e300, std::numeric_limits<double>::infinity()}) {
    EXPECT_EQ(sources(read_task("mmlu", folder.path(), {.shots = 0, .limit = limit})), all);
  }
}

TEST(Limit, NonsenseIsRefused) {
  const TaskFolder folder = uneven_folder();
  for (const double limit : {-1.0, -0.1, 1.5, std::nan("")}) {
    EXPECT_THAT(failure_of("mmlu", folder, "", {.shots = 0, .limit = limit}),
                HasSubstr("usage: limit"));
  }
}

}  // namespace
}  // namespace pare
