// The linear sum assignment problem: n workers, n jobs, each worker one job, the largest sum.
//
// Shortest augmenting paths with potentials (Kuhn, 1955, doi:10.1002/nav.3800020109; Jonker &
// Volgenant, 1987, doi:10.1007/BF02278710), at most n³ steps. Equal sums: always the same answer.
//
//   std::vector<int32_t> job = best_assignment(gain, n);
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace pare {

/// gain [n, n]: of worker i in job j. Returns the job of each worker. Throws Error(kNonFinite) for
/// gains that are not finite.
std::vector<int32_t> best_assignment(std::span<const float> gain, int64_t n);

}  // namespace pare
