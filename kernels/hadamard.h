// Orthogonal matrices with entries of nearly one size, and their fast product with many vectors.
//
// Q = diag(s) (H ⊗ B): random signs s, H the Hadamard matrix of a power of two (Sylvester), B what
// the rest of the width asks for. Where a width 4·m has a Hadamard matrix of an order 2^j·m by
// Paley's constructions (Paley, 1933, doi:10.1002/sapm1933121311), B is the smallest of them: 12,
// 20, 28, 36 … Otherwise B is the discrete Hartley matrix of the odd part, whose entries are (cos +
// sin)(2πjk/m) / √m: orthogonal, and none larger than √(2/m).
//
// Immutable, and safe to use from several threads. The same bits on every machine: the signs are
// those of std::mt19937_64, and every sum has a fixed order.
//
//   const HadamardRotation rotation(640, seed);
//   rotation.apply(values, 16);  // sixteen vectors of 640
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace pare {

class HadamardRotation {
 public:
  /// Whether there is a rotation of this width: it is positive, and its odd part is small enough
  /// for a dense matrix.
  static bool exists(int64_t width);

  /// Throws Error(kUsage) where there is none.
  HadamardRotation(int64_t width, uint64_t seed);

  int64_t width() const noexcept { return width_; }

  /// Each of `count` vectors v becomes Qᵀ v (a row of a matrix becomes its product with Q). values
  /// is [width, count]: element i of all vectors lies together.
  void apply(std::span<float> values, int64_t count) const;

  /// Q, [width, width], element by element from its definition: the reference for apply().
  std::vector<double> matrix() const;

  /// "32 x 20, Paley", "8 x 5, Hartley", "4096".
  std::string describe() const;

 private:
  void multiply_base(std::span<float> values, int64_t count) const;

  int64_t width_ = 0;
  int64_t order_ = 1;         ///< Of B.
  bool hartley_ = false;      ///< Else B is a Hadamard matrix, its entries ±1.
  std::vector<float> base_;   ///< B, [order, order]; of a Hartley matrix with 1/√m in it.
  std::vector<float> signs_;  ///< s, times what makes the product orthogonal.
};

}  // namespace pare
