#include "model/expert_rows.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "pare/error.h"

namespace pare {
namespace {

// Indices of the `count` largest values, the largest first.
std::vector<int32_t> largest(std::span<const float> values, int64_t count) {
  std::vector<int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + count, order.end(), [&](int32_t a, int32_t b) {
    const float x = values[static_cast<size_t>(a)];
    const float y = values[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  });
  order.resize(static_cast<size_t>(count));
  return order;
}

void softmax(std::span<float> values) {
  const float most = *std::max_element(values.begin(), values.end());
  float sum = 0;
  for (float& value : values) sum += value = std::exp(value - most);
  for (float& value : values) value /= sum;
}

// Scores outside of the best groups become minus infinity; a group counts as its two best experts.
void keep_best_groups(const ExpertsSpec& spec, std::span<float> scores) {
  const int64_t size = spec.count / spec.groups;
  std::vector<float> of_group;
  for (int64_t group = 0; group < spec.groups; ++group) {
    const std::span<const float> members =
        scores.subspan(static_cast<size_t>(group * size), static_cast<size_t>(size));
    float sum = 0;
    for (const int32_t best : largest(members, std::min<int64_t>(2, size))) {
      sum += members[static_cast<size_t>(best)];
    }
    of_group.push_back(sum);
  }
  std::vector<bool> kept(of_group.size(), false);
  for (const int32_t group : largest(of_group, spec.chosen_groups)) {
    kept[static_cast<size_t>(group)] = true;
  }
  for (size_t i = 0; i < scores.size(); ++i) {
    if (!kept[i / static_cast<size_t>(size)]) scores[i] = -std::numeric_limits<float>::infinity();
  }
}

}  // namespace

void choose_experts(const ExpertsSpec& spec, std::span<const float> logits,
                    std::span<const float> correction, std::span<int32_t> experts,
                    std::span<float> weights) {
  std::vector<float> scores(logits.begin(), logits.end());
  std::vector<int32_t> chosen;
  if (spec.routing == Routing::kSigmoidGroups) {
    for (float& score : scores) score = 1 / (1 + std::exp(-score));
    std::vector<float> choice = scores;
    for (size_t i = 0; i < correction.size(); ++i) choice[i] += correction[i];
    keep_best_groups(spec, choice);
    chosen = largest(choice, spec.chosen);
  } else {
    if (spec.routing == Routing::kSoftmax) softmax(scores);
    chosen = largest(scores, spec.chosen);
  }
  for (size_t i = 0; i < chosen.size(); ++i) {
    experts[i] = chosen[i];
    weights[i] = scores[static_cast<size_t>(chosen[i])];
  }
  if (spec.routing == Routing::kSoftmaxOfChosen) softmax(weights);
  if (spec.normalize) {
    constexpr float kLeast = 1e-20F;  // no division by zero where all sigmoids vanish
    const float sum = std::accumulate(weights.begin(), weights.end(), kLeast);
    for (float& weight : weights) weight /= sum;
  }
  for (float& weight : weights) weight *= spec.scale;
}

ExpertRows::ExpertRows(const BlockGraph& block, int64_t row_count) {
  if (!block.experts) return;
  rows = row_count;
  for (const Op& op : block.ops) {
    if (op.kind == OpKind::kExperts) width = block.width(op.output);
  }
  chosen = block.experts->chosen;
  input.resize(static_cast<size_t>(rows * width));
  output.resize(input.size());
  experts.resize(static_cast<size_t>(rows * chosen));
  weights.resize(experts.size());
}

int64_t ExpertRows::memory_bytes(const BlockGraph& block, int64_t rows) {
  if (!block.experts) return 0;
  // The lists by expert grow by doubling.
  constexpr int64_t kListed = 2 * (sizeof(int64_t) + sizeof(float));
  return rows * (8 * block.widths[0] + (8 + kListed) * block.experts->chosen);
}

void ExpertRows::set(const ExpertsSpec& spec, std::span<const float> correction, int64_t first,
                     int64_t count, const float* x, const float* logits) {
  std::copy(x, x + count * width, input.begin() + first * width);
  const std::span<const float> all(logits, static_cast<size_t>(count * spec.count));
  if (std::any_of(all.begin(), all.end(), [](float logit) { return !std::isfinite(logit); })) {
    throw Error(ErrorCode::kNonFinite, "the logits of the router hold NaN or infinity");
  }
  for (int64_t row = 0; row < count; ++row) {
    const auto place = static_cast<size_t>((first + row) * chosen);
    choose_experts(spec, {logits + row * spec.count, static_cast<size_t>(spec.count)}, correction,
                   {experts.data() + place, static_cast<size_t>(chosen)},
                   {weights.data() + place, static_cast<size_t>(chosen)});
  }
}

std::vector<ExpertRows::Routed> ExpertRows::routed(int64_t experts_of_block) const {
  std::vector<Routed> of_expert(static_cast<size_t>(experts_of_block));
  for (size_t i = 0; i < experts.size(); ++i) {
    Routed& routed = of_expert[static_cast<size_t>(experts[i])];
    routed.rows.push_back(static_cast<int64_t>(i) / chosen);
    routed.weights.push_back(weights[i]);
  }
  return of_expert;
}

}  // namespace pare
