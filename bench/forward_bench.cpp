// Share of the speed of light that the BF16 forward pass reaches.
//
//   forward_bench [--model DIR] [--sequences 64] [--length 512]
//
// Times two things in one run, layer by layer in turn, so that both see the same machine:
//   forward  the whole pass over a batch: embedding, blocks, final norm, logits, and the
//            log-probability of each next token. Reading and packing of weights is timed apart.
//   matmul   oneDNN's BF16 products alone: the same shapes, the same number of times, on inputs
//            that are bfloat16 and in the cache already.
// A token's FLOPs are 2 × the parameters of all linears that it meets (of the experts, those of the
// ones that it chooses) and of the head, and for attention 2 × (key width + value width) × keys
// that it sees; the second share counts those too. Additions and multiplications of norms, softmax,
// rotary embedding, activations, convolutions and scans are not counted. Models without an encoder.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "formats/weight_source.h"
#include "kernels/vector_math.h"
#include "model/layer_runner.h"
#include "model/model_files.h"
#include "model/model_head.h"
#include "model/token_embedding.h"
#include "pare/error.h"

namespace {

using pare::BlockGraph;
using pare::Precision;
using Clock = std::chrono::steady_clock;

constexpr int64_t kHeadRows = 64;

struct Options {
  std::string model = "demo/model";
  int64_t sequences = 64;
  int64_t length = 512;
};

// Seconds and FLOPs of a run with one number of threads.
struct Result {
  double load_seconds = 0;
  double forward_seconds = 0;
  double matmul_seconds = 0;
  double linear_flops = 0;
  double attention_flops = 0;
  double mean_loss = 0;  // nats a token, so that nothing can be skipped
};

class StopWatch {
 public:
  explicit StopWatch(double& total) : total_(total), begin_(Clock::now()) {}
  ~StopWatch() { total_ += std::chrono::duration<double>(Clock::now() - begin_).count(); }
  StopWatch(const StopWatch&) = delete;
  StopWatch& operator=(const StopWatch&) = delete;

 private:
  double& total_;
  Clock::time_point begin_;
};

int64_t chunk_count(int64_t length, int64_t chunk) { return (length + chunk - 1) / chunk; }

// Runs [out, in] products on `rows` rows, `count` times, spread over the threads of the pool.
void time_products(pare::ThreadPool& pool, int64_t out, int64_t in, int64_t rows, int64_t count,
                   double& seconds) {
  std::mt19937 random(1);
  const auto fill = [&](int64_t size) {
    std::vector<uint16_t> values(static_cast<size_t>(size));
    for (uint16_t& value : values) value = static_cast<uint16_t>(0x3c00 + random() % 0x300);
    return values;
  };
  const pare::PackedMatrix matrix = pare::PackedMatrix::bf16(fill(out * in), out, in);
  struct Worker {
    pare::MatmulScratch scratch;
    std::vector<uint16_t> x;
    std::vector<float> y;
  };
  std::vector<Worker> workers(pool.size());
  for (Worker& worker : workers) {
    worker.x = fill(pare::padded_rows(rows) * in);
    worker.y.resize(static_cast<size_t>(pare::padded_rows(rows) * out));
    matrix.multiply_bf16(worker.x.data(), rows, worker.y.data(), worker.scratch);
  }
  const StopWatch watch(seconds);
  pool.parallel_for(static_cast<size_t>(count), [&](size_t, size_t number) {
    Worker& worker = workers[number];
    matrix.multiply_bf16(worker.x.data(), rows, worker.y.data(), worker.scratch);
  });
}

double keys_seen(int64_t length, int64_t window) {
  double keys = 0;
  for (int64_t token = 0; token < length; ++token) {
    keys += static_cast<double>(window > 0 ? std::min(window, token + 1) : token + 1);
  }
  return keys;
}

// Products of the linears of a block over `tokens` rows in chunks, `count` of them of `rows`.
void count_linears(const BlockGraph& block, double tokens, int64_t rows, int64_t count,
                   pare::ThreadPool& pool, Result& result) {
  for (const pare::Op& op : block.ops) {
    if (op.kind != pare::OpKind::kLinear) continue;
    const int64_t out = block.out_features(op);
    const int64_t in = block.in_features(op);
    result.linear_flops += 2 * tokens * static_cast<double>(out * in);
    time_products(pool, out, in, rows, count, result.matmul_seconds);
  }
}

// Every expert gets its share of the tokens.
void count_experts(const BlockGraph& block, const Options& options, pare::ThreadPool& pool,
                   Result& result) {
  const pare::ExpertsSpec& experts = *block.experts;
  const int64_t tokens = options.sequences * options.length * experts.chosen;
  const int64_t of_one = std::max<int64_t>(1, tokens / experts.count);
  const int64_t rows = std::min(pare::kChunkTokens, of_one);
  count_linears(*experts.expert, static_cast<double>(tokens), rows,
                experts.count * chunk_count(of_one, rows), pool, result);
}

void run_block(const BlockGraph& block, const pare::WeightSource& source, const Options& options,
               pare::ThreadPool& pool, std::vector<float>& hidden, Result& result) {
  pare::BlockWeights weights;
  {
    const StopWatch watch(result.load_seconds);
    weights = pare::load_block(block, source, Precision::kBf16);
  }
  const int64_t stride = options.length * block.widths[0];
  {
    const StopWatch watch(result.forward_seconds);
    pare::PositionTables positions(options.length);
    const pare::BlockRunner runner(block, weights, positions, Precision::kBf16);
    std::vector<pare::BlockWorkspace> workspaces;
    for (size_t i = 0; i < pool.size(); ++i) {
      workspaces.emplace_back(block, pare::WorkspaceSize{.length = options.length},
                              Precision::kBf16);
    }
    const pare::Segment whole{options.length, 0};
    std::vector<pare::SequenceRun> sequences(static_cast<size_t>(options.sequences));
    for (size_t i = 0; i < sequences.size(); ++i) {
      sequences[i].hidden = hidden.data() + static_cast<int64_t>(i) * stride;
      sequences[i].segments = {&whole, 1};
    }
    pare::LayerCall call;
    call.sequences = sequences;
    call.workspaces = workspaces;
    // Experts are read while they run: here that is a part of the pass.
    if (runner.has_experts()) {
      call.experts.load = pare::expert_loader(block, source, Precision::kBf16);
    }
    pare::ClampCount clamps;
    pare::run_layer(runner, call, pool, clamps);
  }
  const auto tokens = static_cast<double>(options.sequences * options.length);
  const int64_t rows = std::min(pare::kChunkTokens, options.length);
  const int64_t count = options.sequences * chunk_count(options.length, pare::kChunkTokens);
  count_linears(block, tokens, rows, count, pool, result);
  if (block.experts) count_experts(block, options, pool, result);
  for (const pare::AttentionSpec& attention : block.attentions) {
    const pare::AttentionShape& shape = attention.shape;
    const auto width = static_cast<double>(shape.heads * (shape.head_dim + shape.value_width()));
    result.attention_flops += 2 * width * static_cast<double>(options.sequences) *
                              keys_seen(options.length, shape.window);
  }
}

void run_head(const pare::ModelGraph& graph, const pare::WeightSource& source,
              const std::vector<int32_t>& ids, pare::ThreadPool& pool,
              const std::vector<float>& hidden, Result& result) {
  const auto load = [&] {
    const StopWatch watch(result.load_seconds);
    return pare::ModelHead(graph, source, Precision::kBf16);
  };
  const pare::ModelHead head = load();
  const auto tokens = static_cast<int64_t>(ids.size());
  const int64_t count = chunk_count(tokens, kHeadRows);
  std::vector<double> losses(static_cast<size_t>(count));
  {
    const StopWatch watch(result.forward_seconds);
    std::vector<pare::LogitsWorkspace> workspaces(pool.size());
    pool.parallel_for(losses.size(), [&](size_t chunk, size_t worker) {
      const int64_t begin = static_cast<int64_t>(chunk) * kHeadRows;
      const int64_t rows = std::min(kHeadRows, tokens - begin);
      const std::span<const float> logits =
          head.logits(hidden.data() + begin * graph.hidden_size, rows, workspaces[worker]);
      const auto vocabulary = static_cast<size_t>(graph.vocab_size);
      for (int64_t row = 0; row < rows; ++row) {
        const auto one = logits.subspan(static_cast<size_t>(row) * vocabulary, vocabulary);
        const auto target =
            static_cast<size_t>(ids[static_cast<size_t>((begin + row + 1) % tokens)]);
        losses[chunk] += pare::log_sum_exp(one).log_sum_exp - static_cast<double>(one[target]);
      }
    });
  }
  for (const double loss : losses) result.mean_loss += loss / static_cast<double>(tokens);
  const BlockGraph& tail = graph.head.tail;
  const int64_t width = tail.width(tail.output);
  result.linear_flops +=
      2 * static_cast<double>(tokens) * static_cast<double>(graph.vocab_size * width);
  time_products(pool, graph.vocab_size, width, std::min(kHeadRows, tokens), count,
                result.matmul_seconds);
}

Result measure(const pare::WeightSource& source, const pare::ModelGraph& graph,
               const Options& options, size_t threads) {
  pare::ThreadPool pool(threads);
  Result result;
  std::mt19937 random(1);
  std::vector<int32_t> ids(static_cast<size_t>(options.sequences * options.length));
  for (int32_t& id : ids) {
    id = static_cast<int32_t>(random() % static_cast<uint64_t>(graph.vocab_size));
  }
  std::vector<float> hidden(ids.size() * static_cast<size_t>(graph.hidden_size));
  {
    const StopWatch watch(result.forward_seconds);
    const pare::TokenEmbedding embedding(graph.embedding, source, Precision::kBf16);
    for (int64_t first = 0; first < static_cast<int64_t>(ids.size()); first += options.length) {
      embedding.embed(
          std::span(ids).subspan(static_cast<size_t>(first), static_cast<size_t>(options.length)),
          0, hidden.data() + first * graph.hidden_size);
    }
  }
  for (const BlockGraph& block : graph.blocks) {
    run_block(block, source, options, pool, hidden, result);
  }
  run_head(graph, source, ids, pool, hidden, result);
  return result;
}

void print(const Options& options, size_t threads, const Result& result) {
  const auto tokens = static_cast<double>(options.sequences * options.length);
  const double light = result.linear_flops / result.matmul_seconds;
  const double linear = result.linear_flops / result.forward_seconds;
  const double all = (result.linear_flops + result.attention_flops) / result.forward_seconds;
  std::printf("%7zu %10.0f %12.1f %12.1f %12.1f %10.3f %10.3f %8.2f %8.2f %8.4f\n", threads,
              tokens / result.forward_seconds, linear / 1e9, all / 1e9, light / 1e9, linear / light,
              all / light, result.forward_seconds, result.load_seconds, result.mean_loss);
}

int64_t positive(const std::string& flag, const char* text) {
  const int64_t value = std::atoll(text);
  if (value > 0) return value;
  throw pare::Error(pare::ErrorCode::kUsage, flag + " expects a positive number");
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (i + 1 == argc) throw pare::Error(pare::ErrorCode::kUsage, flag + " expects a value");
    if (flag == "--model") {
      options.model = argv[++i];
    } else if (flag == "--sequences") {
      options.sequences = positive(flag, argv[++i]);
    } else if (flag == "--length") {
      options.length = positive(flag, argv[++i]);
    } else {
      throw pare::Error(pare::ErrorCode::kUsage, "unknown option " + flag);
    }
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) try {
  const Options options = parse(argc, argv);
  const pare::ModelFiles model = pare::open_model_files(options.model);
  if (model.graph.encoder) {
    throw pare::Error(pare::ErrorCode::kUsage, options.model + " has an encoder");
  }
  std::printf("%s, %lld x %lld tokens, %s\n", options.model.c_str(),
              static_cast<long long>(options.sequences), static_cast<long long>(options.length),
              pare::matmul_kernels().c_str());
  std::printf("%7s %10s %12s %12s %12s %10s %10s %8s %8s %8s\n", "threads", "tokens/s",
              "GF/s linear", "GF/s +attn", "GF/s matmul", "share", "share+attn", "forward s",
              "load s", "nats");
  for (const size_t threads : {size_t{1}, size_t{2}}) {
    print(options, threads, measure(*model.source, model.graph, options, threads));
  }
  return 0;
} catch (const pare::Error& error) {
  std::fprintf(stderr, "forward_bench: %s\n", error.what());
  return static_cast<int>(error.code());
}
