// Scales that a candidate moved between its tensors are found again, and none where there are none.
#include "eval/layer_scales.h"

#include <gtest/gtest.h>

#include <cmath>

#include "pare/error.h"
#include "tests/eval_layers/layer_fixture.h"

namespace pare {
namespace {

using testing::fold;
using testing::int8_weight;
using testing::kModelSeed;
using testing::linear_weights;
using testing::MemorySource;
using testing::MixedSource;
using testing::model_of;
using testing::producer_channels;
using testing::random_factors;
using testing::random_model;
using testing::small_llama_config;
using testing::tensor_of;

BlockScales scales_of(const BlockGraph& block, const WeightSource& baseline,
                      const WeightSource& candidate) {
  ThreadPool pool(2);
  return block_scales(block, baseline, candidate, pool);
}

void expect_close(const std::vector<float>& found, const std::vector<float>& expected,
                  float tolerance, const std::string& what) {
  ASSERT_EQ(found.size(), expected.size()) << what;
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_NEAR(found[i] / expected[i], 1, tolerance) << what << ", channel " << i;
  }
}

std::vector<float> of_channels(const InputGroup& group, const std::vector<float>& factors) {
  if (group.producer == Producer::kNorm) return factors;
  std::vector<float> channels;
  for (const int32_t row : group.producer_row) {
    channels.push_back(factors[static_cast<size_t>(row)]);
  }
  return channels;
}

// All groups of a block folded at once, then maybe rounded.
struct Folded {
  nlohmann::json config = small_llama_config();
  MemorySource baseline;
  ModelGraph graph;
  std::vector<std::vector<float>> factors;  // of each group of block 0
  MixedSource candidate;

  explicit Folded(uint32_t seed)
      : baseline(random_model(config, seed)),
        graph(testing::graph_of(config)),
        candidate(baseline) {
    std::mt19937 random(seed);
    MemorySource changed = baseline;
    for (const InputGroup& group : input_groups(block())) {
      factors.push_back(random_factors(producer_channels(block(), group), random));
      fold(changed, block(), group, factors.back());
    }
    candidate = MixedSource(changed);
  }

  const BlockGraph& block() const { return graph.blocks[0]; }

  void round(float limit) {
    for (const std::string& name : linear_weights(graph)) {
      candidate.compress(name, int8_weight(tensor_of(candidate, name), limit));
    }
  }

  void expect_found(float tolerance) const {
    const BlockScales scales = scales_of(block(), baseline, candidate);
    const std::vector<InputGroup> groups = input_groups(block());
    for (size_t g = 0; g < groups.size(); ++g) {
      const bool norm = groups[g].producer == Producer::kNorm;
      for (const size_t op : groups[g].linears) {
        expect_close(scales.input[op], of_channels(groups[g], factors[g]), norm ? 1e-6F : tolerance,
                     block().ops[op].name);
      }
      if (norm) continue;
      expect_close(scales.output[groups[g].producer_op], factors[g], tolerance,
                   block().ops[groups[g].producer_op].name);
    }
  }
};

TEST(LayerScales, FindsWhatWasMovedExactly) { Folded(kModelSeed).expect_found(1e-5F); }

TEST(LayerScales, FindsItBehindEightBits) {
  Folded folded(kModelSeed);
  folded.round(127);
  folded.expect_found(0.01F);
}

TEST(LayerScales, FindsItBehindFourBits) {
  Folded folded(kModelSeed);
  folded.round(7);
  folded.expect_found(0.12F);  // 48 … 72 weights a channel, each off by a tenth
}

// Whatever shrinks both weights alike must not look like a scale.
TEST(LayerScales, ShrinkingCancels) {
  Folded folded(kModelSeed);
  MemorySource shrunk = folded.candidate;
  for (const std::string& name : linear_weights(folded.graph)) {
    for (float& value : shrunk.values(name)) value *= 0.9F;
  }
  folded.candidate = MixedSource(shrunk);
  folded.expect_found(1e-5F);
}

TEST(LayerScales, RoundingAloneHasNone) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    const auto config = small_llama_config();
    const MemorySource baseline = random_model(config, seed);
    const ModelGraph graph = testing::graph_of(config);
    for (const float limit : {127.0F, 7.0F, 3.0F}) {
      MixedSource candidate(baseline);
      for (const std::string& name : linear_weights(graph)) {
        candidate.compress(name, int8_weight(tensor_of(baseline, name), limit));
      }
      const BlockScales scales = scales_of(graph.blocks[0], baseline, candidate);
      for (size_t op = 0; op < graph.blocks[0].ops.size(); ++op) {
        EXPECT_TRUE(scales.input[op].empty()) << "seed " << seed << ", " << limit;
        EXPECT_TRUE(scales.output[op].empty()) << "seed " << seed << ", " << limit;
      }
    }
  }
}

// Rows that came out too large or too small, and columns that do not make up for it, are an error
// of the model and no scale.
TEST(LayerScales, GainsOfOneWeightAreNone) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    const auto config = small_llama_config();
    const MemorySource baseline = random_model(config, seed);
    const ModelGraph graph = testing::graph_of(config);
    const BlockGraph& block = graph.blocks[0];
    MemorySource changed = baseline;
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> gain(0.8F, 1.2F);
    for (const char* name : {"self_attn.v_proj.weight", "mlp.up_proj.weight"}) {
      std::vector<float>& weight = changed.values(block.prefix + name);
      for (size_t row = 0; row < weight.size() / 48; ++row) {
        const float factor = gain(random);
        for (size_t i = 0; i < 48; ++i) weight[row * 48 + i] *= factor;
      }
    }
    MixedSource candidate(changed);
    for (const std::string& name : linear_weights(graph)) {
      candidate.compress(name, int8_weight(tensor_of(changed, name), 15));
    }
    const BlockScales scales = scales_of(block, baseline, candidate);
    for (const auto& output : scales.output) EXPECT_TRUE(output.empty()) << "seed " << seed;
  }
}

// In pare's own checkpoints a row without a scale of its own never takes one.
TEST(LayerScales, RecipeSaysThatThereIsNone) {
  Folded folded(kModelSeed);
  folded.candidate.set_recipe(R"({"schema":"pare.recipe/1","qformat":"fp8"})");
  const BlockScales scales = scales_of(folded.block(), folded.baseline, folded.candidate);
  for (const auto& output : scales.output) EXPECT_TRUE(output.empty());
  folded.round(127);
  folded.expect_found(0.01F);
}

TEST(LayerScales, PreQuantScaleIsNotAScaleOfTheValue) {
  const auto config = small_llama_config();
  const MemorySource baseline = random_model(config, kModelSeed);
  const ModelGraph graph = testing::graph_of(config);
  std::mt19937 random(kModelSeed);
  MixedSource candidate(baseline);
  for (const std::string& name : linear_weights(graph)) {
    testing::MemoryTensor tensor = tensor_of(baseline, name);
    const auto width = static_cast<size_t>(tensor.shape[1]);
    const std::vector<float> factors = random_factors(width, random);
    for (size_t i = 0; i < tensor.values.size(); ++i) tensor.values[i] /= factors[i % width];
    CompressedWeight weight = int8_weight(tensor);
    weight.pre_quant_scale = factors;
    candidate.compress(name, weight);
  }
  const BlockScales scales = scales_of(graph.blocks[0], baseline, candidate);
  for (const auto& input : scales.input) EXPECT_TRUE(input.empty());
  for (const auto& output : scales.output) EXPECT_TRUE(output.empty());
}

TEST(LayerScales, ZerosInNormsAndRows) {
  const auto config = small_llama_config();
  MemorySource baseline = random_model(config, kModelSeed);
  const ModelGraph graph = testing::graph_of(config);
  const BlockGraph& block = graph.blocks[0];
  const std::string norm = block.full_name(block.ops[0]) + ".weight";
  const std::string up = block.prefix + "mlp.up_proj.weight";
  baseline.values(norm)[5] = 0;
  for (size_t i = 0; i < 48; ++i) baseline.values(up)[3 * 48 + i] = 0;
  MemorySource candidate = baseline;
  std::mt19937 random(kModelSeed);
  for (const InputGroup& group : input_groups(block)) {
    fold(candidate, block, group, random_factors(producer_channels(block, group), random));
  }
  const BlockScales scales = scales_of(block, baseline, candidate);
  for (const auto& list : {scales.input, scales.output}) {
    for (const auto& scale : list) {
      for (const float value : scale) EXPECT_TRUE(std::isfinite(value) && value > 0);
    }
  }
  EXPECT_EQ(scales.input[1][5], 1.0F);

  candidate.values(norm)[5] = 0.3F;
  try {
    scales_of(block, baseline, candidate);
    ADD_FAILURE() << "a norm without a ratio was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInputMalformed);
    EXPECT_NE(std::string(error.what()).find(norm), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("channel 5"), std::string::npos) << error.what();
  }
}

TEST(LayerScales, ThreadsDoNotMatter) {
  Folded folded(kModelSeed);
  folded.round(7);
  ThreadPool one(1);
  ThreadPool three(3);
  const BlockScales a = block_scales(folded.block(), folded.baseline, folded.candidate, one);
  const BlockScales b = block_scales(folded.block(), folded.baseline, folded.candidate, three);
  EXPECT_EQ(a.input, b.input);
  EXPECT_EQ(a.output, b.output);
}

}  // namespace
}  // namespace pare
