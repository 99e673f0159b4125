// What an evaluation found: values, to be rendered or written as JSON.
//
// Signs: a difference is candidate − baseline; a loss is positive where the candidate is worse.
// Shares are fractions, not percent; divergences and losses are in nats.
//
//   const pare::EvaluateReport report = pare::evaluate({}, {});
//   for (const pare::ModelResult& model : report.candidates) {
//     const pare::PerplexityResult& result = model.perplexities.at("perplexity");
//     std::printf("%s %g times the baseline's\n", model.name.c_str(), result.ratio.value);
//   }
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pare/measured.h"

namespace pare {

/// Some of the scored tokens: a range of positions, or a class of tokens.
struct DivergenceSlice {
  std::string name;  ///< "16–31", "word start"
  int64_t tokens = 0;
  double base_ppl = 0;
  Measured ppl_ratio;
  Measured kl_mean;
  Measured top1_agreement;
};

/// Counts of values in [edges[i], edges[i + 1]); the first bin begins at 0.
struct Histogram {
  std::vector<double> edges;
  std::vector<int64_t> counts;
};

/// How far a candidate's next-token distributions are from the baseline's, over the same tokens.
struct Divergence {
  Measured kl_mean;  ///< KL(baseline ‖ candidate) over the whole vocabulary.
  Measured kl_median;
  Measured kl_p90;
  Measured kl_p95;
  Measured kl_p99;
  Measured kl_p999;
  double kl_max = 0;
  Measured delta_p_mean;  ///< Change of the probability of the right token.
  Measured delta_p_rms;
  Measured top1_agreement;  ///< Share of tokens with the same most likely prediction.
  Measured top5_agreement;  ///< Mean share of the baseline's five most likely among the other five.
  Histogram kl_histogram;
  std::vector<DivergenceSlice> by_position;
  std::vector<DivergenceSlice> by_token_class;  ///< Empty where token ids came without a tokenizer.
};

/// Perplexity of one model on one text, and its divergence from the baseline.
struct PerplexityResult {
  Measured ppl;
  int64_t tokens = 0;  ///< Scored positions.
  int64_t windows = 0;
  std::string method;  ///< The convention in words and numbers.
  // Candidates only:
  Measured ratio{1, 0, {}};  ///< To the baseline's, from paired windows.
  Measured log_ratio;
  Measured difference;
  double correlation = 0;  ///< Of the two models' mean losses between windows.
  Divergence divergence;
  std::string verdict;  ///< What follows from the interval of the ratio, in words.
};

/// A share of right answers and its 95 % interval (Wilson).
struct Accuracy {
  int64_t n = 0;
  int64_t right = 0;
  double value = 0;
  double lower = 0;
  double upper = 0;
};

/// One model on one task of questions.
struct ChoiceResult {
  Accuracy accuracy;
  std::vector<std::pair<std::string, Accuracy>> groups;      ///< By subject, in the task's order.
  std::vector<std::pair<std::string, Accuracy>> categories;  ///< Where the task has them.
  Measured target_ppl;  ///< LAMBADA: perplexity of the words asked for; else 0.
  // Candidates only:
  Measured difference;     ///< Of accuracies; between subjects where there are several.
  Measured relative_loss;  ///< 1 − accuracy / baseline's
  Measured target_ppl_ratio{1, 0, {}};  ///< To the baseline's, question by question.
  int64_t lost = 0;    ///< Questions that the baseline has right and the candidate wrong.
  int64_t gained = 0;  ///< The other way round.
  double mcnemar_p = 1;
  std::string verdict;  ///< What follows from the interval, in words.
};

/// A task, as it was run.
struct TaskReport {
  std::string name;
  bool questions = false;   ///< Else a perplexity.
  std::string method;       ///< The convention in words and numbers.
  std::string data_sha256;  ///< Of the text or the questions.
  std::string ids_sha256;   ///< Over the token ids of all windows, or of all prompts and choices.
  double seconds = 0;
  // Perplexities:
  int64_t text_tokens = 0;  ///< All tokens of the text, specials included.
  int64_t ctx = 0;
  int64_t stride = 0;
  int64_t windows = 0;
  int64_t tokens = 0;  ///< Scored.
  // Questions:
  int64_t shots = 0;          ///< Most examples before a question.
  int64_t fewer_shots = 0;    ///< Questions that fitted with fewer only.
  int64_t prompt_tokens = 0;  ///< Of all prompts.
  int64_t tokens_run = 0;     ///< Through each model: less, where prompts share their beginning.
  std::string samples_jsonl;  ///< One line a question with every model's log-likelihoods.
};

/// What compressing one linear costs, when all others stay as they are.
struct LayerError {
  std::string name;  ///< "model.layers.3.mlp.down_proj"
  int64_t out_features = 0;
  int64_t in_features = 0;
  std::string qformat;
  std::optional<double> sqnr_db;  ///< Of its output; absent where that is exactly equal.
  Measured kl_mean;               ///< Of the model with this linear alone compressed.
};

struct ModelResult {
  std::string name;
  std::string qformat;  ///< "bf16" for the baseline.
  std::string kv_cache = "none";
  std::string sparsity = "none";
  int64_t parameters = 0;
  double bits_per_weight = 0;
  int64_t bytes = 0;
  std::string sha256;
  int64_t clamped_inputs = 0;    ///< Activations outside the range of their static scale.
  int64_t quantized_inputs = 0;  ///< Of so many that met one.
  std::map<std::string, PerplexityResult> perplexities;  ///< By task.
  std::map<std::string, ChoiceResult> choices;           ///< By task.
  std::vector<LayerError> layers;  ///< In the order of the model; see EvaluateOptions::by_layer.
  int64_t layer_tokens = 0;        ///< Scored positions that `layers` rests on.
};

struct EvaluateReport {
  ModelResult baseline;
  std::vector<ModelResult> candidates;
  std::vector<TaskReport> tasks;  ///< In the order in which they were asked for.
  std::string kernel;             ///< Matrix kernels in use, for example "avx512_core_amx".
  std::string precision;
  double seconds = 0;
  int64_t peak_rss_bytes = 0;
  std::vector<std::string> warnings;
};

}  // namespace pare
