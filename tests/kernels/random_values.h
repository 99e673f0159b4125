// Reproducible random inputs for tests of products and attention.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "core/dtype.h"

namespace pare::testing {

inline constexpr uint32_t kRandomSeed = 20240611;

inline std::vector<float> normal_values(int64_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(size));
  for (float& value : values) value = normal(random);
  return values;
}

inline std::vector<uint16_t> normal_bf16(int64_t size, uint32_t seed) {
  std::vector<uint16_t> bits;
  for (const float value : normal_values(size, seed)) bits.push_back(f32_to_bf16(value));
  return bits;
}

/// Codes −127 … 127.
inline std::vector<int8_t> random_codes(int64_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int8_t> codes(static_cast<size_t>(size));
  for (int8_t& code : codes) code = static_cast<int8_t>(static_cast<int>(random() % 255) - 127);
  return codes;
}

}  // namespace pare::testing
