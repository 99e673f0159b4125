// Bytes read a second by the functions of kernels/vector_math.h, on rows as a model has them.
#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "kernels/vector_math.h"

namespace pare {
namespace {

std::vector<float> normal_row(int64_t size, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0F, 3.0F);
  std::vector<float> row(static_cast<size_t>(size));
  for (float& value : row) value = normal(generator);
  return row;
}

void count_bytes(benchmark::State& state, int rows) {
  state.SetBytesProcessed(state.iterations() * state.range(0) * rows *
                          static_cast<int64_t>(sizeof(float)));
}

void bench_rms_norm(benchmark::State& state) {
  const auto x = normal_row(state.range(0), 1);
  const auto weight = normal_row(state.range(0), 2);
  std::vector<float> out(x.size());
  for (auto _ : state) {
    rms_norm_row(x, weight, 1e-5F, out);
    benchmark::ClobberMemory();
  }
  count_bytes(state, 1);
}

void bench_silu_multiply(benchmark::State& state) {
  const auto gate = normal_row(state.range(0), 1);
  const auto up = normal_row(state.range(0), 2);
  std::vector<float> out(gate.size());
  for (auto _ : state) {
    silu_multiply(gate, up, out);
    benchmark::ClobberMemory();
  }
  count_bytes(state, 2);
}

void bench_gelu_erf(benchmark::State& state) {
  const auto gate = normal_row(state.range(0), 1);
  const auto up = normal_row(state.range(0), 2);
  std::vector<float> out(gate.size());
  for (auto _ : state) {
    gelu_erf_multiply(gate, up, out);
    benchmark::ClobberMemory();
  }
  count_bytes(state, 2);
}

void bench_exp_sum(benchmark::State& state) {
  const auto scores = normal_row(state.range(0), 1);
  std::vector<uint16_t> out(scores.size());
  for (auto _ : state) {
    const float max = max_row(scores);
    benchmark::DoNotOptimize(exp_sum_row(scores, 1.0F, max, out));
  }
  count_bytes(state, 1);
}

void bench_log_sum_exp(benchmark::State& state) {
  const auto logits = normal_row(state.range(0), 1);
  for (auto _ : state) benchmark::DoNotOptimize(log_sum_exp(logits));
  count_bytes(state, 1);
}

void bench_kl_divergence(benchmark::State& state) {
  const auto base = normal_row(state.range(0), 1);
  const auto other = normal_row(state.range(0), 2);
  const double base_sum = log_sum_exp(base).log_sum_exp;
  const double sum = log_sum_exp(other).log_sum_exp;
  for (auto _ : state) benchmark::DoNotOptimize(kl_divergence(base, base_sum, other, sum));
  count_bytes(state, 2);
}

BENCHMARK(bench_rms_norm)->Arg(576)->Arg(4096);
BENCHMARK(bench_silu_multiply)->Arg(1536)->Arg(14336);
BENCHMARK(bench_gelu_erf)->Arg(14336);
BENCHMARK(bench_exp_sum)->Arg(512)->Arg(2048);
BENCHMARK(bench_log_sum_exp)->Arg(49152)->Arg(262144);
BENCHMARK(bench_kl_divergence)->Arg(49152)->Arg(262144);

}  // namespace
}  // namespace pare
