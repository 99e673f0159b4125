#include "calib/statistics_collector.h"

#include <algorithm>
#include <cmath>

#include "core/dtype.h"
#include "kernels/codec.h"
#include "pare/error.h"

namespace pare {
namespace {

// Products of bfloat16 values are exact in FP32; sums of up to 512 tokens stay in FP32, beyond that
// they are added in FP64.
constexpr int64_t kTokenBlock = 512;
constexpr int64_t kGramTile = 256;
constexpr int64_t kChannelTile = 64;

}  // namespace

StatisticsCollector::StatisticsCollector(const std::vector<WatchedValue>& values, int64_t windows,
                                         int64_t length, int64_t batch_windows, ThreadPool& pool)
    : pool_(pool),
      length_(length),
      // Rounded up: the sample must reach the last tokens, too.
      sample_stride_(std::max<int64_t>(1, (windows * length + kSampleTokens - 1) / kSampleTokens)),
      scratch_(pool.size()),
      product_buffers_(pool.size()) {
  for (const WatchedValue& value : values) {
    Watched& watched = watched_[value.value];
    InputStatistics& statistics = watched.statistics;
    const auto in = static_cast<size_t>(value.in_features);
    watched.wants_gram = value.gram;
    watched.batch.resize(static_cast<size_t>(batch_windows * length) * in);
    watched.magnitude.assign(in, 0);
    statistics.in_features = value.in_features;
    statistics.amax.assign(in, 0);
    statistics.square_sum.assign(in, 0);
    if (!value.gram) continue;
    statistics.gram.assign(in * in, 0);
    for (const int64_t m : {kGramTile, value.in_features % kGramTile}) {
      for (const int64_t n : {kGramTile, value.in_features % kGramTile}) {
        for (const int64_t k : {kTokenBlock, length % kTokenBlock}) {
          if (m == 0 || n == 0 || k == 0 || m > value.in_features || n > value.in_features ||
              k > length) {
            continue;
          }
          const std::vector<int64_t> key{m, n, k, value.in_features};
          if (products_.contains(key)) continue;
          products_[key] = std::make_unique<TileMatmul>(TileShape{.m = m,
                                                                  .n = n,
                                                                  .k = k,
                                                                  .transpose_a = true,
                                                                  .lda = value.in_features,
                                                                  .ldb = value.in_features});
        }
      }
    }
  }
}

StatisticsCollector::~StatisticsCollector() = default;

int64_t StatisticsCollector::memory_bytes(const std::vector<WatchedValue>& values, int64_t length,
                                          int64_t batch_windows) {
  int64_t bytes = 0;
  for (const WatchedValue& value : values) {
    bytes += batch_windows * length * value.in_features * 2;
    bytes += kSampleTokens * value.in_features * 2;
    if (value.gram) bytes += value.in_features * value.in_features * 8;
  }
  return bytes;
}

void StatisticsCollector::begin_batch(int64_t first, int64_t count) {
  batch_first_ = first;
  batch_count_ = count;
}

InputObserver StatisticsCollector::observer(int64_t index) {
  return [this, index](int value, int64_t position, int64_t rows, const float* x) {
    const auto found = watched_.find(value);
    if (found == watched_.end()) return;
    Watched& watched = found->second;
    const int64_t in = watched.statistics.in_features;
    const auto size = static_cast<size_t>(rows * in);
    f32_to_bf16({x, size}, {watched.batch.data() + (index * length_ + position) * in, size});
  };
}

void StatisticsCollector::add_channels(Watched& watched, int64_t begin, int64_t end) {
  InputStatistics& statistics = watched.statistics;
  const int64_t in = statistics.in_features;
  const int64_t tokens = batch_count_ * length_;
  std::vector<float> magnitude(static_cast<size_t>(end - begin));
  std::vector<float> square(magnitude.size());
  for (int64_t block = 0; block < tokens; block += length_) {
    // Blocks do not cross windows, so that their cut does not depend on the batch.
    for (int64_t part = block; part < block + length_; part += kTokenBlock) {
      const int64_t last = std::min(part + kTokenBlock, block + length_);
      std::fill(magnitude.begin(), magnitude.end(), 0.0F);
      std::fill(square.begin(), square.end(), 0.0F);
      for (int64_t token = part; token < last; ++token) {
        const uint16_t* row = watched.batch.data() + token * in + begin;
        float* amax = statistics.amax.data() + begin;
        for (size_t i = 0; i < magnitude.size(); ++i) {
          const float x = std::fabs(bf16_to_f32(row[i]));
          // Not std::max: a NaN must come in and stay.
          amax[i] = x <= amax[i] || std::isnan(amax[i]) ? amax[i] : x;
          magnitude[i] += x;
          square[i] += x * x;
        }
      }
      for (size_t i = 0; i < magnitude.size(); ++i) {
        const size_t channel = static_cast<size_t>(begin) + i;
        watched.magnitude[channel] += static_cast<double>(magnitude[i]);
        statistics.square_sum[channel] += static_cast<double>(square[i]);
      }
    }
  }
}

const TileMatmul& StatisticsCollector::tile_product(int64_t m, int64_t n, int64_t k,
                                                    int64_t in_features) const {
  return *products_.at({m, n, k, in_features});
}

void StatisticsCollector::add_gram_tile(Watched& watched, int64_t row_tile, int64_t column_tile,
                                        MatmulScratch& scratch, std::vector<float>& product) {
  InputStatistics& statistics = watched.statistics;
  const int64_t in = statistics.in_features;
  const int64_t row = row_tile * kGramTile;
  const int64_t column = column_tile * kGramTile;
  const int64_t m = std::min(kGramTile, in - row);
  const int64_t n = std::min(kGramTile, in - column);
  product.resize(static_cast<size_t>(m * n));
  for (int64_t window = 0; window < batch_count_; ++window) {
    for (int64_t part = 0; part < length_; part += kTokenBlock) {
      const int64_t k = std::min(kTokenBlock, length_ - part);
      const uint16_t* tokens = watched.batch.data() + (window * length_ + part) * in;
      tile_product(m, n, k, in).run(tokens + row, tokens + column, product.data(), scratch);
      for (int64_t i = 0; i < m; ++i) {
        double* target = statistics.gram.data() + (row + i) * in + column;
        const float* source = product.data() + i * n;
        for (int64_t j = 0; j < n; ++j) target[j] += static_cast<double>(source[j]);
      }
    }
  }
}

void StatisticsCollector::end_batch() {
  struct Task {
    Watched* watched;
    bool gram;
    int64_t first;
    int64_t second;
  };
  std::vector<Task> tasks;
  for (auto& [value, watched] : watched_) {
    const int64_t in = watched.statistics.in_features;
    if (watched.wants_gram) {
      const int64_t tiles = (in + kGramTile - 1) / kGramTile;
      for (int64_t i = 0; i < tiles; ++i) {
        for (int64_t j = i; j < tiles; ++j) tasks.push_back({&watched, true, i, j});
      }
    }
    for (int64_t begin = 0; begin < in; begin += kChannelTile) {
      tasks.push_back({&watched, false, begin, std::min(in, begin + kChannelTile)});
    }
  }
  pool_.parallel_for(tasks.size(), [&](size_t index, size_t worker) {
    const Task& task = tasks[index];
    if (task.gram) {
      add_gram_tile(*task.watched, task.first, task.second, scratch_[worker],
                    product_buffers_[worker]);
    } else {
      add_channels(*task.watched, task.first, task.second);
    }
  });
  for (auto& [value, watched] : watched_) {
    InputStatistics& statistics = watched.statistics;
    const int64_t in = statistics.in_features;
    const int64_t begin = batch_first_ * length_;
    for (int64_t token = 0; token < batch_count_ * length_; ++token) {
      if ((begin + token) % sample_stride_ != 0 || statistics.sample_tokens >= kSampleTokens) {
        continue;
      }
      const auto row = watched.batch.begin() + token * in;
      statistics.sample.insert(statistics.sample.end(), row, row + in);
      ++statistics.sample_tokens;
    }
    statistics.tokens += batch_count_ * length_;
  }
}

InputStatistics StatisticsCollector::take(int value) {
  Watched& watched = watched_.at(value);
  InputStatistics statistics = std::move(watched.statistics);
  for (const double magnitude : watched.magnitude) {
    statistics.mean_abs.push_back(
        static_cast<float>(magnitude / static_cast<double>(statistics.tokens)));
  }
  if (!statistics.gram.empty()) {
    const auto in = static_cast<size_t>(statistics.in_features);
    for (size_t i = 0; i < in; ++i) {
      for (size_t j = 0; j < i; ++j) statistics.gram[i * in + j] = statistics.gram[j * in + i];
    }
  }
  watched_.erase(value);
  return statistics;
}

}  // namespace pare
