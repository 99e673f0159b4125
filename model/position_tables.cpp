#include "model/position_tables.h"

#include <algorithm>
#include <cmath>

#include "core/dtype.h"

namespace pare {
namespace {

bool same_shape(const RotaryShape& a, const RotaryShape& b) {
  return a.head_dim == b.head_dim && a.rotated == b.rotated && a.first == b.first &&
         a.interleaved == b.interleaved && a.inverse_frequency == b.inverse_frequency &&
         a.attention_factor == b.attention_factor &&
         a.long_inverse_frequency == b.long_inverse_frequency &&
         a.short_positions == b.short_positions && a.ntk_theta == b.ntk_theta &&
         a.ntk_factor == b.ntk_factor;
}

std::vector<float> frequencies(const RotaryShape& shape, int64_t length) {
  if (length <= shape.short_positions) return shape.inverse_frequency;
  if (!shape.long_inverse_frequency.empty()) return shape.long_inverse_frequency;
  if (shape.ntk_theta == 0) return shape.inverse_frequency;
  const auto dim = static_cast<double>(shape.rotated);
  const double growth =
      shape.ntk_factor * static_cast<double>(length) / static_cast<double>(shape.short_positions) -
      (shape.ntk_factor - 1);
  const double theta = shape.ntk_theta * std::pow(growth, dim / (dim - 2));
  std::vector<float> result;
  for (int64_t i = 0; i < shape.rotated; i += 2) {
    result.push_back(static_cast<float>(1 / std::pow(theta, static_cast<double>(i) / dim)));
  }
  return result;
}

// [heads, positions] by key position.
std::vector<float> alibi_bias(const AlibiSpec& spec, int64_t positions) {
  std::vector<float> bias;
  bias.reserve(spec.slopes.size() * static_cast<size_t>(positions));
  for (const float slope : spec.slopes) {
    for (int64_t key = 0; key < positions; ++key) {
      const auto position = static_cast<float>(key);
      float value = slope * position;
      if (spec.bf16) {
        value = bf16_to_f32(
            f32_to_bf16(bf16_to_f32(f32_to_bf16(slope)) * bf16_to_f32(f32_to_bf16(position))));
      }
      bias.push_back(value * spec.scale);
    }
  }
  return bias;
}

}  // namespace

RotaryTable make_rotary_table(const RotaryShape& shape, int64_t positions, int64_t length) {
  RotaryTable table;
  table.half = shape.rotated / 2;
  const std::vector<float> frequency = frequencies(shape, length);
  const auto size = static_cast<size_t>(positions * table.half);
  table.cosine.resize(size);
  table.sine.resize(size);
  for (int64_t position = 0; position < positions; ++position) {
    for (int64_t i = 0; i < table.half; ++i) {
      // The angle is a product in FP32, as deployed models compute it.
      const float angle = static_cast<float>(position) * frequency[static_cast<size_t>(i)];
      const auto index = static_cast<size_t>(position * table.half + i);
      const double exact = static_cast<double>(angle);
      table.cosine[index] = static_cast<float>(std::cos(exact)) * shape.attention_factor;
      table.sine[index] = static_cast<float>(std::sin(exact)) * shape.attention_factor;
    }
  }
  return table;
}

const RotaryTable& RotaryLookup::for_length(int64_t length) const {
  // Lengths that rotate alike share a table: all short ones and, but for dynamic scaling, all long.
  int64_t kind = 0;
  if (shape_.short_positions > 0 && length > shape_.short_positions) {
    kind = shape_.ntk_theta > 0 ? length : 1;
  }
  const std::lock_guard lock(mutex_);
  std::unique_ptr<RotaryTable>& table = tables_[kind];
  if (!table) {
    table = std::make_unique<RotaryTable>(make_rotary_table(shape_, positions_, length));
  }
  return *table;
}

const RotaryLookup& PositionTables::rotary(const RotaryShape& shape) {
  for (const auto& known : known_) {
    if (same_shape(known->shape(), shape)) return *known;
  }
  known_.push_back(std::make_unique<RotaryLookup>(shape, positions_));
  return *known_.back();
}

std::vector<float> alibi_slopes(int64_t heads) {
  // Powers of 2^(−8/n) for the largest power of two n; further heads take odd powers of the next.
  const double power = std::floor(std::log2(static_cast<double>(heads)));
  const auto regular = static_cast<int64_t>(std::exp2(power));
  std::vector<float> slopes;
  const float base = static_cast<float>(std::exp2(-std::exp2(3 - power)));
  for (int64_t i = 1; i <= regular; ++i) slopes.push_back(std::pow(base, static_cast<float>(i)));
  const float finer = static_cast<float>(std::exp2(-std::exp2(2 - power)));
  for (int64_t i = 1; static_cast<int64_t>(slopes.size()) < heads; i += 2) {
    slopes.push_back(std::pow(finer, static_cast<float>(i)));
  }
  return slopes;
}

int64_t relative_bucket(int64_t distance, const RelativeBiasSpec& spec) {
  int64_t buckets = spec.buckets;
  int64_t first = 0;
  int64_t away = 0;
  if (spec.bidirectional) {
    buckets /= 2;
    if (distance > 0) first = buckets;
    away = std::abs(distance);
  } else {
    away = std::max<int64_t>(0, -distance);
  }
  // Half of the buckets are single distances, the rest grow with the logarithm, computed in FP32.
  const int64_t exact = buckets / 2;
  if (away < exact) return first + away;
  const float ratio = std::log(static_cast<float>(away) / static_cast<float>(exact)) /
                      static_cast<float>(std::log(static_cast<double>(spec.max_distance) /
                                                  static_cast<double>(exact)));
  const auto far = static_cast<int64_t>(ratio * static_cast<float>(buckets - exact));
  return first + std::min(exact + far, buckets - 1);
}

AttentionTerms make_attention_terms(const AttentionSpec& spec, std::span<const float> sinks,
                                    std::span<const float> table, int64_t positions) {
  AttentionTerms terms;
  terms.sinks.assign(sinks.begin(), sinks.end());
  if (!spec.alibi.slopes.empty()) {
    terms.key_bias = alibi_bias(spec.alibi, positions);
    terms.positions = positions;
  }
  if (!table.empty()) {
    terms.span = positions;
    for (int64_t head = 0; head < spec.shape.heads; ++head) {
      for (int64_t distance = 1 - positions; distance < positions; ++distance) {
        const int64_t bucket = relative_bucket(distance, spec.relative_bias);
        terms.distance_bias.push_back(table[static_cast<size_t>(bucket * spec.shape.heads + head)]);
      }
    }
  }
  return terms;
}

}  // namespace pare
