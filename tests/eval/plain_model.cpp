#include "tests/eval/plain_model.h"

#include <algorithm>
#include <cmath>

#include "model/block_runner.h"
#include "model/model_head.h"

namespace pare::testing {

std::vector<float> plain_logits(const EvaluatedModel& model, std::span<const int32_t> ids,
                                Precision precision) {
  const auto length = static_cast<int64_t>(ids.size());
  std::vector<float> hidden(ids.size() * static_cast<size_t>(model.graph.hidden_size));
  embed_tokens(model.graph, *model.source, ids, hidden.data());
  for (const BlockGraph& block : model.graph.blocks) {
    const BlockWeights weights = load_block(block, *model.source, precision);
    const RotaryTable rotary = make_rotary_table(block.rotary, length);
    BlockWorkspace workspace(block, length, precision);
    BlockRunner(block, weights, rotary, precision).run(hidden.data(), length, workspace, {});
  }
  LogitsWorkspace workspace;
  const auto logits =
      ModelHead(model.graph, *model.source, precision).logits(hidden.data(), length, workspace);
  return {logits.begin(), logits.end()};
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
