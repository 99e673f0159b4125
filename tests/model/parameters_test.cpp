// In models of every architecture each tensor changes the logits: none is misnamed, skipped, or
// read at a wrong place and lost.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "model/architectures.h"
#include "model/block_parameters.h"
#include "tests/model/every_model.h"

namespace pare {
namespace {

using testing::kModelSeed;
using testing::MemorySource;
using testing::relative_error;

const Op* writer_of(const BlockGraph& block, int value) {
  for (const Op& op : block.ops) {
    if (op.output == value) return &op;
  }
  return nullptr;
}

// Biases of keys that only shift all scores of a query by the same, which softmax takes off:
// without a rotation between, which would make them differ by position, a norm, a soft cap, or a
// sink, which is not shifted.
std::set<std::string> shifts(const ModelGraph& graph) {
  std::set<std::string> names;
  for_each_block(graph, [&](const BlockGraph& block) {
    for (const Op& op : block.ops) {
      if (op.kind != OpKind::kAttention) continue;
      const AttentionSpec& spec = block.attentions[static_cast<size_t>(op.detail)];
      const Op* keys = writer_of(block, op.inputs[1]);
      if (spec.sinks || spec.shape.soft_cap > 0 || keys == nullptr) continue;
      if (keys->kind == OpKind::kLinear && keys->linear.bias) {
        names.insert(block.full_name(*keys) + ".bias");
      }
    }
  });
  return names;
}

class Parameters : public testing::EveryModel {
 protected:
  std::vector<float> logits(const MemorySource& source) const {
    std::vector<float> all;
    for (const auto& one : testing::run_sequences(graph_, source, sequences_, Precision::kF32)) {
      all.insert(all.end(), one.begin(), one.end());
    }
    return all;
  }
  const std::vector<testing::Sequence> sequences_ =
      testing::random_sequences(graph_, {30, 12}, kModelSeed);
};
INSTANTIATE_TEST_SUITE_P(Models, Parameters, ::testing::ValuesIn(testing::model_configs()),
                         testing::name_of);

TEST_P(Parameters, AllAreUsed) {
  EXPECT_TRUE(check_tensors(graph_, source_).empty());
  const std::vector<float> expected = logits(source_);
  const std::set<std::string> without_effect = shifts(graph_);
  // Another seed: the numbers that the weights were made of would only scale some of them.
  std::mt19937 random(kModelSeed + 1);
  std::normal_distribution<float> normal;
  for (const std::string& name : source_.names()) {
    MemorySource changed = source_;
    for (float& value : changed.values(name)) value = 0.7F * value + 0.5F * normal(random);
    const double change = relative_error(logits(changed), expected);
    if (without_effect.contains(name)) {
      EXPECT_LT(change, 1e-5) << name << ", seed " << kModelSeed;
    } else {
      EXPECT_GT(change, 1e-4) << name << ", seed " << kModelSeed;
    }
  }
}

TEST_P(Parameters, LogitsAreFinite) {
  for (const Precision precision : {Precision::kF32, Precision::kBf16}) {
    for (const auto& one : testing::run_sequences(graph_, source_, sequences_, precision)) {
      for (const float value : one) ASSERT_TRUE(std::isfinite(value));
    }
  }
}

// Of the random models, too: BF16 differs from FP32 by rounding, not by more.
TEST_P(Parameters, PrecisionsAgree) {
  const auto exact = testing::run_sequences(graph_, source_, sequences_, Precision::kF32);
  const auto rounded = testing::run_sequences(graph_, source_, sequences_, Precision::kBf16);
  double worst = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    EXPECT_NE(rounded[i], exact[i]) << "this cannot have been BF16";
    worst = std::max(worst, relative_error(rounded[i], exact[i]));
  }
  RecordProperty("relative_error", std::to_string(worst));
  // A token near a tie takes another expert; then much of it changes.
  bool routed = false;
  for (const BlockGraph& block : graph_.blocks) routed = routed || block.experts.has_value();
  EXPECT_LT(worst, routed ? 0.5 : 0.03) << "seed " << kModelSeed;
}

TEST(ParameterTable, NamesEveryArchitecture) {
  std::set<std::string> covered;
  for (const testing::NamedConfig& config : testing::model_configs()) {
    covered.insert(describe_model(config.json, config.name).architecture);
  }
  for (const ArchitectureInfo& known : known_architectures()) {
    EXPECT_TRUE(covered.contains(known.name)) << known.name;
  }
}

}  // namespace
}  // namespace pare
