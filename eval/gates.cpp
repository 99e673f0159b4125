#include "pare/gates.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "pare/error.h"

namespace pare {
namespace {

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

std::string percent(double value) { return number(100 * value) + " %"; }

std::optional<double> upper(const Measured& figure) {
  return figure.interval ? std::optional<double>(figure.interval->upper) : std::nullopt;
}

// What a gate looks at: a figure that is worse the larger it is.
struct Judged {
  std::string figure;
  double value = 0;
  std::optional<double> upper;  // of its interval
  bool identical = false;       // every item equals the baseline's
  bool as_percent = false;
};

class Judge {
 public:
  explicit Judge(const ModelResult& candidate) : candidate_(candidate) {}

  void judge(const char* gate, const std::string& task, const Judged& judged, double limit) {
    const std::optional<double> found = judged.identical ? judged.value : judged.upper;
    if (found && *found <= limit) return;  // a NaN fails
    const auto shown = [&](double value) {
      return judged.as_percent ? percent(value) : number(value);
    };
    FailedGate failed{.gate = gate,
                      .candidate = candidate_.name,
                      .task = task,
                      .found = found.value_or(judged.value),
                      .limit = limit,
                      .message = ""};
    failed.message =
        "\"" + candidate_.name + "\" on " + task + ": " + judged.figure + " " +
        (found ? "may be as large as " + shown(*found) + " (" + shown(judged.value) + " measured)"
               : "is " + shown(judged.value) + ", of too few items for an interval") +
        ", " + gate + " allows " + shown(limit);
    failed_.push_back(std::move(failed));
  }

  void judge(const std::string& task, const PerplexityResult& result, const Gates& gates) {
    const bool identical = result.divergence.kl_max == 0 && result.ratio.value == 1;
    const std::optional<double> ratio = upper(result.ratio);
    if (gates.max_loss) {
      judge("max_loss", task,
            {.figure = "the rise of perplexity",
             .value = result.ratio.value - 1,
             .upper = ratio ? std::optional<double>(*ratio - 1) : std::nullopt,
             .identical = identical,
             .as_percent = true},
            *gates.max_loss);
    }
    if (gates.max_ppl_ratio) {
      judge("max_ppl_ratio", task,
            {.figure = "the ratio of perplexities",
             .value = result.ratio.value,
             .upper = ratio,
             .identical = identical},
            *gates.max_ppl_ratio);
    }
    if (gates.max_kl) {
      judge("max_kl", task,
            {.figure = "the mean KL divergence",
             .value = result.divergence.kl_mean.value,
             .upper = upper(result.divergence.kl_mean),
             .identical = identical},
            *gates.max_kl);
    }
  }

  void judge(const std::string& task, const ChoiceResult& result, const Gates& gates) {
    if (!gates.max_loss) return;
    judge("max_loss", task,
          {.figure = "the loss of accuracy",
           .value = result.relative_loss.value,
           .upper = upper(result.relative_loss),
           .as_percent = true},
          *gates.max_loss);
  }

  std::vector<FailedGate> take() && { return std::move(failed_); }

 private:
  const ModelResult& candidate_;
  std::vector<FailedGate> failed_;
};

}  // namespace

std::vector<FailedGate> failed_gates(const EvaluateReport& report, const Gates& gates) {
  if (report.candidates.empty()) {
    throw Error(ErrorCode::kUsage, "gates need a candidate to judge, there is none");
  }
  const bool has_text = std::any_of(report.tasks.begin(), report.tasks.end(),
                                    [](const TaskReport& task) { return !task.questions; });
  if ((gates.max_kl || gates.max_ppl_ratio) && !has_text) {
    throw Error(ErrorCode::kUsage, std::string(gates.max_kl ? "max_kl" : "max_ppl_ratio") +
                                       " needs a task of perplexity, there is none");
  }
  std::vector<FailedGate> all;
  for (const ModelResult& candidate : report.candidates) {
    Judge judge(candidate);
    for (const TaskReport& task : report.tasks) {
      if (task.questions) {
        judge.judge(task.name, candidate.choices.at(task.name), gates);
      } else {
        judge.judge(task.name, candidate.perplexities.at(task.name), gates);
      }
    }
    for (FailedGate& failed : std::move(judge).take()) all.push_back(std::move(failed));
  }
  return all;
}

}  // namespace pare
