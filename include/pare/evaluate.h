// Measures what compression cost.
//
//   pare::EvaluateOptions options;
//   options.baseline = "models/llama";
//   options.candidates = {"llama-int4.h5"};
//   options.text = "wiki.test.raw";
//   pare::EvaluateReport report = pare::evaluate(options, {});
//
// The baseline and all candidates go through the text in lock-step, layer by layer, so the
// divergence between them is exact and memory does not grow with depth.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "pare/export.h"
#include "pare/progress.h"

namespace pare {

struct EvaluateOptions {
  std::string baseline;                             ///< Hugging Face folder or checkpoint.
  std::vector<std::string> candidates;              ///< HDF5 checkpoints or Hugging Face folders.
  std::vector<std::string> tasks = {"perplexity"};  ///< See evaluation_tasks().
  std::string text;                                 ///< For perplexity: a text file, or token ids.
  int64_t ctx = 512;  ///< Tokens a window; windows do not overlap and the tail is dropped.
  double limit = 0;   ///< Windows, questions: a count, or a share when below 1; 0 takes all.
  /// Where the other tasks' data is: task → file or folder.
  std::map<std::string, std::string> task_data;
  int64_t shots = -1;         ///< Examples before each question; negative: as usual for the task.
  bool reuse_prefix = true;   ///< Examples run once for all questions that begin with them.
  bool keep_samples = false;  ///< Fills TaskReport::samples_jsonl.
  std::string precision = "bf16";  ///< bf16 | fp32.
  int threads = 0;                 ///< 0: all processors.
  int64_t max_memory = 0;          ///< Bytes; 0: no limit.
};

/// Perplexity of one model on one text, and its divergence from the baseline.
struct PerplexityResult {
  double ppl = 0;
  double ppl_se = 0;
  int64_t tokens = 0;  ///< Scored positions.
  int64_t windows = 0;
  std::string method;  ///< The convention in words and numbers.
  // Candidates only:
  double ppl_ratio = 1;
  double ppl_ratio_se = 0;  ///< From paired window differences.
  double kl_mean = 0;
  double kl_mean_se = 0;
  double kl_median = 0;
  double kl_p99 = 0;
  double kl_max = 0;
  double top1_agreement = 1;
  double top1_agreement_se = 0;
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
  double target_ppl = 0;  ///< LAMBADA: perplexity of the words asked for; else 0.
  // Candidates only; differences are candidate − baseline, as fractions:
  double difference = 0;
  double difference_lower = 0;  ///< 95 %, between subjects where the task has several.
  double difference_upper = 0;
  double relative = 0;  ///< accuracy / baseline's − 1
  double relative_lower = 0;
  double relative_upper = 0;
  int64_t lost = 0;    ///< Questions that the baseline has right and the candidate wrong.
  int64_t gained = 0;  ///< The other way round.
  double mcnemar_p = 1;
  std::string verdict;  ///< What follows from the interval, in words.
};

/// A task of questions, as it was run.
struct TaskReport {
  std::string name;
  std::string data_sha256;
  std::string ids_sha256;     ///< Over the token ids of all prompts and choices.
  int64_t shots = 0;          ///< Most examples before a question.
  int64_t fewer_shots = 0;    ///< Questions that fitted with fewer only.
  int64_t prompt_tokens = 0;  ///< Of all prompts.
  int64_t tokens_run = 0;     ///< Through each model: less, where prompts share their beginning.
  double seconds = 0;
  std::string method;
  std::string samples_jsonl;  ///< One line a question with every model's log-likelihoods.
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
  PerplexityResult perplexity;   ///< windows = 0: not among the tasks.
  std::map<std::string, ChoiceResult> choices;  ///< By task.
};

struct EvaluateReport {
  ModelResult baseline;
  std::vector<ModelResult> candidates;
  std::vector<TaskReport> tasks;  ///< Those of questions.
  int64_t text_tokens = 0;        ///< All tokens of the text, specials included.
  std::string text_sha256;        ///< Of the text file.
  std::string ids_sha256;         ///< Of the token ids that were scored.
  std::string kernel;             ///< Matrix kernels in use, for example "avx512_core_amx".
  std::string precision;
  double seconds = 0;
  int64_t peak_rss_bytes = 0;
  std::vector<std::string> warnings;
};

/// Name and one line about each task.
PARE_EXPORT std::vector<std::pair<std::string, std::string>> evaluation_tasks();

/// Throws pare::Error.
PARE_EXPORT EvaluateReport evaluate(const EvaluateOptions& options, const Callbacks& callbacks);

/// The report as JSON, schema "pare.eval/1". `timings` adds seconds and peak memory.
PARE_EXPORT std::string to_json(const EvaluateReport& report, bool timings = true);

/// How far logits are from reference values.
struct VerifyReport {
  double max_abs = 0;
  double rel_l2 = 0;            ///< ‖found − expected‖₂ / ‖expected‖₂
  double argmax_agreement = 0;  ///< Share of positions.
  int64_t positions = 0;
  std::string precision;
};

/// Runs the `input_ids` of a golden safetensors file through a model and compares with its
/// `logits`. Throws pare::Error.
PARE_EXPORT VerifyReport verify(const std::string& golden, const std::string& model,
                                const std::string& precision, int threads,
                                const Callbacks& callbacks);

/// Schema "pare.verify/1".
PARE_EXPORT std::string to_json(const VerifyReport& report);

}  // namespace pare
