// Which items belong together, and standard errors that respect it.
//
// Questions of a subject, or tokens of a window, are correlated: they are not as many observations
// as they look. The error of a mean is therefore taken between clusters: deviations from the mean
// are summed within a cluster first, and the sums r_g of G clusters give
//
//   SE² = Σ_g r_g² / (1 − w_g / W) / W²        w_g: weight (number of items) of g, W = Σ w_g
//
// The divisor 1 − w_g / W makes SE² unbiased for clusters of unequal size (Bell & McCaffrey 2002,
// "CR2", for a mean); with equal clusters it is the usual G / (G − 1), and with one item a cluster
// SE = s / √n. Intervals use Student's t with G − 1
// degrees of freedom where clusters are equal, see effective_number().
//
// Clusters is a value: copyable; const use is safe from several threads. Sums are in double and in
// order of items, so results do not depend on threads.
//
//   const Clusters subjects = Clusters::by_group(subject_of_question);
//   Estimate mean = clustered_estimate(correct, subjects);
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "eval/statistics.h"

namespace pare {

/// W² / Σ w²: so many clusters of equal weight tell as much (Kish 1965, Survey Sampling). Their
/// number where weights are equal; 0 without weight. Intervals take one less as their degrees of
/// freedom: a few large clusters among many small ones know little of the spread.
double effective_number(std::span<const double> weights);

/// A partition of items 0 … size() − 1.
class Clusters {
 public:
  /// Every item is its own cluster.
  static Clusters independent(size_t items);
  /// Items with equal numbers belong together; numbers need not be dense or sorted. If all are
  /// equal, the items are taken as independent: between one cluster there is no spread, and the
  /// result then speaks of that one subject.
  static Clusters by_group(std::span<const uint32_t> groups);
  /// The same, but a single group stays one cluster, of which nothing is known but the mean: there
  /// is no error and no interval.
  static Clusters between(std::span<const uint32_t> groups);
  /// Each run of `length` items, as tokens in windows; the last may be shorter. One run only is
  /// taken as independent items, as above. REQUIRES: length > 0.
  static Clusters runs(size_t items, size_t length);

  size_t size() const { return items_; }
  /// Number of clusters; of items where they are independent.
  size_t count() const { return index_.empty() ? items_ : weights_.size(); }
  /// effective_number() of the clusters.
  double effective_count() const { return clustered() ? effective_number(weights_) : items_; }
  /// False where every item stands for itself.
  bool clustered() const { return !index_.empty(); }
  /// Number of items of each cluster, in order of first appearance; one each if independent.
  std::vector<double> weights() const;
  /// Sum of the values of each cluster, in the same order. REQUIRES: values.size() == size().
  std::vector<double> sums(std::span<const double> values) const;

 private:
  size_t items_ = 0;
  std::vector<uint32_t> index_;  // cluster of each item; empty when independent
  std::vector<double> weights_;
};

/// Σ sums / Σ weights with its standard error from the formula above; error 0 where fewer than two
/// clusters have weight. Clusters of weight 0 are left out.
/// REQUIRES: equal lengths, weights ≥ 0 with a positive sum.
Estimate estimate_between(std::span<const double> sums, std::span<const double> weights);

/// Mean of all values, with the error between clusters; 0 ± 0 without values.
Estimate clustered_estimate(std::span<const double> values, const Clusters& clusters);

}  // namespace pare
