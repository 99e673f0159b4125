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
#include <string>
#include <vector>

#include "pare/export.h"
#include "pare/progress.h"

namespace pare {

struct EvaluateOptions {
  std::string baseline;                 ///< Hugging Face folder or checkpoint.
  std::vector<std::string> candidates;  ///< HDF5 checkpoints or Hugging Face folders.
  std::vector<std::string> tasks = {"perplexity"};
  std::string text;   ///< For perplexity: a text file, or token ids.
  int64_t ctx = 512;  ///< Tokens a window; windows do not overlap and the tail is dropped.
  double limit = 0;   ///< Windows: a count, or a share when below 1; 0 takes all.
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
  PerplexityResult perplexity;
};

struct EvaluateReport {
  ModelResult baseline;
  std::vector<ModelResult> candidates;
  int64_t text_tokens = 0;  ///< All tokens of the text, specials included.
  std::string text_sha256;  ///< Of the text file.
  std::string ids_sha256;   ///< Of the token ids that were scored.
  std::string kernel;       ///< Matrix kernels in use, for example "avx512_core_amx".
  std::string precision;
  double seconds = 0;
  int64_t peak_rss_bytes = 0;
  std::vector<std::string> warnings;
};

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
