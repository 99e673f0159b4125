// plan_buffers() against a walk through the operations that notes what each buffer holds.
#include "model/value_buffers.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "model/block_parameters.h"
#include "tests/model/every_model.h"

namespace pare {
namespace {

// Operations that read and write element by element, so that an input may be written over.
const std::set<OpKind> kInPlace = {OpKind::kNorm,       OpKind::kRotary, OpKind::kClamp,
                                   OpKind::kActivation, OpKind::kAdd,    OpKind::kGatedActivation};

void check_plan(const BlockGraph& block) {
  const BufferPlan plan = plan_buffers(block);
  ASSERT_EQ(plan.buffer.size(), block.widths.size());
  ASSERT_FALSE(plan.widths.empty());
  EXPECT_EQ(plan.widths[0], block.widths[0]);
  std::map<int, int> holds = {{0, 0}};  // value by buffer
  const auto buffer = [&](int value) { return plan.buffer[static_cast<size_t>(value)]; };
  for (const Op& op : block.ops) {
    SCOPED_TRACE(block.prefix + op.name + " makes value " + std::to_string(op.output));
    for (const int input : op.inputs) {
      if (input == block.memory) continue;
      EXPECT_EQ(holds.at(buffer(input)), input) << "what it reads was written over";
      if (buffer(input) == buffer(op.output)) {
        EXPECT_TRUE(kInPlace.contains(op.kind));
        EXPECT_EQ(block.width(input), block.width(op.output));
      }
    }
    ASSERT_GE(buffer(op.output), 0);
    ASSERT_LT(static_cast<size_t>(buffer(op.output)), plan.widths.size());
    EXPECT_GE(plan.widths[static_cast<size_t>(buffer(op.output))], block.width(op.output));
    // Linears and attention write whole tiles of rows, for which the caller's memory has no room.
    const bool tiles = op.kind == OpKind::kLinear || op.kind == OpKind::kAttention;
    EXPECT_FALSE(tiles && buffer(op.output) == 0);
    holds[buffer(op.output)] = op.output;
  }
  EXPECT_EQ(holds.at(buffer(block.output)), block.output) << block.prefix;
}

class ValueBuffers : public testing::EveryModel {};
INSTANTIATE_TEST_SUITE_P(Models, ValueBuffers, ::testing::ValuesIn(testing::model_configs()),
                         testing::name_of);

TEST_P(ValueBuffers, HoldWhatIsNeeded) {
  for_each_block(graph_, check_plan);
  check_plan(graph_.embedding.stem);
  check_plan(graph_.head.tail);
}

// What a block takes does not grow with the number of its operations.
TEST_P(ValueBuffers, AreShared) {
  for_each_block(graph_, [](const BlockGraph& block) {
    const auto buffers = static_cast<int64_t>(plan_buffers(block).widths.size());
    EXPECT_LE(buffers, 9) << block.prefix;
  });
}

}  // namespace
}  // namespace pare
