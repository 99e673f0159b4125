// How close packing a weight comes to the speed of memory.
//
// A BF16 weight of 1 GiB ([131072, 4096]) is packed on one thread to FP8 (per tensor), INT8 (per
// channel) and INT4 (groups of 128), its scales included. Each repetition times a memcpy of the
// same GiB first, so that both see the same state of the machine; `share_of_memcpy` is the median
// memcpy's time over the median packing's time. All pages are touched before anything is timed.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "core/compressed_weight.h"
#include "core/dtype.h"
#include "kernels/codec.h"

namespace pare {
namespace {

constexpr size_t kColumns = 4096;
constexpr size_t kBytes = size_t{1} << 30;
constexpr size_t kRows = kBytes / (kColumns * sizeof(uint16_t));
constexpr size_t kGroup = 128;

/// Normal values; a megabyte of them over and over, because drawing a GiB would take minutes.
std::vector<uint16_t> make_weight() {
  std::mt19937 generator(1);
  std::normal_distribution<float> normal(0.0F, 0.02F);
  std::vector<uint16_t> weight(kRows * kColumns);
  const size_t drawn = size_t{1} << 19;
  for (size_t i = 0; i < drawn; ++i) weight[i] = f32_to_bf16(normal(generator));
  for (size_t i = drawn; i < weight.size(); i += drawn) {
    std::copy_n(weight.begin(), drawn, weight.begin() + static_cast<ptrdiff_t>(i));
  }
  return weight;
}

struct Buffers {
  std::vector<uint16_t> weight = make_weight();
  std::vector<uint16_t> copy = std::vector<uint16_t>(kRows * kColumns);
  std::vector<uint8_t> codes = std::vector<uint8_t>(kRows * kColumns);
  std::vector<float> scale = std::vector<float>(kRows * kColumns / kGroup);
};

Buffers& buffers() {
  static Buffers all;
  return all;
}

void pack_fp8(Buffers& b) {
  b.scale[0] = symmetric_scale(absmax_bf16(b.weight), kE4m3Max);
  quantize_e4m3_bf16(b.weight, 1.0F / b.scale[0], b.codes);
}

void pack_int8(Buffers& b) {
  const std::span codes(reinterpret_cast<int8_t*>(b.codes.data()), b.codes.size());
  const std::span<const uint16_t> weight(b.weight);
  for (size_t row = 0; row < kRows; ++row) {
    b.scale[row] = scale_and_quantize_int8_bf16(weight.subspan(row * kColumns, kColumns), 127.0F,
                                                codes.subspan(row * kColumns, kColumns));
  }
}

void pack_int4(Buffers& b) {
  constexpr size_t kGroups = kColumns / kGroup;
  const std::span<const uint16_t> weight(b.weight);
  for (size_t row = 0; row < kRows; ++row) {
    scale_and_quantize_int4_row_bf16(weight.subspan(row * kColumns, kColumns), kGroup, 7.0F,
                                     std::span(b.scale).subspan(row * kGroups, kGroups),
                                     std::span(b.codes).subspan(row * kColumns / 2, kColumns / 2));
  }
}

template <typename Body>
double seconds(Body body) {
  const auto begin = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

void over_memcpy(benchmark::State& state, void (*pack)(Buffers&)) {
  Buffers& b = buffers();
  std::vector<double> copies;
  std::vector<double> packs;
  for (auto _ : state) {
    copies.push_back(seconds([&] { std::memcpy(b.copy.data(), b.weight.data(), kBytes); }));
    benchmark::ClobberMemory();
    packs.push_back(seconds([&] { pack(b); }));
    benchmark::ClobberMemory();
    state.SetIterationTime(packs.back());
  }
  constexpr double kGigabyte = 1e9;
  state.counters["share_of_memcpy"] = median(copies) / median(packs);
  state.counters["memcpy_GB/s"] = static_cast<double>(kBytes) / kGigabyte / median(copies);
  state.counters["read_GB/s"] = static_cast<double>(kBytes) / kGigabyte / median(packs);
}

BENCHMARK_CAPTURE(over_memcpy, fp8_per_tensor, &pack_fp8)->UseManualTime()->Iterations(7);
BENCHMARK_CAPTURE(over_memcpy, int8_per_channel, &pack_int8)->UseManualTime()->Iterations(7);
BENCHMARK_CAPTURE(over_memcpy, int4_group_128, &pack_int4)->UseManualTime()->Iterations(7);

/// What a layer pays before it is multiplied: codes to the matrix that the product uses.
void expand(benchmark::State& state, WeightFormat format, int64_t group_size, bool sparse) {
  CompressedWeight weight;
  weight.format = format;
  weight.out_features = 1024;
  weight.in_features = static_cast<int64_t>(kColumns);
  weight.group_size = group_size;
  const size_t size = 1024 * kColumns;
  std::vector<uint8_t> keep;
  for (size_t i = 0; sparse && i < size; ++i) keep.push_back(i % 4 < 2 ? 1 : 0);
  if (format == WeightFormat::kBf16) {
    pack_bf16_weight(std::vector<uint16_t>(size, 0x3f80), keep, weight);
  } else {
    weight.scale.assign(static_cast<size_t>(weight.groups()) * 1024, 0.01F);
    pack_codes(std::vector<int8_t>(size, 5), keep, weight);
  }
  std::vector<uint16_t> bf16(size);
  std::vector<int8_t> int8(size);
  for (auto _ : state) {
    if (format == WeightFormat::kInt8) {
      expand_to_int8(weight, 0, weight.out_features, int8);
    } else {
      expand_to_bf16(weight, 0, weight.out_features, bf16);
    }
    benchmark::ClobberMemory();
  }
  const size_t written = size * (format == WeightFormat::kInt8 ? 1 : 2);
  state.SetBytesProcessed(static_cast<int64_t>(written) * state.iterations());
}

BENCHMARK_CAPTURE(expand, bf16_2_4, WeightFormat::kBf16, kPerTensor, true);
BENCHMARK_CAPTURE(expand, fp8, WeightFormat::kFp8E4m3, kPerTensor, false);
BENCHMARK_CAPTURE(expand, fp8_2_4, WeightFormat::kFp8E4m3, kPerTensor, true);
BENCHMARK_CAPTURE(expand, int8_2_4, WeightFormat::kInt8, kPerChannel, true);
BENCHMARK_CAPTURE(expand, int4_group_128, WeightFormat::kInt4, int64_t{kGroup}, false);
BENCHMARK_CAPTURE(expand, int4_group_128_2_4, WeightFormat::kInt4, int64_t{kGroup}, true);

void pack_dense(benchmark::State& state, WeightFormat format, bool sparse) {
  CompressedWeight weight;
  weight.format = format;
  weight.out_features = 1024;
  weight.in_features = static_cast<int64_t>(kColumns);
  const std::vector<int8_t> codes(1024 * kColumns, 5);
  std::vector<uint8_t> keep;
  for (size_t i = 0; sparse && i < codes.size(); ++i) keep.push_back(i % 4 < 2 ? 1 : 0);
  for (auto _ : state) {
    pack_codes(codes, keep, weight);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(static_cast<int64_t>(codes.size()) * state.iterations());
}

BENCHMARK_CAPTURE(pack_dense, int4, WeightFormat::kInt4, false);
BENCHMARK_CAPTURE(pack_dense, int4_2_4, WeightFormat::kInt4, true);
BENCHMARK_CAPTURE(pack_dense, int8_2_4, WeightFormat::kInt8, true);

}  // namespace
}  // namespace pare
