#include "tests/model/random_model.h"

#include <cmath>
#include <random>

#include "core/thread_pool.h"
#include "model/architectures.h"
#include "model/block_runner.h"
#include "model/model_head.h"

namespace pare::testing {
namespace {

MemoryTensor normal_tensor(Shape shape, float mean, float deviation, std::mt19937& random) {
  std::normal_distribution<float> normal(mean, deviation);
  MemoryTensor tensor{std::move(shape), {}};
  for (int64_t i = 0; i < element_count(tensor.shape); ++i) tensor.values.push_back(normal(random));
  return tensor;
}

}  // namespace

nlohmann::json small_llama_config() {
  return {{"architectures", nlohmann::json::array({"LlamaForCausalLM"})},
          {"model_type", "llama"},
          {"vocab_size", 100},
          {"hidden_size", 48},
          {"intermediate_size", 72},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 6},
          {"num_key_value_heads", 2},
          {"hidden_act", "silu"},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},
          {"max_position_embeddings", 4096},
          {"tie_word_embeddings", false},
          {"torch_dtype", "bfloat16"}};
}

ModelGraph graph_of(const nlohmann::json& config) {
  return describe_model(config.dump(), "config.json");
}

MemorySource random_model(const nlohmann::json& config, uint32_t seed) {
  const ModelGraph graph = graph_of(config);
  MemorySource source(config.dump());
  std::mt19937 random(seed);
  const auto matrix = [&](int64_t out, int64_t in) {
    return normal_tensor({out, in}, 0, 1 / std::sqrt(static_cast<float>(in)), random);
  };
  const auto norm = [&](int64_t width) { return normal_tensor({width}, 1, 0.2F, random); };
  source.set(graph.embedding, matrix(graph.vocab_size, graph.hidden_size));
  source.set(graph.head, matrix(graph.vocab_size, graph.hidden_size));
  source.set(graph.final_norm, norm(graph.hidden_size));
  for (const BlockGraph& block : graph.blocks) {
    for (const Op& op : block.ops) {
      const std::string name = block.full_name(op);
      if (op.kind == OpKind::kRmsNorm) source.set(name + ".weight", norm(block.in_features(op)));
      if (op.kind != OpKind::kLinear) continue;
      source.set(name + ".weight", matrix(block.out_features(op), block.in_features(op)));
      if (op.bias) {
        source.set(name + ".bias", normal_tensor({block.out_features(op)}, 0, 0.3F, random));
      }
    }
  }
  return source;
}

std::vector<int32_t> random_ids(const ModelGraph& graph, int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) {
    ids.push_back(static_cast<int32_t>(random() % static_cast<uint64_t>(graph.vocab_size)));
  }
  return ids;
}

std::vector<float> run_model(const WeightSource& source, std::span<const int32_t> ids,
                             int64_t length, Precision precision, const RunOptions& options) {
  const ModelGraph graph = describe_model(source.config_json(), source.path());
  const int64_t sequences = static_cast<int64_t>(ids.size()) / length;
  ThreadPool pool(static_cast<size_t>(options.threads));
  std::vector<float> hidden(ids.size() * static_cast<size_t>(graph.hidden_size));
  embed_tokens(graph, source, ids, hidden.data());
  for (const BlockGraph& block : graph.blocks) {
    const BlockWeights weights = load_block(block, source, precision);
    const RotaryTable rotary = make_rotary_table(block.rotary, length);
    const BlockRunner runner(block, weights, rotary, precision);
    pool.parallel_for(static_cast<size_t>(sequences), [&](size_t sequence, size_t) {
      BlockWorkspace workspace(block, length, precision);
      const int64_t begin = static_cast<int64_t>(sequence) * length * graph.hidden_size;
      runner.run(hidden.data() + begin, length, workspace, {});
    });
  }
  const ModelHead head(graph, source, precision);
  LogitsWorkspace workspace;
  std::vector<float> logits;
  const auto tokens = static_cast<int64_t>(ids.size());
  for (int64_t begin = 0; begin < tokens; begin += options.head_rows) {
    const auto rows = head.logits(hidden.data() + begin * graph.hidden_size,
                                  std::min(options.head_rows, tokens - begin), workspace);
    logits.insert(logits.end(), rows.begin(), rows.end());
  }
  return logits;
}

double relative_error(std::span<const float> found, std::span<const float> expected) {
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = static_cast<double>(found[i]) - static_cast<double>(expected[i]);
    error += difference * difference;
    norm += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
  }
  return std::sqrt(error / norm);
}

}  // namespace pare::testing
