// Matrix products: y = x wᵀ with w repacked once for this machine's matrix instructions.
//
// BF16 and INT8 go through oneDNN (AMX, AVX-512), FP32 and everything that oneDNN does not do fast
// on this processor through OpenBLAS. Each call runs on the calling thread alone, so the result
// does not depend on how many threads there are. A PackedMatrix is immutable and may be used from
// several threads at once, each with a MatmulScratch of its own (oneDNN's shared scratchpad is not
// safe for that).
//
//   PackedMatrix w = PackedMatrix::bf16(weights, out_features, in_features);
//   MatmulScratch scratch;
//   w.multiply_bf16(x, rows, y, scratch);
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace pare {

/// Buffers of multiply_*() have room for this many rows more than they hold, rounded up: row
/// counts are padded to a few fixed sizes, so that few kernels are generated.
int64_t padded_rows(int64_t rows) noexcept;

/// Working memory of one thread. Grows on demand, never shrinks.
class MatmulScratch {
 public:
  MatmulScratch();
  ~MatmulScratch();
  MatmulScratch(MatmulScratch&&) noexcept;
  MatmulScratch& operator=(MatmulScratch&&) noexcept;

  struct State;
  State& state() noexcept { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

class PackedMatrix {
 public:
  /// Each takes w [out, in], row-major.
  static PackedMatrix bf16(std::span<const uint16_t> w, int64_t out_features, int64_t in_features);
  static PackedMatrix int8(std::span<const int8_t> w, int64_t out_features, int64_t in_features);
  static PackedMatrix f32(std::span<const float> w, int64_t out_features, int64_t in_features);

  PackedMatrix();
  ~PackedMatrix();
  PackedMatrix(PackedMatrix&&) noexcept;
  PackedMatrix& operator=(PackedMatrix&&) noexcept;

  /// y [rows, out] = x [rows, in] wᵀ, sums in FP32. x and y have padded_rows(rows) rows; the rows
  /// beyond `rows` are read and written with meaningless values.
  void multiply_bf16(const uint16_t* x, int64_t rows, float* y, MatmulScratch& scratch) const;

  /// The same with exact 32-bit integer sums.
  void multiply_int8(const int8_t* x, int64_t rows, int32_t* y, MatmulScratch& scratch) const;

  /// The same in FP32; needs no padding.
  void multiply_f32(const float* x, int64_t rows, float* y) const;

  int64_t out_features() const noexcept;
  int64_t in_features() const noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// c [m, n] = a b for small BF16 tiles with FP32 sums; used by attention and Gram matrices.
/// A shape is fixed at construction; run() is safe from several threads, each with its scratch.
struct TileShape {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  bool transpose_a = false;  ///< a is stored [k, m] instead of [m, k].
  bool transpose_b = false;  ///< b is stored [n, k] instead of [k, n].
  int64_t lda = 0;           ///< Elements from one stored row of a to the next.
  int64_t ldb = 0;
};

class TileMatmul {
 public:
  explicit TileMatmul(const TileShape& shape);
  ~TileMatmul();
  TileMatmul(TileMatmul&&) noexcept;
  TileMatmul& operator=(TileMatmul&&) noexcept;

  /// c is dense [m, n].
  void run(const uint16_t* a, const uint16_t* b, float* c, MatmulScratch& scratch) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Names of the kernels that BF16 and INT8 products use here, for reports:
/// "bf16 brg:avx512_core_amx, int8 brg:avx512_core_amx".
std::string matmul_kernels();

}  // namespace pare
