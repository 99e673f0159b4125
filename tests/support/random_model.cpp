#include "tests/support/random_model.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

#include "core/thread_pool.h"
#include "model/architectures.h"
#include "model/block_parameters.h"
#include "model/layer_runner.h"
#include "model/model_head.h"
#include "model/token_embedding.h"

namespace pare::testing {
namespace {

class Filler {
 public:
  Filler(MemorySource& source, uint32_t seed) : source_(source), random_(seed) {}

  void block(const BlockGraph& block) {
    for (const Parameter& parameter : block_parameters(block)) {
      if (parameter.op >= block.ops.size()) {
        set(parameter, [&] { return 0.2F * normal_(random_); });  // of the router, for the choice
      } else {
        of_op(block, block.ops[parameter.op], parameter);
      }
    }
  }

  // Embeddings, positions, the head.
  void outer(const Parameter& parameter) {
    const float deviation = parameter.name.find("position") != std::string::npos ? 0.3F : 1.0F;
    if (!parameter.optional) set(parameter, [&] { return deviation * normal_(random_); });
  }

 private:
  void of_op(const BlockGraph& block, const Op& op, const Parameter& parameter) {
    const bool bias = parameter.name.ends_with("bias");
    switch (op.kind) {
      case OpKind::kNorm:
        return set(parameter, [&] {
          return 0.2F * normal_(random_) + (bias ? 0 : 1 - op.norm.weight_offset);
        });
      case OpKind::kLinear: {
        // Routers get weights that tell experts apart.
        const float size = op.linear.wide ? 3.0F : 1.0F;
        const auto in = static_cast<float>(block.in_features(op));
        const float deviation = bias ? 0.3F : size / std::sqrt(in);
        return set(parameter, [&] { return deviation * normal_(random_); });
      }
      case OpKind::kConvolution:
        return set(parameter, [&] { return (bias ? 0.2F : 0.5F) * normal_(random_); });
      case OpKind::kSelectiveScan:
      case OpKind::kStateSpaceScan:
        return of_scan(parameter, bias);
      default:
        return set(parameter, [&] { return 0.5F * normal_(random_); });
    }
  }

  // The usual ranges at the start of training: −A from 1 to 16, steps from 0.001 to 0.5.
  void of_scan(const Parameter& parameter, bool bias) {
    std::uniform_real_distribution<float> uniform(0, 1);
    if (bias) {
      return set(parameter, [&] {
        const float step = 0.001F * std::pow(500.0F, uniform(random_));
        return std::log(std::expm1(step));  // softplus undone
      });
    }
    if (parameter.name.ends_with("A_log")) {
      return set(parameter, [&] { return std::log(1 + 15 * uniform(random_)); });
    }
    set(parameter, [&] { return 1 + 0.2F * normal_(random_); });
  }

  void set(const Parameter& parameter, const std::function<float()>& value) {
    if (source_.contains(parameter.name)) return;
    MemoryTensor tensor{parameter.shape, {}};
    tensor.values.resize(static_cast<size_t>(element_count(parameter.shape)));
    std::generate(tensor.values.begin(), tensor.values.end(), value);
    source_.set(parameter.name, std::move(tensor));
  }

  MemorySource& source_;
  std::mt19937 random_;
  std::normal_distribution<float> normal_;
};

// One stack of a model over all sequences.
class StackRun {
 public:
  StackRun(const WeightSource& source, Precision precision, const SequenceRunOptions& options,
           ThreadPool& pool)
      : source_(source), precision_(precision), options_(options), pool_(pool) {}

  void add(const EmbeddingSpec& spec, const std::vector<int32_t>& ids) {
    const TokenEmbedding embedding(spec, source_, precision_);
    const int64_t width = spec.stem.width(spec.stem.output);
    hidden_.emplace_back(ids.size() * static_cast<size_t>(width));
    embedding.embed(ids, 0, hidden_.back().data());
    segments_.push_back({static_cast<int64_t>(ids.size()), 0});
  }

  void add_memory(const std::vector<float>& memory, int64_t width) {
    memory_.emplace_back(memory.data(), static_cast<int64_t>(memory.size()) / width);
    memory_rows_ = std::max(memory_rows_, memory_.back().second);
  }

  std::vector<std::vector<float>>& run(const std::vector<BlockGraph>& blocks) {
    for (const BlockGraph& block : blocks) run(block);
    return hidden_;
  }

 private:
  void run(const BlockGraph& block) {
    const BlockWeights weights = load_block(block, source_, precision_);
    PositionTables positions(options_.positions);
    const BlockRunner runner(block, weights, positions, precision_);
    std::vector<BlockWorkspace> workspaces;
    for (size_t i = 0; i < pool_.size(); ++i) {
      const WorkspaceSize size{.length = options_.positions, .memory_length = memory_rows_};
      workspaces.emplace_back(block, size, precision_);
    }
    std::vector<SequenceRun> runs;
    for (size_t i = 0; i < hidden_.size(); ++i) {
      runs.push_back({.hidden = hidden_[i].data(), .segments = {&segments_[i], 1}});
      if (block.memory < 0) continue;
      runs.back().memory = memory_[i].first;
      runs.back().memory_rows = memory_[i].second;
    }
    LayerCall call;
    call.sequences = runs;
    call.workspaces = workspaces;
    call.precision = precision_;
    if (!runner.has_experts()) {
      run_layer(runner, call, pool_, clamps_);
      return;
    }
    call.experts.load = expert_loader(block, source_, precision_);
    ExpertRows tokens = run_to_experts(runner, call, pool_);
    run_experts(block, call.experts, precision_, pool_, tokens, clamps_);
    run_from_experts(runner, call, pool_, tokens);
    if (options_.experts != nullptr) (*options_.experts)[block.prefix] = tokens.experts;
  }

  const WeightSource& source_;
  Precision precision_;
  const SequenceRunOptions& options_;
  ThreadPool& pool_;
  ClampCount clamps_;
  std::vector<std::vector<float>> hidden_;
  std::vector<Segment> segments_;
  std::vector<std::pair<const float*, int64_t>> memory_;
  int64_t memory_rows_ = 0;
};

std::vector<float> apply_tail(const BlockGraph& tail, const WeightSource& source,
                              Precision precision, std::vector<float>& hidden) {
  const BlockWeights weights = load_block(tail, source, precision);
  PositionTables positions(1);
  const BlockRunner runner(tail, weights, positions, precision);
  BlockWorkspace workspace(tail, {.length = kChunkTokens}, precision);
  const auto rows = static_cast<int64_t>(hidden.size()) / tail.widths[0];
  std::vector<float> out(static_cast<size_t>(rows * tail.width(tail.output)));
  for (int64_t first = 0; first < rows; first += kChunkTokens) {
    runner.apply(hidden.data() + first * tail.widths[0], std::min(kChunkTokens, rows - first),
                 workspace, out.data() + first * tail.width(tail.output));
  }
  return out;
}

std::vector<float> logits_of(const ModelHead& head, const ModelGraph& graph,
                             const std::vector<float>& hidden, int64_t head_rows) {
  LogitsWorkspace workspace;
  std::vector<float> logits;
  const auto tokens = static_cast<int64_t>(hidden.size()) / graph.hidden_size;
  for (int64_t begin = 0; begin < tokens; begin += head_rows) {
    const auto rows = head.logits(hidden.data() + begin * graph.hidden_size,
                                  std::min(head_rows, tokens - begin), workspace);
    logits.insert(logits.end(), rows.begin(), rows.end());
  }
  return logits;
}

std::vector<int32_t> draw_ids(int64_t vocabulary, int64_t count, std::mt19937& random) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) {
    ids.push_back(static_cast<int32_t>(random() % static_cast<uint64_t>(vocabulary)));
  }
  return ids;
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
  Filler filler(source, seed);
  for_each_block(graph, [&](const BlockGraph& block) { filler.block(block); });
  filler.block(graph.embedding.stem);
  filler.block(graph.head.tail);
  if (graph.encoder) {
    filler.block(graph.encoder->embedding.stem);
    filler.block(graph.encoder->tail);
  }
  for (const Parameter& parameter : outer_parameters(graph)) filler.outer(parameter);
  return source;
}

std::vector<int32_t> random_ids(const ModelGraph& graph, int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  return draw_ids(graph.embedding.vocab_size, count, random);
}

std::vector<Sequence> random_sequences(const ModelGraph& graph, const std::vector<int64_t>& lengths,
                                       uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<Sequence> sequences;
  for (const int64_t length : lengths) {
    Sequence sequence{draw_ids(graph.embedding.vocab_size, length, random), {}};
    if (graph.encoder) {
      sequence.source = draw_ids(graph.encoder->embedding.vocab_size, length + 2, random);
    }
    sequences.push_back(std::move(sequence));
  }
  return sequences;
}

std::vector<std::vector<float>> run_sequences(const ModelGraph& graph, const WeightSource& source,
                                              std::span<const Sequence> sequences,
                                              Precision precision,
                                              const SequenceRunOptions& options) {
  ThreadPool pool(static_cast<size_t>(options.threads));
  std::vector<std::vector<float>> memory;
  if (graph.encoder) {
    StackRun encoder(source, precision, options, pool);
    for (const Sequence& one : sequences) encoder.add(graph.encoder->embedding, one.source);
    for (std::vector<float>& hidden : encoder.run(graph.encoder->blocks)) {
      memory.push_back(apply_tail(graph.encoder->tail, source, precision, hidden));
    }
  }
  StackRun decoder(source, precision, options, pool);
  for (const Sequence& one : sequences) decoder.add(graph.embedding, one.ids);
  for (const std::vector<float>& one : memory) {
    decoder.add_memory(one, graph.encoder->tail.width(graph.encoder->tail.output));
  }
  const ModelHead head(graph, source, precision);
  std::vector<std::vector<float>> logits;
  for (const std::vector<float>& hidden : decoder.run(graph.blocks)) {
    logits.push_back(logits_of(head, graph, hidden, options.head_rows));
  }
  return logits;
}

std::vector<float> run_model(const WeightSource& source, std::span<const int32_t> ids,
                             int64_t length, Precision precision,
                             const SequenceRunOptions& options) {
  const ModelGraph graph = describe_model(source.config_json(), source.path());
  std::vector<Sequence> sequences;
  for (size_t begin = 0; begin < ids.size(); begin += static_cast<size_t>(length)) {
    const auto part = ids.subspan(begin, static_cast<size_t>(length));
    sequences.push_back({{part.begin(), part.end()}, {}});
  }
  SequenceRunOptions own = options;
  own.positions = std::max(options.positions, length);
  std::vector<float> logits;
  for (const std::vector<float>& one : run_sequences(graph, source, sequences, precision, own)) {
    logits.insert(logits.end(), one.begin(), one.end());
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
