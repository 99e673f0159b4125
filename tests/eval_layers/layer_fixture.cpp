#include "tests/eval_layers/layer_fixture.h"

#include <algorithm>
#include <cmath>

#include "model/architectures.h"

namespace pare::testing {
namespace {

template <typename Source>
EvaluatedModel make_model(const std::string& name, const Source& source) {
  EvaluatedModel model;
  model.name = name;
  model.source = std::make_unique<Source>(source);
  model.graph = describe_model(source.config_json(), "config.json");
  return model;
}

}  // namespace

EvaluatedModel model_of(const std::string& name, const MixedSource& source) {
  return make_model(name, source);
}

EvaluatedModel model_of(const std::string& name, const MemorySource& source) {
  return make_model(name, source);
}

TokenWindows random_windows(const ModelGraph& graph, int64_t count) {
  TokenWindows windows;
  windows.count = count;
  windows.length = kLayerCtx;
  windows.ids = random_ids(graph, count * kLayerCtx, kModelSeed);
  return windows;
}

CompressedWeight int8_weight(const MemoryTensor& tensor, float limit) {
  CompressedWeight weight;
  weight.format = WeightFormat::kInt8;
  weight.out_features = tensor.shape[0];
  weight.in_features = tensor.shape[1];
  weight.group_size = kPerChannel;
  for (int64_t row = 0; row < weight.out_features; ++row) {
    const auto begin = tensor.values.begin() + row * weight.in_features;
    float largest = 1e-6F;
    for (int64_t i = 0; i < weight.in_features; ++i)
      largest = std::max(largest, std::abs(begin[i]));
    weight.scale.push_back(largest / limit);
    for (int64_t i = 0; i < weight.in_features; ++i) {
      const float code = std::nearbyint(begin[i] / weight.scale.back());
      weight.codes.push_back(static_cast<uint8_t>(static_cast<int8_t>(code)));
    }
  }
  return weight;
}

MemoryTensor tensor_of(const MemorySource& source, const std::string& name) {
  return {source.shape(name), to_f32(source.dense(name), name)};
}

std::vector<std::string> linear_weights(const ModelGraph& graph) {
  std::vector<std::string> names;
  for (const BlockGraph& block : graph.blocks) {
    for (const Op& op : block.ops) {
      if (op.kind == OpKind::kLinear) names.push_back(block.full_name(op) + ".weight");
    }
  }
  return names;
}

std::vector<float> random_factors(size_t count, std::mt19937& random) {
  std::uniform_real_distribution<float> exponent(-2, 2);
  std::vector<float> factors(count);
  for (float& factor : factors) factor = std::exp2(exponent(random));
  return factors;
}

void fold(MemorySource& source, const BlockGraph& block, const InputGroup& group,
          std::span<const float> factors) {
  const Op& producer = block.ops[group.producer_op];
  const std::string name = block.full_name(producer);
  std::vector<float>& made = source.values(name + ".weight");
  // Of [out, in], of [in, out], or of a norm's channels; Gemma's norms multiply by 1 + weight.
  const bool turned = producer.kind == OpKind::kLinear && producer.linear.transposed;
  const size_t columns = made.size() / factors.size();
  const float offset = producer.kind == OpKind::kNorm ? producer.norm.weight_offset : 0;
  for (size_t i = 0; i < made.size(); ++i) {
    const float factor = factors[turned ? i % factors.size() : i / columns];
    made[i] = (made[i] + offset) * factor - offset;
  }
  if (producer.kind == OpKind::kNorm ? producer.norm.bias : producer.linear.bias) {
    std::vector<float>& bias = source.values(name + ".bias");
    for (size_t i = 0; i < bias.size(); ++i) bias[i] *= factors[i];
  }
  const auto width = static_cast<size_t>(group.in_features);
  for (const size_t index : group.linears) {
    std::vector<float>& weight = source.values(block.full_name(block.ops[index]) + ".weight");
    for (size_t i = 0; i < weight.size(); ++i) {
      const size_t rows = weight.size() / width;
      const size_t channel = block.ops[index].linear.transposed ? i / rows : i % width;
      weight[i] /= factors[group.producer == Producer::kNorm
                               ? channel
                               : static_cast<size_t>(group.producer_row[channel])];
    }
  }
}

size_t producer_channels(const BlockGraph& block, const InputGroup& group) {
  return static_cast<size_t>(group.producer == Producer::kNorm
                                 ? group.in_features
                                 : block.out_features(block.ops[group.producer_op]));
}

std::vector<LayerError> errors_of(const EvaluatedModel& baseline, const EvaluatedModel& candidate,
                                  const TokenWindows& windows, Precision precision) {
  ThreadPool pool(2);
  const Callbacks callbacks;
  ProgressMeter meter(callbacks, 0);
  return layer_errors(baseline, candidate, windows,
                      {.precision = precision, .hidden_bytes = int64_t{1} << 30}, pool, meter);
}

}  // namespace pare::testing
