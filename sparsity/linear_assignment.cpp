#include "sparsity/linear_assignment.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "pare/error.h"

namespace pare {
namespace {

constexpr int32_t kNobody = -1;

// Costs are the gains taken from the largest, so that they are not negative.
class Assignment {
 public:
  Assignment(std::span<const float> gain, size_t n)
      : gain_(gain),
        n_(n),
        largest_(static_cast<double>(*std::max_element(gain.begin(), gain.end()))),
        worker_potential_(n, 0.0),
        job_potential_(n, 0.0),
        worker_of_(n, kNobody),
        job_of_(n, kNobody) {}

  std::vector<int32_t> solve() {
    reduce();
    for (size_t worker = 0; worker < n_; ++worker) {
      if (job_of_[worker] == kNobody) augment(worker);
    }
    return job_of_;
  }

 private:
  double cost(size_t worker, size_t job) const {
    return largest_ - static_cast<double>(gain_[worker * n_ + job]);
  }

  // Potentials that leave no reduced cost negative, and the assignments that these make free.
  void reduce() {
    for (size_t job = 0; job < n_; ++job) {
      double least = cost(0, job);
      for (size_t worker = 1; worker < n_; ++worker) least = std::min(least, cost(worker, job));
      job_potential_[job] = least;
    }
    for (size_t worker = 0; worker < n_; ++worker) {
      double least = std::numeric_limits<double>::infinity();
      size_t best = 0;
      for (size_t job = 0; job < n_; ++job) {
        const double reduced = cost(worker, job) - job_potential_[job];
        const bool better = reduced < least || (reduced == least && worker_of_[best] != kNobody &&
                                                worker_of_[job] == kNobody);
        if (!better) continue;
        least = reduced;
        best = job;
      }
      worker_potential_[worker] = least;
      if (worker_of_[best] != kNobody) continue;
      worker_of_[best] = static_cast<int32_t>(worker);
      job_of_[worker] = static_cast<int32_t>(best);
    }
  }

  // The cheapest alternating path from a free worker to a free job.
  void augment(size_t start) {
    const double infinity = std::numeric_limits<double>::infinity();
    std::vector<double> distance(n_, infinity);
    std::vector<size_t> before(n_, start);
    std::vector<uint8_t> settled(n_, 0);
    std::vector<size_t> path;  // settled jobs, in that order
    size_t worker = start;
    double reached = 0;
    size_t last = 0;
    while (true) {
      double least = infinity;
      for (size_t job = 0; job < n_; ++job) {
        if (settled[job] != 0) continue;
        const double through =
            reached + cost(worker, job) - worker_potential_[worker] - job_potential_[job];
        if (through < distance[job]) {
          distance[job] = through;
          before[job] = worker;
        }
        if (distance[job] < least) {
          least = distance[job];
          last = job;
        }
      }
      reached = least;
      settled[last] = 1;
      if (worker_of_[last] == kNobody) break;
      path.push_back(last);
      worker = static_cast<size_t>(worker_of_[last]);
    }
    worker_potential_[start] += reached;
    for (const size_t job : path) {
      worker_potential_[static_cast<size_t>(worker_of_[job])] += reached - distance[job];
      job_potential_[job] -= reached - distance[job];
    }
    size_t job = last;
    while (true) {
      const size_t from = before[job];
      worker_of_[job] = static_cast<int32_t>(from);
      const int32_t freed = job_of_[from];
      job_of_[from] = static_cast<int32_t>(job);
      if (from == start) return;
      job = static_cast<size_t>(freed);
    }
  }

  std::span<const float> gain_;
  size_t n_;
  double largest_;
  std::vector<double> worker_potential_;
  std::vector<double> job_potential_;
  std::vector<int32_t> worker_of_;  // of a job
  std::vector<int32_t> job_of_;     // of a worker
};

}  // namespace

std::vector<int32_t> best_assignment(std::span<const float> gain, int64_t n) {
  const auto size = static_cast<size_t>(n);
  if (n < 0 || gain.size() != size * size) {
    throw Error(ErrorCode::kInternal, "assignment: " + std::to_string(gain.size()) + " gains for " +
                                          std::to_string(n) + " workers");
  }
  if (n == 0) return {};
  if (!std::all_of(gain.begin(), gain.end(), [](float value) { return std::isfinite(value); })) {
    throw Error(ErrorCode::kNonFinite, "assignment: a gain is NaN or infinite");
  }
  return Assignment(gain, size).solve();
}

}  // namespace pare
