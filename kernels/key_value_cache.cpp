#include "kernels/key_value_cache.h"

#include <algorithm>
#include <cassert>
#include <span>

#include "core/dtype.h"
#include "kernels/codec.h"
#include "kernels/ordered_product.h"

namespace pare {
namespace {

int64_t round_up(int64_t size, int64_t step) { return (size + step - 1) / step * step; }

}  // namespace

KeyValueCache::KeyValueCache(const AttentionShape& shape, int64_t capacity, Precision precision)
    : shape_(shape),
      precision_(precision),
      capacity_(round_up(capacity, kTile)),
      value_stride_(precision == Precision::kBf16
                        ? shape.value_width()
                        : round_up(shape.value_width(), kOrderedProductColumns)) {
  const auto key_size = static_cast<size_t>(shape.kv_heads * capacity_ * shape.head_dim);
  const auto value_size = static_cast<size_t>(shape.kv_heads * capacity_ * value_stride_);
  if (precision == Precision::kBf16) {
    k16_.resize(key_size);
    v16_.resize(value_size);
  } else {
    k32_.resize(key_size);
    v32_.resize(value_size);
  }
}

void KeyValueCache::append(const float* k, const float* v, int64_t rows,
                           const KeyValueFormat* format) {
  assert(length_ + rows <= capacity_);
  const int64_t d = shape_.head_dim;
  const int64_t dv = shape_.value_width();
  CacheRounding scratch;
  std::vector<float> rounded_key(format == nullptr ? 0 : static_cast<size_t>(d));
  std::vector<float> rounded_value(format == nullptr ? 0 : static_cast<size_t>(dv));
  for (int64_t head = 0; head < shape_.kv_heads; ++head) {
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t token = head * capacity_ + length_ + row;
      std::span<const float> key(k + (row * shape_.kv_heads + head) * d, static_cast<size_t>(d));
      std::span<const float> value(v + (row * shape_.kv_heads + head) * dv,
                                   static_cast<size_t>(dv));
      if (format != nullptr) {
        round_cache_row(format->format, format->keys, head, key, rounded_key, scratch);
        round_cache_row(format->format, format->values, head, value, rounded_value, scratch);
        key = rounded_key;
        value = rounded_value;
      }
      if (precision_ == Precision::kBf16) {
        f32_to_bf16(key, {k16_.data() + token * d, key.size()});
        f32_to_bf16(value, {v16_.data() + token * value_stride_, value.size()});
      } else {
        float* column = k32_.data() + token / kTile * kTile * d + token % kTile;
        for (int64_t i = 0; i < d; ++i) column[i * kTile] = key[static_cast<size_t>(i)];
        std::copy(value.begin(), value.end(), v32_.begin() + token * value_stride_);
      }
    }
  }
  length_ += rows;
}

void KeyValueCache::truncate(int64_t length) {
  assert(length <= length_);
  // What is beyond the length is read as part of the last tile; it must stay finite, and zero
  // keeps results independent of what was there before.
  const auto wipe_rows = [&](auto& values, int64_t stride) {
    using Value = typename std::decay_t<decltype(values)>::value_type;
    if (values.empty()) return;
    for (int64_t head = 0; head < shape_.kv_heads; ++head) {
      const auto begin = values.begin() + head * capacity_ * stride;
      std::fill(begin + length * stride, begin + length_ * stride, Value{});
    }
  };
  wipe_rows(k16_, shape_.head_dim);
  wipe_rows(v16_, value_stride_);
  wipe_rows(v32_, value_stride_);
  for (int64_t head = 0; !k32_.empty() && head < shape_.kv_heads; ++head) {
    for (int64_t tile = length / kTile * kTile; tile < length_; tile += kTile) {
      float* keys = k32_.data() + (head * capacity_ + tile) * shape_.head_dim;
      const int64_t begin = std::max<int64_t>(0, length - tile);
      const int64_t end = std::min(kTile, length_ - tile);
      for (int64_t i = 0; i < shape_.head_dim; ++i) {
        std::fill(keys + i * kTile + begin, keys + i * kTile + end, 0.0F);
      }
    }
  }
  length_ = length;
}

void KeyValueCache::copy_from(const KeyValueCache& other) {
  assert(other.length_ <= capacity_);
  truncate(std::min(length_, other.length_));  // what is beyond becomes zero
  const auto copy = [&](const auto& from, auto& to, int64_t stride, int64_t tokens) {
    if (from.empty()) return;
    for (int64_t head = 0; head < shape_.kv_heads; ++head) {
      const auto begin = from.begin() + head * other.capacity_ * stride;
      std::copy(begin, begin + tokens * stride, to.begin() + head * capacity_ * stride);
    }
  };
  copy(other.k16_, k16_, shape_.head_dim, other.length_);
  copy(other.v16_, v16_, value_stride_, other.length_);
  copy(other.k32_, k32_, shape_.head_dim, round_up(other.length_, kTile));
  copy(other.v32_, v32_, value_stride_, other.length_);
  length_ = other.length_;
}

}  // namespace pare
