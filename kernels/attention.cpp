#include "kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/dtype.h"
#include "kernels/codec.h"
#include "kernels/sgemm.h"
#include "kernels/vector_math.h"

namespace pare {
namespace {

// A tile of queries of all heads that share keys against a tile of keys: the scores of 2 × 64
// queries and 128 keys take 64 KiB and stay in the second-level cache.
constexpr int64_t kQueryTile = 64;
constexpr int64_t kKeyTile = 128;

// Floats in the widest vector registers.
constexpr int64_t kVector = 16;

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Keys that query number `token` sees, as a range.
struct KeyRange {
  int64_t begin = 0;
  int64_t end = 0;
};

KeyRange visible_keys(const AttentionShape& shape, int64_t token) {
  return {shape.window > 0 ? std::max<int64_t>(0, token + 1 - shape.window) : 0, token + 1};
}

}  // namespace

KeyValueCache::KeyValueCache(const AttentionShape& shape, int64_t capacity, Precision precision)
    : shape_(shape),
      precision_(precision),
      capacity_((capacity + kKeyTile - 1) / kKeyTile * kKeyTile) {
  const auto size = static_cast<size_t>(shape.kv_heads * capacity_ * shape.head_dim);
  if (precision == Precision::kBf16) {
    k16_.resize(size);
    v16_.resize(size);
  } else {
    k32_.resize(size);
    v32_.resize(size);
  }
}

void KeyValueCache::append(const float* k, const float* v, int64_t rows) {
  const int64_t d = shape_.head_dim;
  const int64_t width = shape_.kv_heads * d;
  for (int64_t head = 0; head < shape_.kv_heads; ++head) {
    for (int64_t row = 0; row < rows; ++row) {
      const auto target = static_cast<size_t>((head * capacity_ + length_ + row) * d);
      const std::span<const float> key(k + row * width + head * d, static_cast<size_t>(d));
      const std::span<const float> value(v + row * width + head * d, static_cast<size_t>(d));
      if (precision_ == Precision::kBf16) {
        f32_to_bf16(key, {k16_.data() + target, key.size()});
        f32_to_bf16(value, {v16_.data() + target, value.size()});
      } else {
        std::copy(key.begin(), key.end(), k32_.begin() + static_cast<ptrdiff_t>(target));
        std::copy(value.begin(), value.end(), v32_.begin() + static_cast<ptrdiff_t>(target));
      }
    }
  }
  length_ += rows;
}

void KeyValueCache::truncate(int64_t length) {
  // Rows beyond the length are read as part of the last tile; they must stay finite, and zero
  // keeps results independent of what was there before.
  const auto wipe = [&](auto& values) {
    using Value = typename std::decay_t<decltype(values)>::value_type;
    if (values.empty()) return;
    for (int64_t head = 0; head < shape_.kv_heads; ++head) {
      const auto begin = values.begin() + head * capacity_ * shape_.head_dim;
      std::fill(begin + length * shape_.head_dim, begin + length_ * shape_.head_dim, Value{});
    }
  };
  wipe(k16_);
  wipe(v16_);
  wipe(k32_);
  wipe(v32_);
  length_ = length;
}

void KeyValueCache::copy_from(const KeyValueCache& other) {
  truncate(std::min(length_, other.length_));  // what is beyond becomes zero
  const auto copy = [&](const auto& from, auto& to) {
    if (from.empty()) return;
    for (int64_t head = 0; head < shape_.kv_heads; ++head) {
      const auto begin = from.begin() + head * other.capacity_ * shape_.head_dim;
      std::copy(begin, begin + other.length_ * shape_.head_dim,
                to.begin() + head * capacity_ * shape_.head_dim);
    }
  };
  copy(other.k16_, k16_);
  copy(other.v16_, v16_);
  copy(other.k32_, k32_);
  copy(other.v32_, v32_);
  length_ = other.length_;
}

Attention::Attention(const AttentionShape& shape, Precision precision)
    : shape_(shape), precision_(precision) {
  if (precision == Precision::kF32) return;
  const int64_t rows = shape.heads / shape.kv_heads * kQueryTile;
  score_product_ = std::make_unique<TileMatmul>(TileShape{.m = rows,
                                                          .n = kKeyTile,
                                                          .k = shape.head_dim,
                                                          .transpose_b = true,
                                                          .lda = shape.head_dim,
                                                          .ldb = shape.head_dim});
  value_product_ = std::make_unique<TileMatmul>(TileShape{
      .m = rows, .n = shape.head_dim, .k = kKeyTile, .lda = kKeyTile, .ldb = shape.head_dim});
}

void Attention::run(const float* q, int64_t rows, int64_t position, const KeyValueCache& cache,
                    float* out, AttentionScratch& scratch) const {
  const int64_t width = shape_.heads * shape_.head_dim;
  for (int64_t begin = 0; begin < rows; begin += kQueryTile) {
    const int64_t count = std::min(kQueryTile, rows - begin);
    for (int64_t kv_head = 0; kv_head < shape_.kv_heads; ++kv_head) {
      const float* tile_q = q + begin * width;
      float* tile_out = out + begin * width;
      if (precision_ == Precision::kBf16) {
        run_tile_bf16(tile_q, count, position + begin, kv_head, cache, tile_out, scratch);
      } else {
        run_tile_f32(tile_q, count, position + begin, kv_head, cache, tile_out, scratch);
      }
    }
  }
}

void Attention::run_tile_bf16(const float* q, int64_t rows, int64_t position, int64_t kv_head,
                              const KeyValueCache& cache, float* out,
                              AttentionScratch& scratch) const {
  const int64_t d = shape_.head_dim;
  const int64_t repeat = shape_.heads / shape_.kv_heads;
  const int64_t width = shape_.heads * d;
  const int64_t tile_rows = repeat * kQueryTile;
  scratch.queries.resize(static_cast<size_t>(tile_rows * d));
  scratch.probabilities.resize(static_cast<size_t>(tile_rows * kKeyTile));
  scratch.scores.resize(static_cast<size_t>(tile_rows * kKeyTile));
  scratch.partial.resize(static_cast<size_t>(tile_rows * d));
  scratch.output.assign(static_cast<size_t>(tile_rows * d), 0.0F);
  scratch.row_max.assign(static_cast<size_t>(tile_rows), kMinusInfinity);
  scratch.row_sum.assign(static_cast<size_t>(tile_rows), 0.0F);

  // Rows of the tile: head by head, token by token; rows without a token stay zero.
  std::fill(scratch.queries.begin(), scratch.queries.end(), uint16_t{0});
  for (int64_t head = 0; head < repeat; ++head) {
    for (int64_t row = 0; row < rows; ++row) {
      const float* source = q + row * width + (kv_head * repeat + head) * d;
      f32_to_bf16({source, static_cast<size_t>(d)},
                  {scratch.queries.data() + (head * kQueryTile + row) * d, static_cast<size_t>(d)});
    }
  }

  const int64_t first = visible_keys(shape_, position).begin / kKeyTile * kKeyTile;
  const int64_t last = position + rows;
  for (int64_t tile = first; tile < last; tile += kKeyTile) {
    const auto offset = static_cast<size_t>((kv_head * cache.capacity_ + tile) * d);
    score_product_->run(scratch.queries.data(), cache.k16_.data() + offset, scratch.scores.data(),
                        scratch.matmul);
    for (int64_t head = 0; head < repeat; ++head) {
      for (int64_t row = 0; row < kQueryTile; ++row) {
        const int64_t index = head * kQueryTile + row;
        uint16_t* probabilities = scratch.probabilities.data() + index * kKeyTile;
        const KeyRange seen = visible_keys(shape_, position + row);
        const int64_t begin = std::clamp<int64_t>(seen.begin - tile, 0, kKeyTile);
        const int64_t end = row < rows ? std::clamp<int64_t>(seen.end - tile, 0, kKeyTile) : 0;
        if (begin >= end) {
          std::fill(probabilities, probabilities + kKeyTile, uint16_t{0});
          continue;
        }
        // Whole vectors are faster than rests: hidden keys up to the next multiple score −∞.
        const int64_t whole_begin = begin / kVector * kVector;
        const int64_t whole_end = (end + kVector - 1) / kVector * kVector;
        float* row_scores = scratch.scores.data() + index * kKeyTile;
        std::fill(row_scores + whole_begin, row_scores + begin, kMinusInfinity);
        std::fill(row_scores + end, row_scores + whole_end, kMinusInfinity);
        const std::span<const float> scores(row_scores + whole_begin,
                                            static_cast<size_t>(whole_end - whole_begin));
        float& row_max = scratch.row_max[static_cast<size_t>(index)];
        float& row_sum = scratch.row_sum[static_cast<size_t>(index)];
        const float new_max = std::max(row_max, max_row(scores) * shape_.scale);
        if (new_max > row_max && row_sum > 0) {
          const float correction = std::exp(row_max - new_max);
          row_sum *= correction;
          scale_in_place({scratch.output.data() + index * d, static_cast<size_t>(d)}, correction);
        }
        row_max = new_max;
        std::fill(probabilities, probabilities + whole_begin, uint16_t{0});
        std::fill(probabilities + whole_end, probabilities + kKeyTile, uint16_t{0});
        row_sum += exp_sum_row(scores, shape_.scale, new_max,
                               std::span<uint16_t>(probabilities + whole_begin, scores.size()));
      }
    }
    value_product_->run(scratch.probabilities.data(), cache.v16_.data() + offset,
                        scratch.partial.data(), scratch.matmul);
    add_in_place(scratch.output, scratch.partial);
  }

  for (int64_t head = 0; head < repeat; ++head) {
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t index = head * kQueryTile + row;
      float* target = out + row * width + (kv_head * repeat + head) * d;
      std::copy_n(scratch.output.data() + index * d, d, target);
      scale_in_place({target, static_cast<size_t>(d)},
                     1.0F / scratch.row_sum[static_cast<size_t>(index)]);
    }
  }
}

void Attention::run_tile_f32(const float* q, int64_t rows, int64_t position, int64_t kv_head,
                             const KeyValueCache& cache, float* out,
                             AttentionScratch& scratch) const {
  const int64_t d = shape_.head_dim;
  const int64_t repeat = shape_.heads / shape_.kv_heads;
  const int64_t width = shape_.heads * d;
  const int64_t first = visible_keys(shape_, position).begin;
  const int64_t keys = position + rows - first;
  const float* k = cache.k32_.data() + (kv_head * cache.capacity_ + first) * d;
  const float* v = cache.v32_.data() + (kv_head * cache.capacity_ + first) * d;
  scratch.scores.resize(static_cast<size_t>(rows * keys));
  for (int64_t head = 0; head < repeat; ++head) {
    const int64_t column = (kv_head * repeat + head) * d;
    sgemm({.m = rows, .n = keys, .k = d, .transpose_b = true, .lda = width, .ldb = d, .ldc = keys},
          q + column, k, scratch.scores.data());
    for (int64_t row = 0; row < rows; ++row) {
      float* scores = scratch.scores.data() + row * keys;
      const KeyRange seen = visible_keys(shape_, position + row);
      const int64_t begin = seen.begin - first;
      const std::span<float> visible(scores + begin, static_cast<size_t>(seen.end - seen.begin));
      const float row_max = max_row(visible) * shape_.scale;
      const float sum = exp_sum_row(visible, shape_.scale, row_max, visible);
      scale_in_place(visible, 1.0F / sum);
      std::fill(scores, scores + begin, 0.0F);
      std::fill(scores + (seen.end - first), scores + keys, 0.0F);
    }
    sgemm({.m = rows, .n = d, .k = keys, .lda = keys, .ldb = d, .ldc = width},
          scratch.scores.data(), v, out + column);
  }
}

}  // namespace pare
