// The keys and values of one sequence in one layer, and the shape of the attention over them.
//
// A cache owns its memory, which is taken at construction: capacity × (key + value widths) in the
// precision. It is not safe to change a cache while another thread uses it; reading is.
//
//   KeyValueCache cache(shape, sequence_length, Precision::kBf16);
//   cache.append(k, v, rows);
//   cache.truncate(position);  // forget what came after, try another continuation
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/key_value_format.h"

namespace pare {

/// kBf16Pairs: weights in bfloat16 too, inputs of products as the sum of two bfloat16 numbers, all
/// else as in FP32. Close to FP32 at twice the cost of kBf16.
enum class Precision : uint8_t { kBf16, kBf16Pairs, kF32 };

struct AttentionShape {
  int64_t heads = 0;
  int64_t kv_heads = 0;   ///< Divides heads.
  int64_t head_dim = 0;   ///< Width of a head of queries and keys.
  float scale = 1;        ///< Multiplies q·k, usually head_dim^−½.
  int64_t window = 0;     ///< A token sees itself and window − 1 before it; 0: all before it.
  int64_t value_dim = 0;  ///< Width of a head of the values and of the output; 0: head_dim.
  bool causal = true;     ///< False: every query sees all keys of the cache, whatever the window.
  float soft_cap = 0;     ///< Above 0, scores become cap × tanh(score / cap) before any bias.

  int64_t value_width() const noexcept { return value_dim > 0 ? value_dim : head_dim; }
};

/// Keys and values of one sequence in one layer, head by head.
class KeyValueCache {
 public:
  KeyValueCache(const AttentionShape& shape, int64_t capacity, Precision precision);

  /// k [rows, kv_heads × head_dim], after the rotary embedding, and v [rows, kv_heads × value
  /// width], each row rounded as `format` says where there is one. REQUIRES: length() + rows ≤
  /// capacity.
  void append(const float* k, const float* v, int64_t rows, const KeyValueFormat* format = nullptr);

  /// Forgets the sequence, keeps the memory.
  void clear() { truncate(0); }

  /// Forgets all tokens from number `length` on. REQUIRES: length ≤ length().
  void truncate(int64_t length);

  /// Becomes a copy of `other`, which has the same shape and precision.
  /// REQUIRES: other.length() fits.
  void copy_from(const KeyValueCache& other);

  int64_t length() const noexcept { return length_; }

  /// Keys that are multiplied at a time: the last tile of a sequence is filled up with zeros.
  static constexpr int64_t kTile = 128;

 private:
  friend class Attention;
  // In FP32 the keys of a tile are transposed, so that one vector holds a channel of many keys, and
  // rows of values are filled up to whole vectors: see kernels/ordered_product.h.
  AttentionShape shape_;
  Precision precision_;
  int64_t capacity_;      // a multiple of the tile; what is beyond length_ is zero
  int64_t value_stride_;  // from one row of a head's values to the next
  int64_t length_ = 0;
  std::vector<uint16_t> k16_;  // [kv_heads, capacity, head_dim]
  std::vector<uint16_t> v16_;  // [kv_heads, capacity, value_stride]
  std::vector<float> k32_;     // [kv_heads, capacity / tile, head_dim, tile]
  std::vector<float> v32_;     // [kv_heads, capacity, value_stride]
};

}  // namespace pare
