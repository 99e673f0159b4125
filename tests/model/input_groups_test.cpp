#include "model/input_groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/model_configs.h"
#include "tests/support/random_model.h"

namespace pare {
namespace {

using ::testing::ElementsAre;
using testing::graph_of;
using testing::small_llama_config;

BlockGraph llama_block() { return graph_of(small_llama_config()).blocks[1]; }

// Somebody else reads the value too.
void read_also(BlockGraph& block, int value) {
  block.widths.push_back(block.width(value));
  block.ops.push_back({.kind = OpKind::kAdd,
                       .name = {},
                       .inputs = {value, value},
                       .output = static_cast<int>(block.widths.size()) - 1});
}

TEST(InputGroups, OfALlamaInTheOrderOfTheForwardPass) {
  const BlockGraph block = llama_block();
  const auto groups = input_groups(block);
  ASSERT_EQ(groups.size(), 4U);
  EXPECT_EQ(groups[0].describe(block), "self_attn.q_proj, self_attn.k_proj, self_attn.v_proj");
  EXPECT_EQ(groups[1].describe(block), "self_attn.o_proj");
  EXPECT_EQ(groups[2].describe(block), "mlp.gate_proj, mlp.up_proj");
  EXPECT_EQ(groups[3].describe(block), "mlp.down_proj");
  const auto producer = [&](size_t i) { return block.ops[groups[i].producer_op].name; };
  EXPECT_EQ(groups[0].producer, Producer::kNorm);
  EXPECT_EQ(producer(0), "input_layernorm");
  EXPECT_EQ(groups[1].producer, Producer::kLinear);
  EXPECT_EQ(producer(1), "self_attn.v_proj");
  EXPECT_EQ(groups[2].producer, Producer::kNorm);
  EXPECT_EQ(producer(2), "post_attention_layernorm");
  EXPECT_EQ(groups[3].producer, Producer::kLinear);
  EXPECT_EQ(producer(3), "mlp.up_proj");
  EXPECT_EQ(groups[0].in_features, 48);
  EXPECT_EQ(groups[3].in_features, 72);
}

TEST(InputGroups, RowsOfValuesUnderGroupedQueries) {
  nlohmann::json config = small_llama_config();
  config["num_attention_heads"] = 4;
  config["num_key_value_heads"] = 2;
  config["head_dim"] = 2;
  const auto groups = input_groups(graph_of(config).blocks[0]);
  // Heads 0 and 1 read values 0 and 1; heads 2 and 3 read values 2 and 3.
  EXPECT_THAT(groups[1].producer_row, ElementsAre(0, 1, 0, 1, 2, 3, 2, 3));
  EXPECT_TRUE(groups[0].producer_row.empty());
  ASSERT_EQ(groups[3].producer_row.size(), 72U);
  for (int32_t i = 0; i < 72; ++i) EXPECT_EQ(groups[3].producer_row[static_cast<size_t>(i)], i);
}

// A second reader of what a producer makes would see the scale.
TEST(InputGroups, NoProducerWhenSomebodyElseReadsTheInput) {
  for (const size_t group : {0U, 1U, 2U, 3U}) {
    BlockGraph block = llama_block();
    const int value = input_groups(block)[group].value;
    read_also(block, value);
    EXPECT_EQ(input_groups(block)[group].producer, Producer::kNone) << group;
  }
}

TEST(InputGroups, NoProducerWhenSomebodyElseReadsTheProducersOutput) {
  for (const size_t group : {1U, 3U}) {
    const std::string name = group == 1 ? "self_attn.v_proj" : "mlp.up_proj";
    BlockGraph block = llama_block();
    const auto op = std::find_if(block.ops.begin(), block.ops.end(),
                                 [&](const Op& one) { return one.name == name; });
    const int value = op->output;
    read_also(block, value);
    EXPECT_EQ(input_groups(block)[group].producer, Producer::kNone) << name;
  }
}

// The gate goes through a curve: it cannot take a scale.
TEST(InputGroups, TheGateIsNeverTheProducer) {
  BlockGraph block = llama_block();
  const auto activation = std::find_if(block.ops.begin(), block.ops.end(), [](const Op& op) {
    return op.kind == OpKind::kGatedActivation;
  });
  std::swap(activation->inputs[0], activation->inputs[1]);
  EXPECT_EQ(block.ops[input_groups(block)[3].producer_op].name, "mlp.gate_proj");
}

TEST(InputGroups, TheResidualStreamHasNoProducer) {
  BlockGraph block = llama_block();
  for (Op& op : block.ops) {
    if (op.name == "mlp.gate_proj" || op.name == "mlp.up_proj") op.inputs = {0};
  }
  const auto groups = input_groups(block);
  EXPECT_EQ(groups[2].describe(block), "mlp.gate_proj, mlp.up_proj");
  EXPECT_EQ(groups[2].producer, Producer::kNone);
}

// "linears < producer" of all groups of a block; "-" where nothing produces.
std::vector<std::string> groups_of(const std::string& config, size_t layer) {
  const ModelGraph graph = graph_of(nlohmann::json::parse(testing::model_config(config).json));
  const BlockGraph& block = graph.blocks[layer];
  std::vector<std::string> all;
  for (const InputGroup& group : input_groups(block)) {
    const bool none = group.producer == Producer::kNone;
    all.push_back(group.describe(block) + " < " + (none ? "-" : block.ops[group.producer_op].name));
  }
  return all;
}

TEST(InputGroups, OfFusedProjections) {
  EXPECT_THAT(groups_of("Phi", 0), ElementsAre("self_attn.qkv_proj < input_layernorm",
                                               "self_attn.o_proj < self_attn.qkv_proj",
                                               "mlp.gate_up_proj < post_attention_layernorm",
                                               "mlp.down_proj < mlp.gate_up_proj"));
  // What is clipped cannot be scaled.
  EXPECT_THAT(groups_of("MptClipped", 1), ElementsAre("attn.Wqkv < norm_1", "attn.out_proj < -",
                                                      "ffn.up_proj < norm_2", "ffn.down_proj < -"));
}

TEST(InputGroups, OfParallelHalvesAndNormsBehind) {
  EXPECT_THAT(groups_of("FalconOneKeyHead", 0),
              ElementsAre("self_attention.query_key_value, mlp.dense_h_to_4h < input_layernorm",
                          "self_attention.dense < self_attention.query_key_value",
                          "mlp.dense_4h_to_h < -"));
  // The stream that the norm makes goes on as the residual, too. ReLU keeps scales.
  EXPECT_THAT(groups_of("OptNormsBehindNarrow", 0),
              ElementsAre("self_attn.q_proj, self_attn.k_proj, self_attn.v_proj < -",
                          "self_attn.out_proj < self_attn.v_proj", "fc1 < -", "fc2 < fc1"));
}

TEST(InputGroups, OfLatentAttentionAndExperts) {
  EXPECT_THAT(groups_of("DeepSeek", 1),
              ElementsAre("self_attn.q_a_proj, self_attn.kv_a_proj_with_mqa < input_layernorm",
                          "self_attn.q_b_proj < self_attn.q_a_layernorm",
                          "self_attn.kv_b_proj < self_attn.kv_a_layernorm",
                          "self_attn.o_proj < self_attn.kv_b_proj",
                          "mlp.gate, mlp.shared_experts.gate_proj, mlp.shared_experts.up_proj < -",
                          "mlp.shared_experts.down_proj < mlp.shared_experts.up_proj"));
}

TEST(InputGroups, OfScansAndCrossAttention) {
  EXPECT_THAT(groups_of("MambaTwo", 0),
              ElementsAre("mixer.in_proj < norm", "mixer.out_proj < mixer.norm"));
  EXPECT_THAT(groups_of("MambaBiased", 0),
              ElementsAre("mixer.in_proj < norm", "mixer.x_proj < -",
                          "mixer.dt_proj < mixer.x_proj", "mixer.out_proj < -"));
  // The encoder's output is read by all blocks of the decoder.
  EXPECT_THAT(groups_of("MBart", 0),
              ElementsAre("self_attn.q_proj, self_attn.k_proj, self_attn.v_proj < "
                          "self_attn_layer_norm",
                          "self_attn.out_proj < self_attn.v_proj",
                          "encoder_attn.q_proj < encoder_attn_layer_norm",
                          "encoder_attn.k_proj, encoder_attn.v_proj < -",
                          "encoder_attn.out_proj < encoder_attn.v_proj", "fc1 < final_layer_norm",
                          "fc2 < -"));
}

}  // namespace
}  // namespace pare
