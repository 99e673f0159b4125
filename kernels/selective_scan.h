// The recurrences of state-space models, row by row over one sequence.
//
// Both keep a state per channel that decays, takes in the row's input and is read out. They run in
// FP32 in time and memory linear in the rows: a block of states stays in the first-level cache
// while all rows pass, and nothing else is stored or allocated. Each state and each output is one
// chain of operations in the order of time, and of state number: cutting a sequence into calls that
// hand on the state changes nothing. Safe from several threads on different states and outputs.
//
// Inputs are often column ranges of wider rows, so each has a stride: elements from one row to the
// next, 0 where the rows are dense.
//
//   std::vector<float> state(channels * state_size);  // zeros: a sequence begins
//   selective_scan({.x = x, .dt = dt, .b = b, .c = c, .rows = rows}, a, d, channels, state_size,
//                  state, y);
#pragma once

#include <cstdint>
#include <span>

namespace pare {

struct SelectiveScanInput {
  const float* x = nullptr;   ///< [rows, channels]
  const float* dt = nullptr;  ///< [rows, channels], step sizes, not negative (after softplus)
  const float* b = nullptr;   ///< [rows, state_size]
  const float* c = nullptr;   ///< [rows, state_size]
  int64_t rows = 0;
  int64_t x_stride = 0;
  int64_t dt_stride = 0;
  int64_t b_stride = 0;
  int64_t c_stride = 0;
};

/// Mamba (Gu & Dao, 2023, arXiv:2312.00752):
///   h[c, n] = exp(dt[t, c] × a[c, n]) × h[c, n] + dt[t, c] × x[t, c] × b[t, n]
///   y[t, c] = d[c] × x[t, c] + Σ_n c[t, n] × h[c, n]
/// a [channels, state_size], not positive; d [channels], or empty for zero; state h [channels,
/// state_size], before the first row and then after the last; y [rows, channels], which must not
/// overlap an input. Decays below exp(−87) count as exp(−87). REQUIRES: state_size ≥ 1.
void selective_scan(const SelectiveScanInput& input, std::span<const float> a,
                    std::span<const float> d, int64_t channels, int64_t state_size,
                    std::span<float> state, float* y);

struct StateSpaceShape {
  int64_t heads = 0;
  int64_t head_dim = 0;
  int64_t state_size = 0;
  int64_t groups = 1;    ///< Divides heads; heads of a group, neighbours, share b and c.
  int64_t x_stride = 0;  ///< From row to row of x; 0: heads × head_dim.
  int64_t dt_stride = 0;
  int64_t b_stride = 0;
  int64_t c_stride = 0;
};

/// Mamba-2 (Dao & Gu, 2024, arXiv:2405.21060), for each head and channel p of it:
///   h[p, n] = exp(dt[t] × a) × h[p, n] + dt[t] × x[t, p] × b[t, n]
///   y[t, p] = d × x[t, p] + Σ_n c[t, n] × h[p, n]
/// x and y [rows, heads × head_dim]; dt [rows, heads]; b and c [rows, groups × state_size]; a
/// [heads], not positive; d [heads], or empty for zero; state [heads, head_dim, state_size], before
/// the first row and then after the last. y must not overlap an input. REQUIRES: sizes ≥ 1.
void state_space_scan(const float* x, const float* dt, const float* b, const float* c, int64_t rows,
                      std::span<const float> a, std::span<const float> d,
                      const StateSpaceShape& shape, std::span<float> state, float* y);

namespace reference {
/// The same with plain loops; states and outputs in double, rounded at the end of the call.
void selective_scan(const SelectiveScanInput& input, std::span<const float> a,
                    std::span<const float> d, int64_t channels, int64_t state_size,
                    std::span<float> state, float* y);
void state_space_scan(const float* x, const float* dt, const float* b, const float* c, int64_t rows,
                      std::span<const float> a, std::span<const float> d,
                      const StateSpaceShape& shape, std::span<float> state, float* y);
}  // namespace reference

}  // namespace pare
