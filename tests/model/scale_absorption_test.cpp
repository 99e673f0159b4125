// input_groups() promises that a producer can take what a group's input is divided by.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "model/input_groups.h"
#include "tests/model/random_model.h"

namespace pare {
namespace {

using testing::graph_of;
using testing::kModelSeed;
using testing::MemorySource;
using testing::random_ids;
using testing::random_model;
using testing::relative_error;
using testing::run_model;
using testing::small_llama_config;

constexpr int64_t kLength = 40;

// Factors between 1/4 and 4.
std::vector<float> random_factors(size_t count, std::mt19937& random) {
  std::uniform_real_distribution<float> exponent(-2, 2);
  std::vector<float> factors(count);
  for (float& factor : factors) factor = std::exp2(exponent(random));
  return factors;
}

// Multiplies row r of the producer's weight and bias by factors[r]; a norm has one value a row.
void scale_producer(MemorySource& source, const BlockGraph& block, const Op& op,
                    const std::vector<float>& factors) {
  const std::string name = block.full_name(op);
  std::vector<float>& weight = source.values(name + ".weight");
  const size_t columns = weight.size() / factors.size();
  for (size_t i = 0; i < weight.size(); ++i) weight[i] *= factors[i / columns];
  if (!op.bias) return;
  std::vector<float>& bias = source.values(name + ".bias");
  for (size_t i = 0; i < bias.size(); ++i) bias[i] *= factors[i];
}

void divide_columns(MemorySource& source, const BlockGraph& block, const InputGroup& group,
                    const std::vector<float>& channel_factors) {
  for (const size_t index : group.linears) {
    std::vector<float>& weight = source.values(block.full_name(block.ops[index]) + ".weight");
    for (size_t i = 0; i < weight.size(); ++i) {
      weight[i] /= channel_factors[i % channel_factors.size()];
    }
  }
}

void expect_absorbed(const nlohmann::json& config) {
  const ModelGraph graph = graph_of(config);
  const MemorySource original = random_model(config, kModelSeed);
  const auto ids = random_ids(graph, 2 * kLength, kModelSeed);
  const auto expected = run_model(original, ids, kLength, Precision::kF32);
  std::mt19937 random(kModelSeed);
  int absorbed = 0;
  for (const BlockGraph& block : graph.blocks) {
    for (const InputGroup& group : input_groups(block)) {
      ASSERT_NE(group.producer, Producer::kNone) << group.describe(block);
      const Op& producer = block.ops[group.producer_op];
      MemorySource changed = original;
      const bool norm = group.producer == Producer::kNorm;
      const auto factors = random_factors(
          static_cast<size_t>(norm ? group.in_features : block.out_features(producer)), random);
      std::vector<float> channels;
      for (size_t i = 0; i < static_cast<size_t>(group.in_features); ++i) {
        channels.push_back(factors[norm ? i : static_cast<size_t>(group.producer_row[i])]);
      }
      scale_producer(changed, block, producer, factors);
      EXPECT_GT(relative_error(run_model(changed, ids, kLength, Precision::kF32), expected), 1e-3)
          << producer.name << " has no effect, seed " << kModelSeed;
      divide_columns(changed, block, group, channels);
      EXPECT_LT(relative_error(run_model(changed, ids, kLength, Precision::kF32), expected), 5e-6)
          << group.describe(block) << " behind " << producer.name << ", seed " << kModelSeed;
      ++absorbed;
    }
  }
  EXPECT_EQ(absorbed, 8);
}

TEST(ScaleAbsorption, Llama) { expect_absorbed(small_llama_config()); }

TEST(ScaleAbsorption, WithBiasesAndAnOddHeadSize) {
  nlohmann::json config = small_llama_config();
  config["attention_bias"] = true;
  config["mlp_bias"] = true;
  config["head_dim"] = 10;
  expect_absorbed(config);
}

TEST(ScaleAbsorption, MistralWithoutGroupedQueries) {
  nlohmann::json config = small_llama_config();
  config["architectures"] = nlohmann::json::array({"MistralForCausalLM"});
  config["num_key_value_heads"] = 6;
  config["sliding_window"] = 5;
  expect_absorbed(config);
}

TEST(ScaleAbsorption, Qwen2) {
  nlohmann::json config = small_llama_config();
  config["architectures"] = nlohmann::json::array({"Qwen2ForCausalLM"});
  config["num_key_value_heads"] = 1;
  expect_absorbed(config);
}

}  // namespace
}  // namespace pare
