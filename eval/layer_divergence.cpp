#include "eval/layer_divergence.h"

#include <algorithm>

#include "eval/lockstep.h"
#include "eval/memory_plan.h"
#include "kernels/vector_math.h"

namespace pare {
namespace {

// Log-softmax and divergence of one logit, in multiplications.
constexpr double kCostPerLogit = 40;

// Rows of logits of one head, with what a softmax over each needs.
struct HeadLogits {
  LogitsWorkspace workspace;
  std::span<const float> logits;
  std::vector<LogSoftmaxSums> sums;

  void make(const ModelHead& head, const float* hidden, int64_t rows, size_t vocabulary) {
    logits = head.logits(hidden, rows, workspace);
    sums.clear();
    for (size_t row = 0; row < static_cast<size_t>(rows); ++row) {
      sums.push_back(log_sum_exp(logits.subspan(row * vocabulary, vocabulary)));
    }
  }
};

struct Scratch {
  HeadLogits base;
  HeadLogits model;
};

double divergence_sum(const HeadLogits& base, const HeadLogits& model, size_t vocabulary) {
  double sum = 0;
  for (size_t row = 0; row < base.sums.size(); ++row) {
    sum += kl_divergence(
        base.logits.subspan(row * vocabulary, vocabulary), base.sums[row].log_sum_exp,
        model.logits.subspan(row * vocabulary, vocabulary), model.sums[row].log_sum_exp);
  }
  return sum;
}

OutputError logits_error(std::span<const float> base, std::span<const float> found) {
  OutputError error;
  for (size_t i = 0; i < base.size(); ++i) error.add(base[i], found[i]);
  return error;
}

}  // namespace

SwapDivergence::SwapDivergence(const EvaluatedModel& baseline, const TokenWindows& windows,
                               Precision precision, ThreadPool& pool, ProgressMeter& meter)
    : baseline_(baseline),
      windows_(windows),
      precision_(precision),
      pool_(pool),
      meter_(meter),
      rows_(logit_rows(baseline.graph.vocab_size)) {}

// The last position of a window predicts what is not in it.
int64_t SwapDivergence::chunks() const { return (windows_.length - 1 + rows_ - 1) / rows_; }

SwapDivergence::Chunk SwapDivergence::chunk(int64_t item) const {
  const int64_t position = item % chunks() * rows_;
  return {item / chunks(), position, std::min(rows_, windows_.length - 1 - position)};
}

int64_t SwapDivergence::offset(const Chunk& chunk) const {
  return (chunk.window * windows_.length + chunk.position) * baseline_.graph.hidden_size;
}

double SwapDivergence::chunk_cost(size_t models) const {
  const auto logits = static_cast<double>(rows_ * baseline_.graph.vocab_size);
  return static_cast<double>(models + 1) * logits *
         (static_cast<double>(baseline_.graph.hidden_size) + kCostPerLogit);
}

double SwapDivergence::cost(size_t models, int64_t count) const {
  return static_cast<double>(count * chunks()) * chunk_cost(models);
}

std::vector<std::vector<double>> SwapDivergence::of(const float* base,
                                                    std::span<const float* const> models,
                                                    int64_t count) const {
  const ModelHead head(baseline_.graph, *baseline_.source, precision_);
  const auto vocabulary = static_cast<size_t>(baseline_.graph.vocab_size);
  const auto items = static_cast<size_t>(count * chunks());
  std::vector<double> sums(models.size() * items);
  std::vector<Scratch> scratch(pool_.size());
  for_each_window(
      pool_, meter_, count * chunks(), chunk_cost(models.size()), [&](int64_t item, size_t worker) {
        auto& [expected, found] = scratch[worker];
        const Chunk part = chunk(item);
        expected.make(head, base + offset(part), part.rows, vocabulary);
        for (size_t m = 0; m < models.size(); ++m) {
          found.make(head, models[m] + offset(part), part.rows, vocabulary);
          sums[m * items + static_cast<size_t>(item)] = divergence_sum(expected, found, vocabulary);
        }
      });
  std::vector<std::vector<double>> means(models.size(),
                                         std::vector<double>(static_cast<size_t>(count)));
  for (size_t m = 0; m < models.size(); ++m) {
    for (size_t item = 0; item < items; ++item) {
      means[m][item / static_cast<size_t>(chunks())] += sums[m * items + item];
    }
    for (double& mean : means[m]) mean /= static_cast<double>(windows_.length - 1);
  }
  return means;
}

HeadError SwapDivergence::of_head(const EvaluatedModel& candidate, const float* base,
                                  int64_t count) const {
  const ModelHead head(baseline_.graph, *baseline_.source, precision_);
  const ModelHead other(candidate.graph, *candidate.source, precision_);
  const auto vocabulary = static_cast<size_t>(baseline_.graph.vocab_size);
  const auto items = static_cast<size_t>(count * chunks());
  std::vector<double> sums(items);
  std::vector<OutputError> errors(items);
  std::vector<Scratch> scratch(pool_.size());
  for_each_window(pool_, meter_, count * chunks(), chunk_cost(1), [&](int64_t item, size_t worker) {
    auto& [expected, found] = scratch[worker];
    const Chunk part = chunk(item);
    expected.make(head, base + offset(part), part.rows, vocabulary);
    found.make(other, base + offset(part), part.rows, vocabulary);
    const auto at = static_cast<size_t>(item);
    sums[at] = divergence_sum(expected, found, vocabulary);
    errors[at] = logits_error(expected.logits, found.logits);
  });
  HeadError result;
  result.kl.resize(static_cast<size_t>(count));
  result.logits.resize(static_cast<size_t>(count));
  for (size_t item = 0; item < items; ++item) {
    const size_t window = item / static_cast<size_t>(chunks());
    result.kl[window] += sums[item];
    result.logits[window].add(errors[item]);
  }
  for (double& mean : result.kl) mean /= static_cast<double>(windows_.length - 1);
  return result;
}

}  // namespace pare
