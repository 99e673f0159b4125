#include "kernels/attention.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <span>

#include "core/dtype.h"
#include "kernels/codec.h"
#include "kernels/ordered_product.h"
#include "kernels/vector_math.h"

namespace pare {
namespace {

// A tile of queries of all heads that share keys against a tile of keys: the scores of 2 × 64
// queries and 128 keys take 64 KiB and stay in the second-level cache.
constexpr int64_t kQueryTile = 64;
constexpr int64_t kKeyTile = KeyValueCache::kTile;

// Floats in the widest vector registers.
constexpr int64_t kVector = 16;

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

int64_t round_up(int64_t size) { return (size + kVector - 1) / kVector * kVector; }

// Keys that a query sees.
struct KeyRange {
  int64_t begin = 0;
  int64_t end = 0;
};

KeyRange visible_keys(const AttentionShape& shape, int64_t query, int64_t cache_length) {
  if (!shape.causal) return {0, cache_length};
  return {shape.window > 0 ? std::max<int64_t>(0, query + 1 - shape.window) : 0, query + 1};
}

std::span<float> row_of(std::vector<float>& values, int64_t row, int64_t width) {
  return {values.data() + row * width, static_cast<size_t>(width)};
}

}  // namespace

// Rows of the scratch: head by head, kQueryTile each; those without a token are not used.
struct Attention::Tile {
  const float* q;    // first row of the tile, head 0
  int64_t rows;      // ≤ kQueryTile
  int64_t position;  // of the first row
  int64_t kv_head;
  int64_t repeat;  // query heads that share it
};

Attention::Attention(const AttentionShape& shape, Precision precision, const AttentionTerms* terms)
    : shape_(shape),
      precision_(precision),
      terms_(terms),
      value_stride_(precision == Precision::kBf16 ? shape.value_width()
                                                  : round_up(shape.value_width())) {
  assert(terms == nullptr || terms->key_bias.empty() ||
         terms->key_bias.size() == static_cast<size_t>(shape.heads * terms->positions));
  assert(terms == nullptr || terms->distance_bias.empty() ||
         terms->distance_bias.size() == static_cast<size_t>(shape.heads * (2 * terms->span - 1)));
  assert(terms == nullptr || terms->sinks.empty() ||
         terms->sinks.size() == static_cast<size_t>(shape.heads));
  if (precision != Precision::kBf16) return;
  const int64_t rows = shape.heads / shape.kv_heads * kQueryTile;
  score_product_ = std::make_unique<TileMatmul>(TileShape{.m = rows,
                                                          .n = kKeyTile,
                                                          .k = shape.head_dim,
                                                          .transpose_b = true,
                                                          .lda = shape.head_dim,
                                                          .ldb = shape.head_dim});
  value_product_ = std::make_unique<TileMatmul>(TileShape{.m = rows,
                                                          .n = shape.value_width(),
                                                          .k = kKeyTile,
                                                          .lda = kKeyTile,
                                                          .ldb = shape.value_width()});
}

void Attention::run(const float* q, int64_t rows, int64_t position, const KeyValueCache& cache,
                    float* out, AttentionScratch& scratch) const {
  assert(shape_.causal ? cache.length() >= position + rows : cache.length() > 0);
  for (int64_t begin = 0; begin < rows; begin += kQueryTile) {
    for (int64_t kv_head = 0; kv_head < shape_.kv_heads; ++kv_head) {
      const Tile tile{.q = q + begin * shape_.heads * shape_.head_dim,
                      .rows = std::min(kQueryTile, rows - begin),
                      .position = position + begin,
                      .kv_head = kv_head,
                      .repeat = shape_.heads / shape_.kv_heads};
      float* tile_out = out + begin * shape_.heads * shape_.value_width();
      run_tile(tile, cache, tile_out, scratch);
    }
  }
}

void Attention::run_tile(const Tile& tile, const KeyValueCache& cache, float* out,
                         AttentionScratch& scratch) const {
  start(tile, scratch);
  const int64_t length = cache.length();
  const int64_t first = visible_keys(shape_, tile.position, length).begin / kKeyTile * kKeyTile;
  const int64_t last = visible_keys(shape_, tile.position + tile.rows - 1, length).end;
  for (int64_t key = first; key < last; key += kKeyTile) {
    const int64_t keys = std::min(kKeyTile, last - key);
    multiply_keys(tile, cache, key, keys, scratch);
    if (precision_ == Precision::kBf16) {
      weigh_rows(tile, key, length, scratch.probabilities.data(), scratch);
    } else {
      weigh_rows(tile, key, length, scratch.scores.data(), scratch);
    }
    multiply_values(tile, cache, key, keys, scratch);
  }
  finish(tile, out, scratch);
}

void Attention::start(const Tile& tile, AttentionScratch& scratch) const {
  const int64_t rows = tile.repeat * kQueryTile;
  const int64_t d = shape_.head_dim;
  scratch.scores.resize(static_cast<size_t>(rows * kKeyTile));
  scratch.output.assign(static_cast<size_t>(rows * value_stride_), 0.0F);
  scratch.row_max.assign(static_cast<size_t>(rows), kMinusInfinity);
  scratch.row_sum.assign(static_cast<size_t>(rows), 0.0F);
  if (terms_ != nullptr && !terms_->sinks.empty()) {
    // The sink is as if one key with this score and a value of zero had come first.
    const float* sinks = terms_->sinks.data() + tile.kv_head * tile.repeat;
    for (int64_t row = 0; row < rows; ++row) {
      scratch.row_max[static_cast<size_t>(row)] = sinks[row / kQueryTile];
      scratch.row_sum[static_cast<size_t>(row)] = 1;
    }
  }
  if (precision_ != Precision::kBf16) return;
  scratch.partial.resize(static_cast<size_t>(rows * value_stride_));
  // The product is of the whole tile: rows without a token count as zero.
  scratch.probabilities.assign(static_cast<size_t>(rows * kKeyTile), 0);
  scratch.queries.assign(static_cast<size_t>(rows * d), 0);
  for (int64_t head = 0; head < tile.repeat; ++head) {
    for (int64_t row = 0; row < tile.rows; ++row) {
      const float* source = tile.q + (row * shape_.heads + tile.kv_head * tile.repeat + head) * d;
      f32_to_bf16({source, static_cast<size_t>(d)},
                  {scratch.queries.data() + (head * kQueryTile + row) * d, static_cast<size_t>(d)});
    }
  }
}

void Attention::finish(const Tile& tile, float* out, const AttentionScratch& scratch) const {
  const int64_t dv = shape_.value_width();
  for (int64_t head = 0; head < tile.repeat; ++head) {
    for (int64_t row = 0; row < tile.rows; ++row) {
      const int64_t index = head * kQueryTile + row;
      float* target = out + (row * shape_.heads + tile.kv_head * tile.repeat + head) * dv;
      std::copy_n(scratch.output.data() + index * value_stride_, dv, target);
      scale_in_place({target, static_cast<size_t>(dv)},
                     1.0F / scratch.row_sum[static_cast<size_t>(index)]);
    }
  }
}

void Attention::multiply_keys(const Tile& tile, const KeyValueCache& cache, int64_t first_key,
                              int64_t keys, AttentionScratch& scratch) const {
  const int64_t d = shape_.head_dim;
  const int64_t offset = (tile.kv_head * cache.capacity_ + first_key) * d;
  if (precision_ == Precision::kBf16) {
    score_product_->run(scratch.queries.data(), cache.k16_.data() + offset, scratch.scores.data(),
                        scratch.matmul);
    return;
  }
  for (int64_t head = 0; head < tile.repeat; ++head) {
    ordered_product({.m = tile.rows,
                     .n = round_up(keys),
                     .k = d,
                     .lda = shape_.heads * d,
                     .ldb = kKeyTile,
                     .ldc = kKeyTile},
                    tile.q + (tile.kv_head * tile.repeat + head) * d, cache.k32_.data() + offset,
                    scratch.scores.data() + head * kQueryTile * kKeyTile);
  }
}

void Attention::multiply_values(const Tile& tile, const KeyValueCache& cache, int64_t first_key,
                                int64_t keys, AttentionScratch& scratch) const {
  const int64_t offset = (tile.kv_head * cache.capacity_ + first_key) * value_stride_;
  if (precision_ == Precision::kBf16) {
    value_product_->run(scratch.probabilities.data(), cache.v16_.data() + offset,
                        scratch.partial.data(), scratch.matmul);
    add_in_place(scratch.output, scratch.partial);
    return;
  }
  for (int64_t head = 0; head < tile.repeat; ++head) {
    ordered_product({.m = tile.rows,
                     .n = value_stride_,
                     .k = keys,
                     .lda = kKeyTile,
                     .ldb = value_stride_,
                     .ldc = value_stride_,
                     .accumulate = true},
                    scratch.scores.data() + head * kQueryTile * kKeyTile,
                    cache.v32_.data() + offset,
                    scratch.output.data() + head * kQueryTile * value_stride_);
  }
}

// Makes the final logits of a query and the keys from `key` on; false where its scores need only
// the scale, which the exponential applies on the way.
bool Attention::adjust_scores(int64_t head, int64_t query, int64_t key,
                              std::span<float> scores) const {
  const bool has_bias =
      terms_ != nullptr && !(terms_->key_bias.empty() && terms_->distance_bias.empty());
  if (!has_bias && shape_.soft_cap <= 0) return false;
  scale_in_place(scores, shape_.scale);
  if (shape_.soft_cap > 0) soft_cap_in_place(scores, shape_.soft_cap);
  if (!has_bias) return true;
  if (!terms_->key_bias.empty()) {
    assert(key + static_cast<int64_t>(scores.size()) <= terms_->positions);
    add_in_place(scores, {terms_->key_bias.data() + head * terms_->positions + key, scores.size()});
  }
  if (!terms_->distance_bias.empty()) {
    const int64_t entry = terms_->span - 1 + key - query;
    assert(entry >= 0 && entry + static_cast<int64_t>(scores.size()) < 2 * terms_->span);
    const float* bias = terms_->distance_bias.data() + head * (2 * terms_->span - 1) + entry;
    add_in_place(scores, {bias, scores.size()});
  }
  return true;
}

// Turns the scores of a tile of keys into probabilities relative to each row's running maximum.
// They may take the place of the scores.
template <typename Probability>
void Attention::weigh_rows(const Tile& tile, int64_t first_key, int64_t cache_length,
                           Probability* probabilities, AttentionScratch& scratch) const {
  for (int64_t head = 0; head < tile.repeat; ++head) {
    for (int64_t row = 0; row < tile.rows; ++row) {
      const int64_t index = head * kQueryTile + row;
      weigh_row(tile, index, first_key, cache_length, probabilities + index * kKeyTile, scratch);
    }
  }
}

template <typename Probability>
void Attention::weigh_row(const Tile& tile, int64_t index, int64_t first_key, int64_t cache_length,
                          Probability* probabilities, AttentionScratch& scratch) const {
  const int64_t head = tile.kv_head * tile.repeat + index / kQueryTile;
  const int64_t query = tile.position + index % kQueryTile;
  const KeyRange seen = visible_keys(shape_, query, cache_length);
  const int64_t begin = std::clamp<int64_t>(seen.begin - first_key, 0, kKeyTile);
  const int64_t end = std::clamp<int64_t>(seen.end - first_key, 0, kKeyTile);
  if (begin >= end) {
    std::fill(probabilities, probabilities + kKeyTile, Probability{0});
    return;
  }
  float* tile_scores = scratch.scores.data() + index * kKeyTile;
  const bool scaled = adjust_scores(head, query, first_key + begin,
                                    {tile_scores + begin, static_cast<size_t>(end - begin)});
  const float scale = scaled ? 1.0F : shape_.scale;
  // Whole vectors are faster than rests: hidden keys up to the next multiple score −∞.
  const int64_t whole_begin = begin / kVector * kVector;
  const int64_t whole_end = round_up(end);
  std::fill(tile_scores + whole_begin, tile_scores + begin, kMinusInfinity);
  std::fill(tile_scores + end, tile_scores + whole_end, kMinusInfinity);
  const std::span<const float> scores(tile_scores + whole_begin,
                                      static_cast<size_t>(whole_end - whole_begin));
  float& row_max = scratch.row_max[static_cast<size_t>(index)];
  float& row_sum = scratch.row_sum[static_cast<size_t>(index)];
  const float new_max = std::max(row_max, max_row(scores) * scale);
  if (new_max == kMinusInfinity) {  // a bias hides all keys so far
    std::fill(probabilities, probabilities + kKeyTile, Probability{0});
    return;
  }
  if (new_max > row_max && row_sum > 0) {
    const float correction = std::exp(row_max - new_max);
    row_sum *= correction;
    scale_in_place(row_of(scratch.output, index, value_stride_), correction);
  }
  row_max = new_max;
  row_sum += exp_sum_row(scores, scale, new_max,
                         std::span<Probability>(probabilities + whole_begin, scores.size()));
  std::fill(probabilities, probabilities + whole_begin, Probability{0});
  std::fill(probabilities + whole_end, probabilities + kKeyTile, Probability{0});
}

}  // namespace pare
