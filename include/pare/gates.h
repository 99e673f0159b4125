// Gates: limits that an evaluation must keep, for build pipelines.
//
// A gate is judged on the worse end of a figure's 95 % interval, never on the figure alone: what
// is not shown to be small enough does not pass. So few questions or windows fail a tight gate.
//
//   const pare::Gates gates{.max_loss = 0.01, .max_kl = 0.02};
//   const pare::EvaluateReport report = pare::evaluate({}, {});
//   for (const pare::FailedGate& failed : pare::failed_gates(report, gates)) {
//     std::puts(failed.message.c_str());
//   }
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pare/evaluate_report.h"
#include "pare/export.h"

namespace pare {

struct Gates {
  /// Of the relative loss of accuracy, and of the relative rise of a perplexity: 0.01 is 1 %.
  std::optional<double> max_loss;
  std::optional<double> max_ppl_ratio;  ///< Candidate's perplexity over the baseline's.
  std::optional<double> max_kl;         ///< Mean divergence, nats a token.

  bool any() const noexcept { return max_loss || max_ppl_ratio || max_kl; }
};

struct FailedGate {
  std::string gate;  ///< "max_loss", "max_ppl_ratio" or "max_kl"
  std::string candidate;
  std::string task;
  double found = 0;  ///< The end of the interval, or the figure itself where it has none.
  double limit = 0;
  std::string message;
};

/// Every gate that a candidate fails, in the order of candidates and tasks. Where a figure has no
/// interval its gate fails, unless baseline and candidate are equal in every item. Throws
/// Error(kUsage) for a gate that no task of the report can be judged by, and without candidates.
PARE_EXPORT std::vector<FailedGate> failed_gates(const EvaluateReport& report, const Gates& gates);

}  // namespace pare
