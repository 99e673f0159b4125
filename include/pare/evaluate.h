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
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "pare/evaluate_report.h"
#include "pare/export.h"
#include "pare/progress.h"

namespace pare {

struct EvaluateOptions {
  std::string baseline;                             ///< Hugging Face folder or checkpoint.
  std::vector<std::string> candidates;              ///< HDF5 checkpoints or Hugging Face folders.
  std::vector<std::string> tasks = {"perplexity"};  ///< See evaluation_tasks().
  /// For perplexity: a text file, or token ids; for a model with an encoder pairs, .jsonl with
  /// "source" and "target".
  std::string text;
  bool parse_special = false;  ///< Special tokens that the text spells are special, not text.
  /// LoRA adapter of the baseline, a folder in PEFT's form: merged into its weights, or beside them
  /// where they are compressed; "": none.
  std::string lora;
  std::string candidate_lora;  ///< The same for all candidates.
  int64_t ctx = 0;             ///< Tokens a window; 0: as is usual for the task, mostly 512.
  int64_t stride = 0;          ///< perplexity_strided: tokens between windows; 0: half of ctx.
  double limit = 0;  ///< Windows, questions: a count, or a share when below 1; 0 takes all.
  /// Where the other tasks' data is: task → file or folder.
  std::map<std::string, std::string> task_data;
  int64_t shots = -1;          ///< Examples before each question; negative: as usual for the task.
  bool reuse_prefix = true;    ///< Examples run once for all questions that begin with them.
  bool keep_samples = false;   ///< Fills TaskReport::samples_jsonl.
  bool by_layer = false;       ///< Fills ModelResult::layers from the first perplexity task.
  int64_t layer_windows = 16;  ///< Windows that this takes, evenly spread.
  std::string precision = "bf16";  ///< bf16 | fp32.
  int threads = 0;                 ///< 0: all processors.
  int64_t max_memory = 0;          ///< Bytes; 0: no limit.
  /// A folder where an interrupted evaluation finds its finished parts, and a later one those of
  /// the same baseline; "": none. See docs/accuracy.md.
  std::string cache;
  double checkpoint_seconds = 10;  ///< Least time between two states that go to the cache.
};

/// Name and one line about each task.
PARE_EXPORT std::vector<std::pair<std::string, std::string>> evaluation_tasks();

/// Whether a task scores a text, which EvaluateOptions::text names; the others are of questions.
PARE_EXPORT bool is_perplexity_task(const std::string& name);

/// Throws pare::Error.
PARE_EXPORT EvaluateReport evaluate(const EvaluateOptions& options, const Callbacks& callbacks);

/// The report as JSON, schema "pare.eval/1". `timings` adds seconds and peak memory.
PARE_EXPORT std::string to_json(const EvaluateReport& report, bool timings = true);

/// The report that to_json() wrote. Throws Error(kInputMalformed) naming `path` and the key.
PARE_EXPORT EvaluateReport evaluate_report_from_json(const std::string& json,
                                                     const std::string& path);

/// Several reports as one document, schema "pare.compare/1".
PARE_EXPORT std::string to_json(std::span<const EvaluateReport> reports, bool timings = true);

/// The reports in files of either schema, in order. Where two of them measured a task of one name
/// on different data, or with baselines of one name that differ, the later one gets a warning.
/// Throws Error(kInputMissing), Error(kInputMalformed) naming the file and the key.
PARE_EXPORT std::vector<EvaluateReport> read_reports(const std::vector<std::string>& paths);

/// How far logits are from reference values.
struct VerifyReport {
  double max_abs = 0;
  double rel_l2 = 0;            ///< ‖found − expected‖₂ / ‖expected‖₂
  double argmax_agreement = 0;  ///< Share of positions.
  int64_t positions = 0;
  std::string precision;
  std::string note;  ///< What the reference does differently, in words; mostly empty.
};

/// Runs the `input_ids` of a golden safetensors file through a model and compares with its
/// `logits`. Throws pare::Error.
PARE_EXPORT VerifyReport verify(const std::string& golden, const std::string& model,
                                const std::string& precision, int threads,
                                const Callbacks& callbacks);

/// Schema "pare.verify/1".
PARE_EXPORT std::string to_json(const VerifyReport& report);

}  // namespace pare
