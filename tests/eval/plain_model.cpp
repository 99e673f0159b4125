#include "tests/eval/plain_model.h"

#include <algorithm>
#include <cmath>

#include "tests/support/random_model.h"

namespace pare::testing {

std::vector<float> plain_logits(const EvaluatedModel& model, std::span<const int32_t> ids,
                                Precision precision, std::span<const int32_t> source) {
  const Sequence sequence{{ids.begin(), ids.end()}, {source.begin(), source.end()}};
  SequenceRunOptions options;
  options.positions = static_cast<int64_t>(std::max(ids.size(), source.size()));
  return run_sequences(model.graph, *model.source, {&sequence, 1}, precision, options)[0];
}

std::vector<double> log_softmax(std::span<const float> logits) {
  const double largest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  std::vector<double> result;
  for (const float logit : logits) {
    result.push_back(static_cast<double>(logit) - largest - std::log(sum));
  }
  return result;
}

}  // namespace pare::testing
