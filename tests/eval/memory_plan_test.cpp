// Memory follows from the largest layer and the windows, not from the depth, and a limit is kept or
// refused with the number that would do.
#include "eval/memory_plan.h"

#include "pare/error.h"
#include "tests/eval/eval_fixture.h"
#include "tests/support/tiny_model.h"

namespace pare::testing {
namespace {

class MemoryPlanTest : public EvalTest {
 protected:
  static std::vector<EvaluatedModel> open(const std::vector<std::string>& paths) {
    std::vector<EvaluatedModel> models;
    for (const std::string& path : paths) models.push_back(open_model(path));
    return models;
  }
  static MemoryPlan plan(const std::vector<EvaluatedModel>& models, int64_t max_memory,
                         int64_t windows = 100) {
    return plan_memory(models, shared_heads(models), Precision::kBf16,
                       {.windows = windows, .length = 32, .threads = 2, .text_tokens = 3200},
                       max_memory);
  }
};

TEST_F(MemoryPlanTest, LogitsStayInAFewMegabytes) {
  EXPECT_EQ(logit_rows(100), 256);
  EXPECT_EQ(logit_rows(4096), 256);
  EXPECT_EQ(logit_rows(8192), 128);
  EXPECT_EQ(logit_rows(32000), 32);
  EXPECT_EQ(logit_rows(262144), 16);
}

TEST_F(MemoryPlanTest, EqualHeadsAreShared) {
  const std::string a = make_model("a", 1);
  const std::string b = make_model("b", 2);
  const std::string c = make_model("c", 1);
  poke_tensor(c + "/model-00001-of-00002.safetensors", "model.embed_tokens.weight", 0x3f80);
  EXPECT_EQ(shared_heads(open({a, b, c, b})), (std::vector<size_t>{0, 1, 0, 1}));
  poke_tensor(c + "/model-00002-of-00002.safetensors", "lm_head.weight", 0x3f80);
  EXPECT_EQ(shared_heads(open({a, b, c, b})), (std::vector<size_t>{0, 1, 2, 1}));
}

TEST_F(MemoryPlanTest, DoesNotGrowWithDepth) {
  const std::string deep = make_model("deep", 1);
  const std::string shallow = make_model("shallow", 1);
  edit_file(shallow + "/config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
  const MemoryPlan two = plan(open({deep}), 0);
  const MemoryPlan one = plan(open({shallow}), 0);
  EXPECT_EQ(two.fixed_bytes, one.fixed_bytes);
  EXPECT_EQ(two.window_bytes, one.window_bytes);
}

TEST_F(MemoryPlanTest, TakesAllWindowsWithoutALimit) {
  const MemoryPlan found = plan(open({make_model("a", 1)}), 0);
  EXPECT_EQ(found.windows_per_pass, 100);
  EXPECT_EQ(found.passes(), 1);
  EXPECT_EQ(found.window_bytes, 32 * 64 * 4);
}

TEST_F(MemoryPlanTest, ALimitIsKeptByMorePasses) {
  const auto models = open({make_model("a", 1), make_model("b", 2)});
  const MemoryPlan all = plan(models, 0);
  const int64_t limit = all.fixed_bytes + 7 * all.window_bytes + 1;
  const MemoryPlan found = plan(models, limit);
  EXPECT_EQ(found.windows_per_pass, 7);
  EXPECT_EQ(found.passes(), 15);
  EXPECT_LE(found.fixed_bytes + found.windows_per_pass * found.window_bytes, limit);
}

TEST_F(MemoryPlanTest, TheNumberInTheMessageWouldDo) {
  const auto models = open({make_model("a", 1)});
  const MemoryPlan all = plan(models, 0);
  const int64_t enough = all.fixed_bytes + 2 * all.window_bytes;  // a window a thread
  EXPECT_EQ(plan(models, enough).windows_per_pass, 2);
  try {
    plan(models, enough - 1);
    FAIL() << "a limit that is too small was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kLimitExceeded);
    EXPECT_THAT(error.what(), ::testing::HasSubstr(std::to_string(enough)));
  }
  // A single window needs no second thread's share.
  EXPECT_EQ(plan(models, enough, 1).windows_per_pass, 1);
}

}  // namespace
}  // namespace pare::testing
