// Scales are found again whatever a model's wiring: norms with biases and offsets, weights stored
// as [in, out], linears that make queries, keys and values at once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "eval/layer_scales.h"
#include "pare/error.h"
#include "tests/eval_layers/layer_fixture.h"
#include "tests/model/every_model.h"

namespace pare {
namespace {

using testing::EveryModel;
using testing::fold;
using testing::kModelSeed;
using testing::MemorySource;
using testing::producer_channels;
using testing::random_factors;

// Rows of a producer that the group does not read stay as they are.
std::vector<float> factors_of(const BlockGraph& block, const InputGroup& group,
                              std::mt19937& random) {
  std::vector<float> factors = random_factors(producer_channels(block, group), random);
  if (group.producer == Producer::kNorm) return factors;
  std::vector<float> read(factors.size(), 1.0F);
  for (const int32_t row : group.producer_row) {
    read[static_cast<size_t>(row)] = factors[static_cast<size_t>(row)];
  }
  return read;
}

void expect_close(const std::vector<float>& found, const std::vector<float>& expected,
                  const std::string& what) {
  ASSERT_EQ(found.size(), expected.size()) << what;
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_NEAR(found[i] / expected[i], 1, 1e-4) << what << ", channel " << i;
  }
}

class WiringScales : public EveryModel {
 protected:
  // Folds all groups of a block that can be folded, and looks for what was moved.
  void check(const BlockGraph& block) {
    std::mt19937 random(kModelSeed);
    MemorySource candidate = source_;
    const std::vector<InputGroup> groups = input_groups(block);
    std::vector<std::vector<float>> factors(groups.size());
    for (size_t g = 0; g < groups.size(); ++g) {
      if (groups[g].producer == Producer::kNone) continue;
      factors[g] = factors_of(block, groups[g], random);
      fold(candidate, block, groups[g], factors[g]);
      ++folded_;
    }
    ThreadPool pool(2);
    const BlockScales scales = block_scales(block, source_, candidate, pool);
    for (size_t g = 0; g < groups.size(); ++g) {
      const InputGroup& group = groups[g];
      const std::string what = block.prefix + group.describe(block);
      if (group.producer == Producer::kNone) {
        for (const size_t op : group.linears) EXPECT_TRUE(scales.input[op].empty()) << what;
        continue;
      }
      std::vector<float> channels = factors[g];
      if (group.producer == Producer::kLinear) {
        channels.clear();
        for (const int32_t row : group.producer_row) {
          channels.push_back(factors[g][static_cast<size_t>(row)]);
        }
        expect_close(scales.output[group.producer_op], factors[g], what + ", output");
      }
      for (const size_t op : group.linears) expect_close(scales.input[op], channels, what);
    }
  }

  int folded_ = 0;
};

TEST_P(WiringScales, FindsWhatWasMoved) {
  for (const BlockGraph& block : graph_.blocks) check(block);
  RecordProperty("folded", folded_);
}

INSTANTIATE_TEST_SUITE_P(All, WiringScales, ::testing::ValuesIn(testing::model_configs()),
                         testing::name_of);

// A channel whose weight is zero still has its bias.
TEST(NormScales, ABiasAloneSpeaksForItsChannel) {
  const auto config = nlohmann::json::parse(testing::model_config("GptTwoByLayer").json);
  MemorySource baseline = testing::random_model(config, kModelSeed);
  const ModelGraph graph = testing::graph_of(config);
  const BlockGraph& block = graph.blocks[0];
  const std::string norm = block.full_name(block.ops[0]);
  ASSERT_EQ(block.ops[0].kind, OpKind::kNorm);
  baseline.values(norm + ".weight")[2] = 0;
  baseline.values(norm + ".bias")[2] = 0.5F;
  MemorySource candidate = baseline;
  candidate.values(norm + ".bias")[2] = 2;
  ThreadPool pool(1);
  const BlockScales scales = block_scales(block, baseline, candidate, pool);
  const size_t reader = input_groups(block)[0].linears[0];
  EXPECT_EQ(scales.input[reader][2], 4.0F);
  EXPECT_EQ(scales.input[reader][1], 1.0F);
  baseline.values(norm + ".bias")[2] = 0;
  EXPECT_THROW(block_scales(block, baseline, candidate, pool), Error);
}

}  // namespace
}  // namespace pare
