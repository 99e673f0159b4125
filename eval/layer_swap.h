// One linear of a candidate in the place of the baseline's, and how far its output is off.
//
// The linear runs as deployed, on its input rounded as it asks; scales that the candidate holds
// elsewhere (eval/layer_scales.h) are put on the input and taken off the output.
//
//   LinearSwap swap(load_linear(block, op, candidate, precision), scales.input[i],
//                   scales.output[i]);
//   runner.run_edited(hidden, tokens, workspace, [&](size_t op, int64_t rows, const float* x,
//                                                    float* y) {
//     if (op == i) swap.replace(rows, x, y, scratch, error);
//   });
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "model/block_weights.h"
#include "model/linear.h"

namespace pare {

/// Sums over the outputs of a linear.
struct OutputError {
  double signal = 0;  ///< Σ y², y the baseline's output.
  double noise = 0;   ///< Σ (candidate's − y)²

  void add(float expected, float found) {
    const auto value = static_cast<double>(expected);
    const double difference = static_cast<double>(found) - value;
    signal += value * value;
    noise += difference * difference;
  }
  void add(const OutputError& other) {
    signal += other.signal;
    noise += other.noise;
  }

  /// Signal-to-quantization-noise ratio, 10 log10(signal / noise); absent without noise. Within
  /// ±300, so that an output that should be zero gives no infinity.
  std::optional<double> decibel() const;
};

/// Working memory of one thread.
struct SwapScratch {
  LinearInput input;
  std::vector<float> x;
  std::vector<float> y;
  std::vector<float> low;      // of an adapter, [rows, rank]
  std::vector<float> adapted;  // what it adds, [rows, out]
};

/// Immutable; safe from several threads, each with its SwapScratch.
class LinearSwap {
 public:
  /// Scales as in BlockScales; empty: ones. An adapter beside the linear is part of it.
  LinearSwap(Linear linear, std::vector<float> input_scale, std::vector<float> output_scale,
             std::optional<LowRankAdapter> adapter = std::nullopt);

  /// y [rows, out], the baseline's output for x [rows, in], becomes the candidate's, and `error` is
  /// added to. Throws Error(kNonFinite) as Linear::prepare() does.
  void replace(int64_t rows, const float* x, float* y, SwapScratch& scratch,
               OutputError& error) const;

 private:
  Linear linear_;
  std::vector<float> input_scale_;
  std::vector<float> output_factor_;  // 1 / scale
  std::optional<LowRankAdapter> adapter_;
};

}  // namespace pare
