#include "model/rotary_tables.h"

#include <cmath>

namespace pare {
namespace {

bool same_shape(const RotaryShape& a, const RotaryShape& b) {
  return a.head_dim == b.head_dim && a.rotated == b.rotated &&
         a.inverse_frequency == b.inverse_frequency && a.attention_factor == b.attention_factor;
}

}  // namespace

RotaryTable make_rotary_table(const RotaryShape& shape, int64_t positions) {
  RotaryTable table;
  table.half = shape.rotated / 2;
  const auto size = static_cast<size_t>(positions * table.half);
  table.cosine.resize(size);
  table.sine.resize(size);
  for (int64_t position = 0; position < positions; ++position) {
    for (int64_t i = 0; i < table.half; ++i) {
      // The angle is a product in FP32, as deployed models compute it.
      const float angle =
          static_cast<float>(position) * shape.inverse_frequency[static_cast<size_t>(i)];
      const auto index = static_cast<size_t>(position * table.half + i);
      const double exact = static_cast<double>(angle);
      table.cosine[index] = static_cast<float>(std::cos(exact)) * shape.attention_factor;
      table.sine[index] = static_cast<float>(std::sin(exact)) * shape.attention_factor;
    }
  }
  return table;
}

const RotaryTable& RotaryTables::of(const RotaryShape& shape) {
  for (const auto& known : known_) {
    if (same_shape(known->shape, shape)) return known->table;
  }
  known_.push_back(std::make_unique<Known>(Known{shape, make_rotary_table(shape, positions_)}));
  return known_.back()->table;
}

}  // namespace pare
