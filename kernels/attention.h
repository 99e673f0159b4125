// Attention with grouped queries over the keys and values of one sequence.
//
// Queries come in blocks, in order; keys and values are in a cache: of all earlier tokens (causal),
// or of a whole text (encoders and cross attention). Scores are made tile by tile with a running
// maximum and sum (Dao et al., 2022, arXiv:2205.14135; Milakov & Gimelshein, 2018,
// arXiv:1805.02867), so memory does not grow with the square of the length.
//
// Precision: in BF16, queries, keys, values and probabilities are rounded to bfloat16 and products
// summed in FP32; caps, biases and softmax are FP32. Otherwise everything is FP32.
//
// A row's result depends on its query and on the keys it sees, not on how rows are cut into calls
// nor on what comes after it: tiles of keys start at multiples of their size, and each product sums
// in a fixed order.
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
#include <span>
#include <vector>

#include "kernels/key_value_cache.h"
#include "kernels/matmul.h"

namespace pare {

/// What is added to the scores of a layer. Owned by the caller, outlives the Attention.
struct AttentionTerms {
  /// [heads, positions], added by the position of the key (ALiBi: Press et al., 2022,
  /// arXiv:2108.12409); or empty. Minus infinity hides a key, as long as a query sees another.
  std::vector<float> key_bias;
  /// [heads, 2 × span − 1], entry span − 1 + (key − query) is added (the relative bias of T5:
  /// Raffel et al., 2020, arXiv:1910.10683); or empty.
  std::vector<float> distance_bias;
  int64_t positions = 0;  ///< Of key_bias; at least the length of every cache.
  int64_t span = 0;       ///< Of distance_bias; above every distance between a query and a key.
  /// [heads], one more logit in the softmax's denominator, with no value (gpt-oss); or empty.
  std::vector<float> sinks;
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
  Attention(const AttentionShape& shape, Precision precision,
            const AttentionTerms* terms = nullptr);

  /// out [rows, heads × value width] for queries q [rows, heads × head_dim], rotated already, of
  /// the tokens position … position + rows − 1. REQUIRES: causal: cache.length() ≥ position + rows;
  /// otherwise a cache that is not empty, and `position` matters to distance_bias alone.
  void run(const float* q, int64_t rows, int64_t position, const KeyValueCache& cache, float* out,
           AttentionScratch& scratch) const;

  const AttentionShape& shape() const noexcept { return shape_; }

 private:
  struct Tile;  // queries of all heads that share keys
  void run_tile(const Tile& tile, const KeyValueCache& cache, float* out,
                AttentionScratch& scratch) const;
  void start(const Tile& tile, AttentionScratch& scratch) const;
  void multiply_keys(const Tile& tile, const KeyValueCache& cache, int64_t first_key, int64_t keys,
                     AttentionScratch& scratch) const;
  template <typename Probability>
  void weigh_rows(const Tile& tile, int64_t first_key, int64_t cache_length,
                  Probability* probabilities, AttentionScratch& scratch) const;
  template <typename Probability>
  void weigh_row(const Tile& tile, int64_t index, int64_t first_key, int64_t cache_length,
                 Probability* probabilities, AttentionScratch& scratch) const;
  void multiply_values(const Tile& tile, const KeyValueCache& cache, int64_t first_key,
                       int64_t keys, AttentionScratch& scratch) const;
  void finish(const Tile& tile, float* out, const AttentionScratch& scratch) const;
  bool adjust_scores(int64_t head, int64_t query, int64_t key, std::span<float> scores) const;

  AttentionShape shape_;
  Precision precision_;
  const AttentionTerms* terms_;
  int64_t value_stride_;                       // from row to row of the outputs in the making
  std::unique_ptr<TileMatmul> score_product_;  // [rep × tile, head_dim] × [key tile, head_dim]ᵀ
  std::unique_ptr<TileMatmul> value_product_;  // [rep × tile, key tile] × [key tile, value width]
};

}  // namespace pare
