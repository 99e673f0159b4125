// The figures of a divergence by the names that they have in JSON.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "pare/evaluate_report.h"

namespace pare {

/// Key and figure. DivergenceType: Divergence or const Divergence; pointers into it.
template <typename DivergenceType>
auto measured_figures(DivergenceType& d) {
  return std::vector<std::pair<std::string, decltype(&d.kl_mean)>>{
      {"kl_mean", &d.kl_mean},
      {"kl_median", &d.kl_median},
      {"kl_p90", &d.kl_p90},
      {"kl_p95", &d.kl_p95},
      {"kl_p99", &d.kl_p99},
      {"kl_p999", &d.kl_p999},
      {"delta_p_mean", &d.delta_p_mean},
      {"delta_p_rms", &d.delta_p_rms},
      {"top1_agreement", &d.top1_agreement},
      {"top5_agreement", &d.top5_agreement}};
}

}  // namespace pare
