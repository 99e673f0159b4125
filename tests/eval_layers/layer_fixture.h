// Small models in memory whose linears may be compressed, and ways to change them.
#pragma once

#include <map>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "calib/token_source.h"
#include "core/compressed_weight.h"
#include "eval/evaluated_model.h"
#include "eval/layer_error.h"
#include "model/input_groups.h"
#include "tests/support/random_model.h"

namespace pare::testing {

inline constexpr int64_t kLayerCtx = 24;
inline constexpr int64_t kLayerWindows = 5;

/// A MemorySource some of whose weights are compressed; their dense values stay for their shape.
class MixedSource : public MemorySource {
 public:
  explicit MixedSource(MemorySource dense) : MemorySource(std::move(dense)) {}

  void compress(const std::string& name, CompressedWeight weight) {
    compressed_[name] = std::move(weight);
  }
  void set_recipe(std::string json) { recipe_ = std::move(json); }

  bool is_compressed(const std::string& name) const override { return compressed_.contains(name); }
  CompressedWeight compressed(const std::string& name) const override {
    return compressed_.at(name);
  }
  const std::string& recipe_json() const override { return recipe_; }

 private:
  std::map<std::string, CompressedWeight> compressed_;
  std::string recipe_;
};

EvaluatedModel model_of(const std::string& name, const MixedSource& source);
EvaluatedModel model_of(const std::string& name, const MemorySource& source);

/// Random tokens: kLayerWindows windows of kLayerCtx, or as many as asked for.
TokenWindows random_windows(const ModelGraph& graph, int64_t count = kLayerWindows);

/// Rounded to nearest with one scale an output channel; the largest code is `limit`.
CompressedWeight int8_weight(const MemoryTensor& tensor, float limit = 127);

/// A tensor of a source with its shape.
MemoryTensor tensor_of(const MemorySource& source, const std::string& name);

/// Names of the weights of all linears of the blocks.
std::vector<std::string> linear_weights(const ModelGraph& graph);

/// Factors between 1/4 and 4.
std::vector<float> random_factors(size_t count, std::mt19937& random);

/// Moves a scale between a group's producer and its linears, which leaves the model as it is: the
/// producer's channels (of a norm, or rows of a linear) are multiplied by `factors`.
void fold(MemorySource& source, const BlockGraph& block, const InputGroup& group,
          std::span<const float> factors);

/// How many channels the producer of a group has.
size_t producer_channels(const BlockGraph& block, const InputGroup& group);

/// layer_errors() on two threads with memory for everything.
std::vector<LayerError> errors_of(const EvaluatedModel& baseline, const EvaluatedModel& candidate,
                                  const TokenWindows& windows,
                                  Precision precision = Precision::kF32);

}  // namespace pare::testing
