// Optimal Brain Surgeon, column by column: the loop that SparseGPT (Frantar & Alistarh, 2023,
// arXiv:2301.00774) and GPTQ (Frantar et al., 2022, arXiv:2210.17323) share.
//
// Going through the columns in order, each weight is pruned or rounded and the error is spread over
// the columns to its right so that the layer's output changes least. With a mask only: SparseGPT.
// With a grid only: GPTQ. With both: pruned and quantized in one pass from one factorisation.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "quant/weight_grid.h"

namespace pare {

/// Upper Cholesky factor U of the inverse of the damped Gram matrix, H⁻¹ = Uᵀ U, [in, in].
/// Made once for all linears that share the input. Channels that were never active (zero diagonal)
/// get a unit diagonal; their weights do not matter.
struct InverseFactor {
  int64_t in_features = 0;
  std::vector<float> upper;   ///< [in, in] row-major, zero below the diagonal.
  std::vector<uint8_t> dead;  ///< [in] 1 where the channel was never active.
  double damping = 0;         ///< The share of the mean diagonal that was needed.
};

/// `damping` is the share of the mean diagonal that is added; it is raised tenfold until the
/// factorisation succeeds, at most five times; then Error(kNonFinite) naming `name`. `noise`, [in]
/// or empty, adds to the energy of the channels.
InverseFactor factorize_inverse(std::span<const double> gram, int64_t in_features, double damping,
                                const std::string& name, std::span<const double> noise = {});

struct ObsProblem {
  int64_t out_features = 0;
  int64_t in_features = 0;
  std::span<const float> weight;  ///< [out, in]
  const InverseFactor* factor = nullptr;

  /// 2:4 pruning: choose the mask on the way (SparseGPT), or follow a given one.
  bool choose_mask = false;
  std::span<const uint8_t> keep;  ///< [out, in] given mask, or empty.

  /// Round to a grid on the way. kPerTensor and kPerChannel scales and those of blocks of several
  /// rows are taken from `grid` as given; group scales are fitted to the updated weights when the
  /// group is reached.
  std::optional<WeightGrid> grid;
  /// The columns of weight, mask and factor are in another order than those of the grid: column j
  /// is the grid's order[j]. Group scales are then taken as given, too. Empty: they are in order.
  std::span<const int32_t> order = {};
  /// Fits one group: (grid, row, group, updated weights of the group, their keep flags or empty).
  /// Empty: fit_group_absmax on the kept weights. Called from several threads on different rows.
  std::function<void(WeightGrid&, int64_t row, int64_t group, std::span<const float>,
                     std::span<const uint8_t>)>
      fit_group;
  /// Group scales only: tries ratios of the fitted range and keeps the one with which this loop
  /// itself leaves the least error in the group, later columns compensating.
  bool search_group_scale = false;
};

struct ObsSolution {
  std::vector<float> weight;  ///< [out, in] updated; rounded values when a grid was given.
  std::vector<uint8_t> keep;  ///< [out, in] when pruned, else empty.
  std::vector<int8_t> codes;  ///< [out, in] when a grid was given.
  std::optional<WeightGrid> grid;
};

/// Rows are independent, so blocks of rows run on the pool and the result does not depend on it.
ObsSolution solve_obs(const ObsProblem& problem, ThreadPool& pool);

}  // namespace pare
