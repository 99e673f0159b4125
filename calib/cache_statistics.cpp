#include "calib/cache_statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "core/dtype.h"
#include "kernels/codec.h"
#include "model/cache_tensors.h"
#include "pare/error.h"

namespace pare {
namespace {

void add_row(std::span<const float> row, bool sampled, CacheRange& range) {
  for (size_t i = 0; i < row.size(); ++i) {
    range.minimum[i] = std::min(range.minimum[i], row[i]);
    range.maximum[i] = std::max(range.maximum[i], row[i]);
  }
  range.values += static_cast<int64_t>(row.size());
  const float largest = absmax(row);
  // A comparison with NaN would pass over it.
  if (!std::isfinite(largest)) range.maximum[0] = std::numeric_limits<float>::infinity();
  if (largest > kE4m3Max) {
    range.beyond_e4m3 += std::count_if(row.begin(), row.end(),
                                       [](float value) { return std::abs(value) > kE4m3Max; });
  }
  if (sampled) range.sample.insert(range.sample.end(), row.begin(), row.end());
}

void add_range(const CacheRange& part, CacheRange& sum) {
  for (size_t i = 0; i < sum.minimum.size(); ++i) {
    sum.minimum[i] = std::min(sum.minimum[i], part.minimum[i]);
    sum.maximum[i] = std::max(sum.maximum[i], part.maximum[i]);
  }
  sum.values += part.values;
  sum.beyond_e4m3 += part.beyond_e4m3;
  sum.sample.insert(sum.sample.end(), part.sample.begin(), part.sample.end());
}

}  // namespace

float CacheRange::absmax() const { return std::max(pare::absmax(minimum), pare::absmax(maximum)); }

CacheCollector::CacheCollector(const BlockGraph& block, int64_t sequences, int64_t tokens)
    : block_(block),
      stride_(std::max<int64_t>(1, (tokens + kSampleTokens - 1) / kSampleTokens)),
      parts_(static_cast<size_t>(sequences)) {}

CacheRange CacheCollector::empty_range(int64_t heads, int64_t width) const {
  CacheRange range;
  range.heads = heads;
  range.width = width;
  const auto channels = static_cast<size_t>(heads * width);
  range.minimum.assign(channels, std::numeric_limits<float>::max());
  range.maximum.assign(channels, std::numeric_limits<float>::lowest());
  return range;
}

void CacheCollector::add_rows(int64_t sequence, size_t op, int64_t rows, const float* k,
                              const float* v) {
  const AttentionShape& shape = block_.attentions[static_cast<size_t>(block_.ops[op].detail)].shape;
  Part& part = parts_[static_cast<size_t>(sequence)][op];
  if (part.tokens == 0) {
    part.statistics.keys = empty_range(shape.kv_heads, shape.head_dim);
    part.statistics.values = empty_range(shape.kv_heads, shape.value_width());
  }
  const int64_t d = shape.kv_heads * shape.head_dim;
  const int64_t dv = shape.kv_heads * shape.value_width();
  for (int64_t row = 0; row < rows; ++row) {
    // Other positions in every sequence.
    const bool sampled = (part.tokens + row) % stride_ == sequence % stride_;
    add_row({k + row * d, static_cast<size_t>(d)}, sampled, part.statistics.keys);
    add_row({v + row * dv, static_cast<size_t>(dv)}, sampled, part.statistics.values);
  }
  part.tokens += rows;
}

CacheObserver CacheCollector::observer(int64_t sequence) {
  return [this, sequence](size_t op, int64_t rows, const float* k, const float* v) {
    add_rows(sequence, op, rows, k, v);
  };
}

CacheStatistics CacheCollector::take(size_t op) {
  const AttentionShape& shape = block_.attentions[static_cast<size_t>(block_.ops[op].detail)].shape;
  CacheStatistics sum{empty_range(shape.kv_heads, shape.head_dim),
                      empty_range(shape.kv_heads, shape.value_width())};
  for (auto& parts : parts_) {
    const auto part = parts.find(op);
    if (part == parts.end()) continue;
    add_range(part->second.statistics.keys, sum.keys);
    add_range(part->second.statistics.values, sum.values);
    parts.erase(part);
  }
  if (!std::isfinite(sum.keys.absmax()) || !std::isfinite(sum.values.absmax())) {
    throw Error(ErrorCode::kNonFinite,
                attention_name(block_, block_.ops[op]) +
                    ": keys or values of the calibration tokens hold NaN or infinity");
  }
  return sum;
}

int64_t CacheCollector::memory_bytes(const AttentionShape& shape, int64_t sequences) {
  const int64_t channels = shape.kv_heads * (shape.head_dim + shape.value_width());
  // The sample twice, while it is put together; vectors grow by doubling.
  return channels * 4 * (4 * kSampleTokens + 2 * sequences);
}

}  // namespace pare
