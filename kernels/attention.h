// Causal attention with grouped queries over the keys and values of one sequence.
//
// Queries come in blocks, in order; keys and values of all earlier tokens are in a cache. Scores
// are made tile by tile with a running maximum and sum (Dao et al., 2022, arXiv:2205.14135;
// Milakov & Gimelshein, 2018, arXiv:1805.02867), so memory grows with the length, not its square.
//
// Precision: in BF16, queries, keys, values and probabilities are rounded to bfloat16 and products
// summed in FP32; softmax is FP32. In FP32 everything is FP32.
//
// An Attention is immutable and safe to use from several threads, each with a cache and scratch.
//
//   Attention attention(shape, Precision::kBf16);
//   KeyValueCache cache(shape, sequence_length, Precision::kBf16);
//   cache.append(k, v, rows);
//   attention.run(q, rows, /*position=*/0, cache, out, scratch);
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/matmul.h"

namespace pare {

enum class Precision : uint8_t { kBf16, kF32 };

struct AttentionShape {
  int64_t heads = 0;
  int64_t kv_heads = 0;  ///< Divides heads.
  int64_t head_dim = 0;
  float scale = 1;     ///< Multiplies q·k, usually head_dim^−½.
  int64_t window = 0;  ///< A token sees itself and window − 1 before it; 0: all before it.
};

/// Keys and values of one sequence in one layer, head by head.
class KeyValueCache {
 public:
  KeyValueCache(const AttentionShape& shape, int64_t capacity, Precision precision);

  /// k and v [rows, kv_heads × head_dim], keys after the rotary embedding.
  /// REQUIRES: length() + rows ≤ capacity.
  void append(const float* k, const float* v, int64_t rows);

  /// Forgets the sequence, keeps the memory.
  void clear() { truncate(0); }

  /// Forgets all tokens from number `length` on. REQUIRES: length ≤ length().
  void truncate(int64_t length);

  /// Becomes a copy of `other`, which has the same shape and precision.
  /// REQUIRES: other.length() fits.
  void copy_from(const KeyValueCache& other);

  int64_t length() const noexcept { return length_; }

 private:
  friend class Attention;
  AttentionShape shape_;
  Precision precision_;
  int64_t capacity_;  // a multiple of the key tile; rows beyond length_ are zero
  int64_t length_ = 0;
  std::vector<uint16_t> k16_;  // [kv_heads, capacity, head_dim]
  std::vector<uint16_t> v16_;
  std::vector<float> k32_;
  std::vector<float> v32_;
};

/// Working memory of one thread.
struct AttentionScratch {
  MatmulScratch matmul;
  std::vector<uint16_t> queries;
  std::vector<uint16_t> probabilities;
  std::vector<float> scores;
  std::vector<float> partial;
  std::vector<float> output;
  std::vector<float> row_max;
  std::vector<float> row_sum;
};

class Attention {
 public:
  Attention(const AttentionShape& shape, Precision precision);

  /// out [rows, heads × head_dim] for queries q of the same shape, rotated already, of the tokens
  /// position … position + rows − 1. REQUIRES: cache.length() ≥ position + rows.
  void run(const float* q, int64_t rows, int64_t position, const KeyValueCache& cache, float* out,
           AttentionScratch& scratch) const;

  const AttentionShape& shape() const noexcept { return shape_; }

 private:
  void run_tile_bf16(const float* q, int64_t rows, int64_t position, int64_t kv_head,
                     const KeyValueCache& cache, float* out, AttentionScratch& scratch) const;
  void run_tile_f32(const float* q, int64_t rows, int64_t position, int64_t kv_head,
                    const KeyValueCache& cache, float* out, AttentionScratch& scratch) const;

  AttentionShape shape_;
  Precision precision_;
  std::unique_ptr<TileMatmul> score_product_;  // [rep × tile, head_dim] × [key tile, head_dim]ᵀ
  std::unique_ptr<TileMatmul> value_product_;  // [rep × tile, key tile] × [key tile, head_dim]
};

}  // namespace pare
