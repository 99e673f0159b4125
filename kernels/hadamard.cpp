#include "kernels/hadamard.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>
#include <random>

#include "pare/error.h"

namespace pare {
namespace {

constexpr int64_t kLargestPaley = 512;     // beyond it a Hartley matrix of the odd part is cheaper
constexpr int64_t kLargestHartley = 2048;  // of a dense matrix that is built and multiplied with

enum class BaseKind : uint8_t { kNone, kPaleyOne, kPaleyTwo, kHartley };

struct Factors {
  int64_t order = 0;  // of the matrix that is no power of two; 0: there is none
  BaseKind kind = BaseKind::kNone;
};

bool is_prime(int64_t n) {
  if (n < 2) return false;
  for (int64_t i = 2; i * i <= n; ++i) {
    if (n % i == 0) return false;
  }
  return true;
}

Factors factors_of(int64_t width) {
  if (width <= 0) return {};
  const int64_t power = width & -width;
  const int64_t odd = width / power;
  if (odd == 1) return {1, BaseKind::kNone};
  for (int64_t part = 4; part <= power && part * odd <= kLargestPaley; part *= 2) {
    const int64_t order = part * odd;
    if (is_prime(order - 1)) return {order, BaseKind::kPaleyOne};  // 3 modulo 4, as 4 divides order
    const int64_t half = order / 2 - 1;
    if (half % 4 == 1 && is_prime(half)) return {order, BaseKind::kPaleyTwo};
  }
  if (odd <= kLargestHartley) return {odd, BaseKind::kHartley};
  return {};
}

// 1 for squares modulo the prime, −1 for other numbers, 0 for 0.
std::vector<int> residues(int64_t prime) {
  std::vector<int> character(static_cast<size_t>(prime), -1);
  for (int64_t i = 0; i < prime; ++i) character[static_cast<size_t>(i * i % prime)] = 1;
  character[0] = 0;
  return character;
}

// Paley's S of order q + 1: [0 1; ∓1 χ(i − j)], with −1 where q is 3 modulo 4.
std::vector<int> paley_core(int64_t prime) {
  const std::vector<int> character = residues(prime);
  const int64_t order = prime + 1;
  std::vector<int> core(static_cast<size_t>(order * order), 0);
  for (int64_t i = 1; i < order; ++i) {
    core[static_cast<size_t>(i)] = 1;
    core[static_cast<size_t>(i * order)] = prime % 4 == 3 ? -1 : 1;
    for (int64_t j = 1; j < order; ++j) {
      core[static_cast<size_t>(i * order + j)] =
          character[static_cast<size_t>((i - j + prime) % prime)];
    }
  }
  return core;
}

// I + S, of order q + 1.
std::vector<float> paley_one(int64_t order) {
  const std::vector<int> core = paley_core(order - 1);
  std::vector<float> matrix(core.begin(), core.end());
  for (int64_t i = 0; i < order; ++i) matrix[static_cast<size_t>(i * (order + 1))] += 1;
  return matrix;
}

// S ⊗ [1 1; 1 −1] + I ⊗ [1 −1; −1 −1], of order 2 (q + 1).
std::vector<float> paley_two(int64_t order) {
  const int64_t half = order / 2;
  const std::vector<int> core = paley_core(half - 1);
  std::vector<float> matrix(static_cast<size_t>(order * order));
  for (int64_t i = 0; i < order; ++i) {
    for (int64_t j = 0; j < order; ++j) {
      const int off = core[static_cast<size_t>(i / 2 * half + j / 2)];
      const int both = i % 2 + j % 2;
      const int value = i / 2 == j / 2 ? (both == 0 ? 1 : -1) : off * (both == 2 ? -1 : 1);
      matrix[static_cast<size_t>(i * order + j)] = static_cast<float>(value);
    }
  }
  return matrix;
}

double hartley_entry(int64_t i, int64_t j, int64_t order) {
  const double angle =
      2 * std::numbers::pi * static_cast<double>(i * j % order) / static_cast<double>(order);
  return (std::cos(angle) + std::sin(angle)) / std::sqrt(static_cast<double>(order));
}

std::vector<float> hartley(int64_t order) {
  std::vector<float> matrix(static_cast<size_t>(order * order));
  for (int64_t i = 0; i < order; ++i) {
    for (int64_t j = 0; j < order; ++j) {
      matrix[static_cast<size_t>(i * order + j)] = static_cast<float>(hartley_entry(i, j, order));
    }
  }
  return matrix;
}

std::vector<float> base_of(const Factors& factors) {
  switch (factors.kind) {
    case BaseKind::kPaleyOne:
      return paley_one(factors.order);
    case BaseKind::kPaleyTwo:
      return paley_two(factors.order);
    case BaseKind::kHartley:
      return hartley(factors.order);
    default:
      return {1.0F};
  }
}

// (a, b) becomes (a + b, a − b), element by element.
void butterfly(float* a, float* b, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const float first = a[i];
    const float second = b[i];
    a[i] = first + second;
    b[i] = first - second;
  }
}

}  // namespace

bool HadamardRotation::exists(int64_t width) { return factors_of(width).order > 0; }

HadamardRotation::HadamardRotation(int64_t width, uint64_t seed) : width_(width) {
  const Factors factors = factors_of(width);
  if (factors.order == 0) {
    throw Error(ErrorCode::kUsage, "there is no rotation of width " + std::to_string(width) +
                                       ": its odd part must be at most " +
                                       std::to_string(kLargestHartley));
  }
  order_ = factors.order;
  hartley_ = factors.kind == BaseKind::kHartley;
  base_ = base_of(factors);
  const int64_t unscaled = hartley_ ? width / order_ : width;
  const auto scale = static_cast<float>(1 / std::sqrt(static_cast<double>(unscaled)));
  std::mt19937_64 random(seed);
  for (int64_t i = 0; i < width; ++i) signs_.push_back(random() >> 63 == 0 ? scale : -scale);
}

void HadamardRotation::apply(std::span<float> values, int64_t count) const {
  if (static_cast<int64_t>(values.size()) != width_ * count) {
    throw Error(ErrorCode::kInternal, "a rotation of width " + std::to_string(width_) + " got " +
                                          std::to_string(values.size()) + " values");
  }
  for (int64_t i = 0; i < width_; ++i) {
    const float sign = signs_[static_cast<size_t>(i)];
    float* row = values.data() + i * count;
    for (int64_t v = 0; v < count; ++v) row[v] *= sign;
  }
  if (order_ > 1) multiply_base(values, count);
  const int64_t block = order_ * count;
  for (int64_t half = block; half < width_ * count; half *= 2) {
    for (int64_t begin = 0; begin < width_ * count; begin += 2 * half) {
      butterfly(values.data() + begin, values.data() + begin + half, half);
    }
  }
}

void HadamardRotation::multiply_base(std::span<float> values, int64_t count) const {
  std::vector<float> result(static_cast<size_t>(order_ * count));
  for (int64_t begin = 0; begin < width_; begin += order_) {
    float* block = values.data() + begin * count;
    std::fill(result.begin(), result.end(), 0.0F);
    for (int64_t j = 0; j < order_; ++j) {
      float* sum = result.data() + j * count;
      int64_t i = 0;
      // Four rows at once: each sum is loaded and stored a fourth as often.
      for (; i + 4 <= order_; i += 4) {
        const float* b = base_.data() + i * order_ + j;
        const float* row = block + i * count;
        for (int64_t v = 0; v < count; ++v) {
          sum[v] += (b[0] * row[v] + b[order_] * row[v + count]) +
                    (b[2 * order_] * row[v + 2 * count] + b[3 * order_] * row[v + 3 * count]);
        }
      }
      for (; i < order_; ++i) {
        const float factor = base_[static_cast<size_t>(i * order_ + j)];
        const float* row = block + i * count;
        for (int64_t v = 0; v < count; ++v) sum[v] += factor * row[v];
      }
    }
    std::copy(result.begin(), result.end(), block);
  }
}

std::vector<double> HadamardRotation::matrix() const {
  std::vector<double> q(static_cast<size_t>(width_ * width_));
  const double scale = 1 / std::sqrt(static_cast<double>(hartley_ ? width_ / order_ : width_));
  for (int64_t i = 0; i < width_; ++i) {
    const double sign = signs_[static_cast<size_t>(i)] < 0 ? -scale : scale;
    for (int64_t j = 0; j < width_; ++j) {
      // Sylvester's entry is −1 to the number of ones that two indices share.
      const auto shared = static_cast<uint64_t>(i / order_) & static_cast<uint64_t>(j / order_);
      const double base =
          hartley_
              ? hartley_entry(i % order_, j % order_, order_)
              : static_cast<double>(base_[static_cast<size_t>(i % order_ * order_ + j % order_)]);
      q[static_cast<size_t>(i * width_ + j)] =
          std::popcount(shared) % 2 == 0 ? sign * base : -sign * base;
    }
  }
  return q;
}

std::string HadamardRotation::describe() const {
  if (order_ == 1) return std::to_string(width_);
  return std::to_string(width_ / order_) + " x " + std::to_string(order_) +
         (hartley_ ? ", Hartley" : ", Paley");
}

}  // namespace pare
