// reorderable_inputs() promises that channels can trade places without anybody noticing.
#include "model/channel_order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "model/block_parameters.h"
#include "tests/model/every_model.h"

namespace pare {
namespace {

using ::testing::ElementsAre;
using testing::graph_of;
using testing::kModelSeed;
using testing::MemorySource;
using testing::relative_error;

// Rows, then columns, of a matrix [out, in], whichever way it is stored.
void reorder(MemorySource& source, const BlockGraph& block, const Op& op,
             const std::vector<int32_t>& rows, const std::vector<int32_t>& columns) {
  std::vector<float>& values = source.values(block.full_name(op) + ".weight");
  const std::vector<float> old = values;
  const auto out = static_cast<size_t>(block.out_features(op));
  const auto in = static_cast<size_t>(block.in_features(op));
  const auto at = [&](size_t row, size_t column) {
    return op.linear.transposed ? column * out + row : row * in + column;
  };
  for (size_t row = 0; row < out; ++row) {
    for (size_t column = 0; column < in; ++column) {
      const size_t from_row = rows.empty() ? row : static_cast<size_t>(rows[row]);
      const size_t from_column = columns.empty() ? column : static_cast<size_t>(columns[column]);
      values[at(row, column)] = old[at(from_row, from_column)];
    }
  }
}

void reorder_vector(MemorySource& source, const std::string& name,
                    const std::vector<int32_t>& rows) {
  std::vector<float>& values = source.values(name);
  const std::vector<float> old = values;
  for (size_t i = 0; i < values.size(); ++i) values[i] = old[static_cast<size_t>(rows[i])];
}

class ChannelOrder : public testing::EveryModel {
 protected:
  std::vector<float> logits(const MemorySource& source) const {
    std::vector<float> all;
    for (const auto& one : testing::run_sequences(graph_, source, sequences_, Precision::kF32)) {
      all.insert(all.end(), one.begin(), one.end());
    }
    return all;
  }

  void check(const BlockGraph& block, const ReorderableInput& input) {
    std::vector<int32_t> units(static_cast<size_t>(input.pools() * input.pool_size));
    std::iota(units.begin(), units.end(), 0);
    for (auto first = units.begin(); first != units.end(); first += input.pool_size) {
      std::shuffle(first, first + input.pool_size, random_);
    }
    const std::vector<int32_t> order = channel_order(input, units);
    MemorySource changed = source_;
    std::string names;
    for (const ChannelSource& made : input.sources) {
      const Op& op = block.ops[made.op];
      const std::vector<int32_t> rows = row_order(made, block.width(op.output), order);
      names += " " + op.name;
      if (op.kind == OpKind::kLinear) {
        reorder(changed, block, op, rows, {});
        if (op.linear.bias) reorder_vector(changed, block.full_name(op) + ".bias", rows);
        continue;
      }
      if (op.norm.weight) reorder_vector(changed, block.full_name(op) + ".weight", rows);
      if (op.norm.bias) reorder_vector(changed, block.full_name(op) + ".bias", rows);
    }
    SCOPED_TRACE(block.prefix + ":" + names + ", seed " + std::to_string(kModelSeed));
    EXPECT_GT(relative_error(logits(changed), expected_), 1e-4) << "without effect";
    for (const size_t index : input.linears) {
      reorder(changed, block, block.ops[index], {}, order);
    }
    EXPECT_LT(relative_error(logits(changed), expected_), 1e-5);
    ++reordered_;
  }

  const std::vector<testing::Sequence> sequences_ =
      testing::random_sequences(graph_, {23, 9}, kModelSeed);
  const std::vector<float> expected_ = logits(source_);
  std::mt19937 random_{kModelSeed};
  int reordered_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Models, ChannelOrder, ::testing::ValuesIn(testing::model_configs()),
                         testing::name_of);

TEST_P(ChannelOrder, LeavesTheLogits) {
  for_each_block(graph_, [&](const BlockGraph& block) {
    for (const ReorderableInput& input : reorderable_inputs(block)) check(block, input);
  });
  RecordProperty("reordered", reordered_);
  // Mamba's blocks have nothing but convolutions and scans between their linears.
  const bool mamba = GetParam().name.find("Mamba") != std::string::npos;
  EXPECT_EQ(reordered_ > 0, !mamba);
}

// "readers < sources" of a block.
std::vector<std::string> inputs_of(const BlockGraph& block) {
  std::vector<std::string> all;
  for (const ReorderableInput& input : reorderable_inputs(block)) {
    std::string text;
    for (const size_t index : input.linears) text += block.ops[index].name + " ";
    text += "<";
    for (const ChannelSource& source : input.sources) text += " " + block.ops[source.op].name;
    all.push_back(text);
  }
  return all;
}

BlockGraph block_of(const std::string& config) {
  return graph_of(nlohmann::json::parse(testing::model_config(config).json)).blocks[0];
}

TEST(ChannelOrderOf, ALlama) {
  EXPECT_THAT(inputs_of(graph_of(testing::small_llama_config()).blocks[1]),
              ElementsAre("self_attn.o_proj < self_attn.v_proj",
                          "mlp.down_proj < mlp.gate_proj mlp.up_proj"));
}

TEST(ChannelOrderOf, OtherWirings) {
  // Both halves of a fused projection follow; what is clipped goes along.
  EXPECT_THAT(inputs_of(block_of("Phi")),
              ElementsAre("mlp.down_proj < mlp.gate_up_proj mlp.gate_up_proj"));
  EXPECT_THAT(inputs_of(block_of("MptClipped")),
              ElementsAre("attn.out_proj < attn.Wqkv", "ffn.down_proj < ffn.up_proj"));
}

TEST(ChannelOrderOf, HeadsUnderGroupedQueries) {
  nlohmann::json config = testing::small_llama_config();
  config["num_attention_heads"] = 4;
  config["num_key_value_heads"] = 2;
  config["head_dim"] = 4;
  const ReorderableInput input = reorderable_inputs(graph_of(config).blocks[0])[0];
  EXPECT_EQ(input.pool_size, 4);
  EXPECT_EQ(input.copies, 2);
  EXPECT_EQ(input.pools(), 2);
  EXPECT_THAT(input.begin, ElementsAre(0, 4, 8, 12));
  const std::vector<int32_t> order = channel_order(input, {2, 1, 0, 3, 4, 5, 7, 6});
  EXPECT_THAT(order, ElementsAre(2, 1, 0, 3, 6, 5, 4, 7, 8, 9, 11, 10, 12, 13, 15, 14));
  EXPECT_THAT(row_order(input.sources[0], 8, order), ElementsAre(2, 1, 0, 3, 4, 5, 7, 6));
}

// A head whose width 4 does not divide has blocks of four in common with its neighbour.
TEST(ChannelOrderOf, NoHeadsThatBlocksStraddle) {
  nlohmann::json config = testing::small_llama_config();
  config["num_attention_heads"] = 4;
  config["num_key_value_heads"] = 2;
  config["head_dim"] = 6;
  EXPECT_THAT(inputs_of(graph_of(config).blocks[0]),
              ElementsAre("mlp.down_proj < mlp.gate_proj mlp.up_proj"));
  config["intermediate_size"] = 70;
  EXPECT_TRUE(inputs_of(graph_of(config).blocks[0]).empty());
}

// Somebody else who looks at the channels would see them in another order.
TEST(ChannelOrderOf, NothingThatOthersRead) {
  const BlockGraph plain = graph_of(testing::small_llama_config()).blocks[0];
  for (const char* name : {"self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"}) {
    BlockGraph block = plain;
    const auto op = std::find_if(block.ops.begin(), block.ops.end(),
                                 [&](const Op& one) { return one.name == name; });
    const int value = op->output;
    block.widths.push_back(block.width(value));
    block.ops.push_back({.kind = OpKind::kAdd,
                         .name = {},
                         .inputs = {value, value},
                         .output = static_cast<int>(block.widths.size()) - 1});
    EXPECT_EQ(reorderable_inputs(block).size(), 1U) << name;
  }
  // Values that are keys as well.
  BlockGraph block = plain;
  for (Op& op : block.ops) {
    if (op.kind == OpKind::kAttention) op.inputs[1] = op.inputs[2];
  }
  EXPECT_EQ(reorderable_inputs(block).size(), 1U);
}

}  // namespace
}  // namespace pare
