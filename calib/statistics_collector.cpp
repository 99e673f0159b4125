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

// One of each `stride` tokens, at a place in them that changes by the golden ratio: at equal
// distances the sample of windows of equal length would be of the same few positions, and first
// tokens are unlike all others.
bool is_sampled(int64_t token, int64_t stride) {
  const auto block = static_cast<uint64_t>(token / stride);
  const uint64_t place = block * 0x9e3779b9U % (uint64_t{1} << 32);
  return token % stride == static_cast<int64_t>(place * static_cast<uint64_t>(stride) >> 32);
}

}  // namespace

StatisticsCollector::StatisticsCollector(const std::vector<WatchedValue>& values, ThreadPool& pool)
    : pool_(pool), scratch_(pool.size()), product_buffers_(pool.size()) {
  for (const WatchedValue& value : values) {
    Watched& watched = watched_[value.value];
    InputStatistics& statistics = watched.statistics;
    const auto in = static_cast<size_t>(value.in_features);
    watched.wants_gram = value.gram || value.mismatch;
    // Rounded up: the sample must reach the last tokens, too.
    watched.sample_stride =
        std::max<int64_t>(1, (value.tokens + kSampleTokens - 1) / kSampleTokens);
    watched.magnitude.assign(in, 0);
    statistics.in_features = value.in_features;
    statistics.amax.assign(in, 0);
    statistics.square_sum.assign(in, 0);
    watched.wants_mismatch = value.mismatch;
    if (value.gram || value.mismatch) statistics.gram.assign(in * in, 0);
    if (value.mismatch) statistics.mismatch.assign(in * in, 0);
  }
}

StatisticsCollector::~StatisticsCollector() = default;

int64_t StatisticsCollector::memory_bytes(const std::vector<WatchedValue>& values,
                                          int64_t batch_tokens) {
  int64_t bytes = 0;
  for (const WatchedValue& value : values) {
    bytes += batch_tokens * value.in_features * 2;
    bytes += kSampleTokens * value.in_features * 2;
    if (value.gram || value.mismatch) bytes += value.in_features * value.in_features * 8;
    if (!value.mismatch) continue;
    bytes += batch_tokens * value.in_features * 2 + value.in_features * value.in_features * 8;
  }
  return bytes;
}

void StatisticsCollector::begin_batch(int64_t count) {
  for (auto& [value, watched] : watched_) {
    watched.batch.resize(static_cast<size_t>(count));
    for (std::vector<uint16_t>& rows : watched.batch) rows.clear();
    watched.original.resize(watched.wants_mismatch ? watched.batch.size() : 0);
    for (std::vector<uint16_t>& rows : watched.original) rows.clear();
  }
}

namespace {

// Rows [position, position + …) of a sequence, rounded.
void put_rows(std::vector<uint16_t>& rows, int64_t position, int64_t width,
              std::span<const float> x) {
  const auto begin = static_cast<size_t>(position * width);
  if (rows.size() < begin + x.size()) rows.resize(begin + x.size());
  f32_to_bf16(x, {rows.data() + begin, x.size()});
}

}  // namespace

InputObserver StatisticsCollector::observer(int64_t index) {
  return [this, index](int value, int64_t position, int64_t rows, const float* x) {
    const auto found = watched_.find(value);
    if (found == watched_.end()) return;
    const int64_t in = found->second.statistics.in_features;
    put_rows(found->second.batch[static_cast<size_t>(index)], position, in,
             {x, static_cast<size_t>(rows * in)});
  };
}

InputObserver StatisticsCollector::original_observer(int64_t index) {
  return [this, index](int value, int64_t position, int64_t rows, const float* x) {
    const auto found = watched_.find(value);
    if (found == watched_.end() || !found->second.wants_mismatch) return;
    const int64_t in = found->second.statistics.in_features;
    put_rows(found->second.original[static_cast<size_t>(index)], position, in,
             {x, static_cast<size_t>(rows * in)});
  };
}

int64_t StatisticsCollector::rows_of(const Watched& watched, size_t sequence) {
  return static_cast<int64_t>(watched.batch[sequence].size()) / watched.statistics.in_features;
}

// Whatever sizes this batch needs: they are few, for most sequences are of one length.
void StatisticsCollector::make_products(const Watched& watched) {
  const int64_t in = watched.statistics.in_features;
  for (size_t sequence = 0; sequence < watched.batch.size(); ++sequence) {
    const int64_t rows = rows_of(watched, sequence);
    for (const int64_t k : {std::min(rows, kTokenBlock), rows % kTokenBlock}) {
      if (k == 0) continue;
      for (const int64_t m : {std::min(in, kGramTile), in % kGramTile}) {
        for (const int64_t n : {std::min(in, kGramTile), in % kGramTile}) {
          const std::vector<int64_t> key{m, n, k, in};
          if (m == 0 || n == 0 || products_.contains(key)) continue;
          products_[key] = std::make_unique<TileMatmul>(
              TileShape{.m = m, .n = n, .k = k, .transpose_a = true, .lda = in, .ldb = in});
        }
      }
    }
  }
}

void StatisticsCollector::add_channels(Watched& watched, int64_t begin, int64_t end) {
  InputStatistics& statistics = watched.statistics;
  const int64_t in = statistics.in_features;
  std::vector<float> magnitude(static_cast<size_t>(end - begin));
  std::vector<float> square(magnitude.size());
  for (size_t sequence = 0; sequence < watched.batch.size(); ++sequence) {
    const uint16_t* rows = watched.batch[sequence].data();
    // Blocks do not cross sequences, so that their cut does not depend on the batch.
    const int64_t count = rows_of(watched, sequence);
    for (int64_t part = 0; part < count; part += kTokenBlock) {
      const int64_t last = std::min(part + kTokenBlock, count);
      std::fill(magnitude.begin(), magnitude.end(), 0.0F);
      std::fill(square.begin(), square.end(), 0.0F);
      for (int64_t token = part; token < last; ++token) {
        const uint16_t* row = rows + token * in + begin;
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

void StatisticsCollector::add_product_tile(const ProductTile& tile, MatmulScratch& scratch,
                                           std::vector<float>& product) {
  const Watched& watched = *tile.watched;
  const int64_t in = watched.statistics.in_features;
  const int64_t row = tile.row * kGramTile;
  const int64_t column = tile.column * kGramTile;
  const int64_t m = std::min(kGramTile, in - row);
  const int64_t n = std::min(kGramTile, in - column);
  product.resize(static_cast<size_t>(m * n));
  for (size_t sequence = 0; sequence < watched.batch.size(); ++sequence) {
    const int64_t count = rows_of(watched, sequence);
    for (int64_t part = 0; part < count; part += kTokenBlock) {
      const int64_t k = std::min(kTokenBlock, count - part);
      const uint16_t* left = (*tile.left)[sequence].data() + part * in;
      const uint16_t* right = watched.batch[sequence].data() + part * in;
      tile_product(m, n, k, in).run(left + row, right + column, product.data(), scratch);
      for (int64_t i = 0; i < m; ++i) {
        double* target = tile.sum->data() + (row + i) * in + column;
        const float* source = product.data() + i * n;
        for (int64_t j = 0; j < n; ++j) target[j] += static_cast<double>(source[j]);
      }
    }
  }
}

void StatisticsCollector::end_batch() {
  struct Channels {
    Watched* watched;
    int64_t begin;
    int64_t end;
  };
  std::vector<Channels> channels;
  std::vector<ProductTile> tiles;
  for (auto& [value, watched] : watched_) {
    const int64_t in = watched.statistics.in_features;
    if (watched.wants_gram) {
      make_products(watched);
      InputStatistics& statistics = watched.statistics;
      const int64_t count = (in + kGramTile - 1) / kGramTile;
      for (int64_t i = 0; i < count; ++i) {
        for (int64_t j = 0; j < count; ++j) {
          if (j >= i) tiles.push_back({&watched, &watched.batch, &statistics.gram, i, j});
          if (!watched.wants_mismatch) continue;
          tiles.push_back({&watched, &watched.original, &statistics.mismatch, i, j});
        }
      }
    }
    for (int64_t begin = 0; begin < in; begin += kChannelTile) {
      channels.push_back({&watched, begin, std::min(in, begin + kChannelTile)});
    }
  }
  pool_.parallel_for(tiles.size() + channels.size(), [&](size_t index, size_t worker) {
    if (index < tiles.size()) {
      add_product_tile(tiles[index], scratch_[worker], product_buffers_[worker]);
    } else {
      const Channels& part = channels[index - tiles.size()];
      add_channels(*part.watched, part.begin, part.end);
    }
  });
  for (auto& [value, watched] : watched_) {
    InputStatistics& statistics = watched.statistics;
    const int64_t in = statistics.in_features;
    for (const std::vector<uint16_t>& rows : watched.batch) {
      for (auto row = rows.begin(); row != rows.end(); row += in) {
        const bool wanted = is_sampled(watched.seen++, watched.sample_stride);
        ++statistics.tokens;
        if (!wanted || statistics.sample_tokens >= kSampleTokens) continue;
        statistics.sample.insert(statistics.sample.end(), row, row + in);
        ++statistics.sample_tokens;
      }
    }
  }
}

InputStatistics StatisticsCollector::take(int value) {
  Watched& watched = watched_.at(value);
  InputStatistics statistics = std::move(watched.statistics);
  for (const double magnitude : watched.magnitude) {
    statistics.mean_abs.push_back(static_cast<float>(
        magnitude / static_cast<double>(std::max<int64_t>(1, statistics.tokens))));
  }
  if (!statistics.gram.empty()) {
    const auto in = static_cast<size_t>(statistics.in_features);
    for (size_t i = 0; i < in; ++i) {
      for (size_t j = 0; j < i; ++j) statistics.gram[i * in + j] = statistics.gram[j * in + i];
    }
  }
  // What came is Σ x̃ xᵀ.
  for (size_t i = 0; i < statistics.mismatch.size(); ++i) {
    statistics.mismatch[i] -= statistics.gram[i];
  }
  watched_.erase(value);
  return statistics;
}

}  // namespace pare
