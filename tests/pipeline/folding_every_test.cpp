// Scaling the inputs of all linears of a model changes nothing that the model computes, whatever
// its wiring: in every block, every expert, encoder and decoder.
#include <algorithm>
#include <cmath>

#include "model/block_parameters.h"
#include "model/input_groups.h"
#include "pipeline/calibration_run.h"
#include "pipeline/input_sharing.h"
#include "tests/model/every_model.h"

namespace pare::testing {
namespace {

constexpr int64_t kWindows = 2;
constexpr int64_t kLength = 24;

class FoldingEvery : public EveryModel {
 protected:
  FoldingEvery() {
    std::vector<Sequence> sequences =
        random_sequences(graph_, std::vector<int64_t>(kWindows, kLength), kModelSeed);
    windows_.count = kWindows;
    windows_.length = kLength;
    if (graph_.encoder) windows_.sources.begin = {0};
    for (const Sequence& one : sequences) {
      windows_.ids.insert(windows_.ids.end(), one.ids.begin(), one.ids.end());
      if (!graph_.encoder) continue;
      std::vector<int32_t>& sources = windows_.sources.ids;
      sources.insert(sources.end(), one.source.begin(), one.source.end());
      windows_.sources.begin.push_back(static_cast<int64_t>(sources.size()));
    }
  }

  // Weights and norms of the whole model after scaling; without_norms_ keeps the norms as they
  // were, to see that they matter.
  void fold(const QuantizeOptions& options) {
    plan_.emplace(make_plan(options, graph_));
    folded_ = source_;
    without_norms_ = source_;
    rescaled_ = 0;
    permuted_ = 0;
    norms_changed_ = false;
    const Callbacks callbacks;
    ProgressMeter meter(callbacks, 1);
    CalibrationRun run(graph_, source_, windows_, *plan_, pool_, meter);
    if (graph_.encoder) {
      run.start(Stack::kEncoder);
      for (const BlockGraph& block : graph_.encoder->blocks) fold(block, run, meter);
    }
    run.start(Stack::kDecoder);
    for (const BlockGraph& block : graph_.blocks) fold(block, run, meter);
  }

  void fold(const BlockGraph& block, CalibrationRun& run, const ProgressMeter& meter) {
    const BlockWeights original = load_block(block, source_, Precision::kBf16);
    store(block, prepare_block(block, source_, *plan_, run.observe(block, original, watched(block)),
                               pool_, meter));
    run.advance(block, original);
    if (!block.experts) return;
    for (int64_t i = 0; i < block.experts->count; ++i) {
      const BlockGraph expert = expert_block(block, i);
      const BlockWeights weights = load_block(expert, source_, Precision::kBf16);
      ExpertTokens tokens;
      auto statistics = run.observe_expert(block, i, weights, watched(expert), tokens);
      store(expert, prepare_block(expert, source_, *plan_, std::move(statistics), pool_, meter));
      run.advance_expert(block, i, weights);
    }
    run.finish(block, original);
  }

  static std::vector<WatchedValue> watched(const BlockGraph& block) {
    std::vector<WatchedValue> values;
    for (const InputGroup& group : input_groups(block)) {
      values.push_back({group.value, group.in_features, true, 0});
    }
    return values;
  }

  // A scale that nobody absorbed is taken out of the columns again, as the stored scale does to the
  // input.
  void store(const BlockGraph& block, const WorkingBlock& working) {
    for (const auto& [index, norm] : working.norms) {
      const std::string name = block.full_name(block.ops[index]);
      std::vector<float>& weight = folded_.values(name + ".weight");
      norms_changed_ = norms_changed_ || weight != norm.weight;
      weight = norm.weight;
      if (!norm.bias.empty()) folded_.values(name + ".bias") = norm.bias;
    }
    for (const SharingSet& set : working.sets) {
      const bool rescaled = std::any_of(set.scale.begin(), set.scale.end(),
                                        [](float scale) { return std::abs(scale - 1) > 0.1F; });
      rescaled_ += rescaled ? 1 : 0;
      for (const size_t index : set.linears) store(block, working.linears.at(index), set);
    }
  }

  void store(const BlockGraph& block, const WorkingLinear& linear, const SharingSet& set) {
    permuted_ += linear.column_order.empty() ? 0 : 1;
    const auto out = static_cast<size_t>(linear.out_features);
    const auto in = static_cast<size_t>(linear.in_features);
    const auto op = std::find_if(block.ops.begin(), block.ops.end(), [&](const Op& one) {
      return one.kind == OpKind::kLinear && block.full_name(one) == linear.name;
    });
    std::vector<float> weight(out * in);
    for (size_t row = 0; row < out; ++row) {
      for (size_t column = 0; column < in; ++column) {
        float value = linear.weight[row * in + column];
        if (!set.absorbed && !set.scale.empty()) value /= set.scale[column];
        weight[op->linear.transposed ? column * out + row : row * in + column] = value;
      }
    }
    for (MemorySource* source : {&folded_, &without_norms_}) {
      source->values(linear.name + ".weight") = weight;
      if (!linear.bias.empty()) source->values(linear.name + ".bias") = linear.bias;
    }
  }

  std::vector<float> logits(const MemorySource& source) const {
    const auto sequences = random_sequences(graph_, {23, 9}, kModelSeed + 1);
    std::vector<float> all;
    for (const auto& one : run_sequences(graph_, source, sequences, Precision::kF32)) {
      all.insert(all.end(), one.begin(), one.end());
    }
    return all;
  }

  void check(const QuantizeOptions& options) {
    SCOPED_TRACE(options.qformat + ", seed " + std::to_string(kModelSeed));
    fold(options);
    EXPECT_GT(rescaled_, 0);
    const std::vector<float> expected = logits(source_);
    EXPECT_LT(relative_error(logits(folded_), expected), 1e-5);
    if (!norms_changed_) return;
    EXPECT_GT(relative_error(logits(without_norms_), expected), 1e-3) << "without effect";
  }

  static QuantizeOptions options_of(const std::string& qformat) {
    QuantizeOptions options;
    options.qformat = qformat;
    options.calibration = "given";
    options.calibration_size = kWindows;
    options.calibration_seqlen = kLength;
    options.awq_block_size = 16;
    options.smooth_strength = 0.5;
    return options;
  }

  ThreadPool pool_{2};
  TokenWindows windows_;
  std::optional<JobPlan> plan_;
  MemorySource folded_{""};
  MemorySource without_norms_{""};
  int rescaled_ = 0;
  int permuted_ = 0;
  bool norms_changed_ = false;
};
INSTANTIATE_TEST_SUITE_P(Models, FoldingEvery, ::testing::ValuesIn(model_configs()), name_of);

TEST_P(FoldingEvery, SmoothQuantKeepsTheLogits) { check(options_of("int8_sq")); }

TEST_P(FoldingEvery, AwqKeepsTheLogits) { check(options_of("int4_awq")); }

// Channels that pruning puts in another order as well, before weights are pruned.
TEST_P(FoldingEvery, PermutedChannelsKeepTheLogits) {
  for (const char* qformat : {"full_prec", "int8_sq", "int4_awq"}) {
    SCOPED_TRACE(std::string(qformat) + ", seed " + std::to_string(kModelSeed));
    QuantizeOptions options = options_of(qformat);
    options.sparsity = "ria";
    options.permute_channels = "on";
    for_each_block(graph_, [&](const BlockGraph& block) {
      for (const Op& op : block.ops) {
        if (op.kind != OpKind::kLinear || block.in_features(op) % 4 == 0) continue;
        options.exclude.push_back("^" + block.full_name(op) + "$");
      }
    });
    fold(options);
    const bool mamba = GetParam().name.find("Mamba") != std::string::npos;
    EXPECT_EQ(permuted_ > 0, !mamba);
    EXPECT_LT(relative_error(logits(folded_), logits(source_)), 1e-5);
  }
}

}  // namespace
}  // namespace pare::testing
