// Times of the searches and solvers on the shapes of a small real model, and the rate of their
// rounding loop. Counters: weights/s; for what is bound by matrix products, FLOP/s.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <random>
#include <vector>

#include "core/thread_pool.h"
#include "quant/awq.h"
#include "quant/clip_search.h"
#include "quant/coordinate_descent.h"
#include "quant/obs_solver.h"
#include "quant/output_error.h"
#include "quant/smoothquant.h"
#include "sparsity/kept_weights.h"
#include "sparsity/sparsegpt.h"

namespace pare {
namespace {

constexpr GridSpec kInt4 = {WeightFormat::kInt4, 128, true};

/// A linear with decaying channel sizes; the Gram matrix comes from twice as many tokens.
struct BenchLayer {
  int64_t rows;
  int64_t columns;
  std::vector<float> weight;
  InputStatistics statistics;
  std::vector<float> gram;
  LinearGroup group;
  ThreadPool pool;

  BenchLayer(const benchmark::State& state)
      : rows(state.range(0)), columns(state.range(1)), pool(static_cast<size_t>(state.range(2))) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    const auto n = static_cast<size_t>(columns);
    weight.resize(static_cast<size_t>(rows) * n);
    for (float& value : weight) value = 0.02F * normal(random);
    statistics.in_features = columns;
    statistics.tokens = 1;
    statistics.gram.assign(n * n, 0);
    statistics.amax.assign(n, 0);
    statistics.mean_abs.assign(n, 0);
    statistics.square_sum.assign(n, 0);
    // A positive definite matrix with correlation 0.5^|i−j|, cheaper than tokens.
    for (size_t i = 0; i < n; ++i) {
      const double size = i % 16 == 5 ? 8.0 : 1.0;
      statistics.amax[i] = static_cast<float>(5 * size);
      statistics.mean_abs[i] = static_cast<float>(0.8 * size);
      statistics.square_sum[i] = size * size;
      for (size_t j = 0; j < n; ++j) {
        const size_t distance = i > j ? i - j : j - i;
        const double other = j % 16 == 5 ? 8.0 : 1.0;
        if (distance < 40) {
          statistics.gram[i * n + j] = size * other / static_cast<double>(uint64_t{1} << distance);
        }
      }
    }
    gram = mean_gram(statistics.gram, 1);
    group.in_features = columns;
    group.linears.push_back({"linear", rows, weight});
    group.statistics = &statistics;
  }
  double count() const { return static_cast<double>(weight.size()); }
};

void set_rate(benchmark::State& state, const char* name, double work) {
  state.counters[name] = benchmark::Counter(work, benchmark::Counter::kIsIterationInvariantRate);
}

void round_trip_int4(benchmark::State& state) {
  BenchLayer layer(state);
  const WeightGrid grid = absmax_grid(layer.weight, layer.rows, layer.columns, kInt4);
  for (auto _ : state) {
    benchmark::DoNotOptimize(round_trip(grid, layer.weight, layer.pool));
  }
  set_rate(state, "weights", layer.count());
}

void round_trip_fp8(benchmark::State& state) {
  BenchLayer layer(state);
  const WeightGrid grid = absmax_grid(layer.weight, layer.rows, layer.columns,
                                      {WeightFormat::kFp8E4m3, kPerTensor, true});
  for (auto _ : state) {
    benchmark::DoNotOptimize(round_trip(grid, layer.weight, layer.pool));
  }
  set_rate(state, "weights", layer.count());
}

void measure_output_error(benchmark::State& state) {
  BenchLayer layer(state);
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        output_error(layer.weight, layer.rows, layer.columns, layer.gram, layer.pool));
  }
  set_rate(state, "flop", 2 * layer.count() * static_cast<double>(layer.columns));
}

void clip_search(benchmark::State& state) {
  BenchLayer layer(state);
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        search_clip(layer.weight, layer.rows, layer.columns, kInt4, layer.gram, {}, layer.pool));
  }
  set_rate(state, "weights", layer.count());
}

void awq_search(benchmark::State& state) {
  BenchLayer layer(state);
  for (auto _ : state) {
    benchmark::DoNotOptimize(search_awq(layer.group, kInt4, /*clip=*/true, layer.pool));
  }
  set_rate(state, "weights", layer.count());
}

void smoothquant_search(benchmark::State& state) {
  BenchLayer layer(state);
  for (auto _ : state) {
    benchmark::DoNotOptimize(search_smoothquant(layer.group, {}, layer.pool));
  }
  set_rate(state, "weights", layer.count());
}

void factorize(benchmark::State& state) {
  BenchLayer layer(state);
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        factorize_inverse(layer.statistics.gram, layer.columns, 0.01, "layer"));
  }
  const auto n = static_cast<double>(layer.columns);
  set_rate(state, "flop", n * n * n * 2 / 3);
}

void sparsegpt_pass(benchmark::State& state) {
  BenchLayer layer(state);
  const InverseFactor factor =
      factorize_inverse(layer.statistics.gram, layer.columns, 0.01, "layer");
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        sparsegpt(layer.weight, layer.rows, layer.columns, factor, layer.pool));
  }
  set_rate(state, "weights", layer.count());
}

void gptq_with_scale_search(benchmark::State& state) {
  BenchLayer layer(state);
  const InverseFactor factor =
      factorize_inverse(layer.statistics.gram, layer.columns, 0.01, "layer");
  ObsProblem problem;
  problem.out_features = layer.rows;
  problem.in_features = layer.columns;
  problem.weight = layer.weight;
  problem.factor = &factor;
  problem.grid = absmax_grid(layer.weight, layer.rows, layer.columns, kInt4);
  problem.search_group_scale = true;
  for (auto _ : state) benchmark::DoNotOptimize(solve_obs(problem, layer.pool));
  set_rate(state, "weights", layer.count());
}

// Four times: out × in² multiplications and additions in one product, the rest is small beside it.
void coordinate_descent(benchmark::State& state) {
  BenchLayer layer(state);
  const WeightGrid start = absmax_grid(layer.weight, layer.rows, layer.columns, kInt4);
  const std::vector<int8_t> start_codes = encode(start, layer.weight, layer.pool);
  const std::vector<float> diagonal = descent_diagonal(layer.gram, layer.columns, {}, 0.01);
  for (auto _ : state) {
    WeightGrid grid = start;
    std::vector<int8_t> codes = start_codes;
    descend_codes(layer.weight, {}, {layer.gram, diagonal}, true, grid, codes, layer.pool);
    benchmark::DoNotOptimize(codes.data());
  }
  const auto in = static_cast<double>(layer.columns);
  set_rate(state, "flop", 4 * 2 * static_cast<double>(layer.rows) * in * in);
}

void kept_weights(benchmark::State& state) {
  BenchLayer layer(state);
  std::vector<uint8_t> keep(layer.weight.size());
  for (size_t i = 0; i < keep.size(); ++i) keep[i] = i % 4 < 2 ? 1 : 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(solve_kept_weights(layer.weight, layer.weight, keep, layer.rows,
                                                layer.columns, layer.gram, {}, layer.pool));
  }
  set_rate(state, "weights", layer.count());
}

/// [out, in, threads]
void shapes(benchmark::internal::Benchmark* benchmark) {
  for (const int64_t threads : {1, 2}) {
    benchmark->Args({1792, 640, threads})->Args({640, 1792, threads});
  }
  benchmark->Unit(benchmark::kMillisecond)->UseRealTime()->MeasureProcessCPUTime();
}

BENCHMARK(round_trip_int4)->Apply(shapes);
BENCHMARK(round_trip_fp8)->Apply(shapes);
BENCHMARK(measure_output_error)->Apply(shapes);
BENCHMARK(clip_search)->Apply(shapes);
BENCHMARK(awq_search)->Apply(shapes);
BENCHMARK(smoothquant_search)->Apply(shapes);
BENCHMARK(factorize)->Apply(shapes);
BENCHMARK(sparsegpt_pass)->Apply(shapes);
BENCHMARK(gptq_with_scale_search)->Apply(shapes);
BENCHMARK(coordinate_descent)->Apply(shapes);
BENCHMARK(kept_weights)->Apply(shapes);

}  // namespace
}  // namespace pare
