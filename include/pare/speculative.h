// How much speculative decoding would gain with a draft and a target model, before building an
// engine.
//
// A small or compressed draft proposes γ tokens, the target checks all of them in one step and
// keeps a prefix (Leviathan et al. 2023, arXiv 2211.17192; Chen et al. 2023, arXiv 2302.01318).
// Sampling keeps a token with probability Σ_v min(p_target(v), p_draft(v)), greedy decoding keeps
// it where both models' most likely token is the same. All drafts and all targets go through the
// text in lock-step once; every pair is reported. Options and reports are values; a call may run in
// any thread.
//
//   pare::SpeculativeOptions options;
//   options.drafts = {"llama-1b", "llama-1b-int4.h5"};
//   options.targets = {"llama-8b-fp8.h5"};
//   options.text = "wiki.test.raw";
//   pare::SpeculativeReport report = pare::evaluate_speculative(options, {});
//   const double speedup = report.pairs[0].sampling.best_speedup;
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "pare/evaluate_report.h"
#include "pare/export.h"
#include "pare/measured.h"
#include "pare/progress.h"

namespace pare {

/// Draft lengths from 1 to this are reported.
inline constexpr int64_t kLongestDraft = 10;

struct SpeculativeOptions {
  std::vector<std::string> drafts;   ///< Hugging Face folders or checkpoints; at least one.
  std::vector<std::string> targets;  ///< Likewise. The first one's tokenizer is used.
  std::string text;                  ///< A text file, or token ids.
  bool parse_special = false;        ///< As in EvaluateOptions.
  int64_t ctx = 512;       ///< Tokens a window; windows do not overlap and the tail is dropped.
  double limit = 0;        ///< Windows: a count, or a share when below 1; 0 takes all.
  double temperature = 1;  ///< Of sampling, 0.01 … 100. Greedy decoding is reported anyway.
  double draft_cost = 0;   ///< A draft's step in target's steps; 0: the ratio of step_bytes.
  std::string precision = "bf16";  ///< bf16 | fp32.
  int threads = 0;                 ///< 0: all processors.
  int64_t max_memory = 0;          ///< Bytes; 0: no limit.
};

struct SpeculativeModel {
  ModelResult model;  ///< Without tasks.
  /// Stored weights that a decoding step reads: all but an embedding that is not the head too.
  int64_t step_bytes = 0;
};

/// What drafts of one length give.
struct DraftLength {
  Measured accepted;           ///< Expected number of drafted tokens that are kept, 0 … γ.
  Measured speedup;            ///< (1 + accepted) / (γ × cost + 1)
  double accepted_if_iid = 0;  ///< Σ_{k=1…γ} αᵏ: were acceptance α the same everywhere.
};

/// One pair of models under one way of decoding.
struct SpeculativeDecoding {
  Measured acceptance;               ///< Mean probability that a drafted token is kept.
  std::vector<DraftLength> lengths;  ///< [γ − 1], γ = 1 … kLongestDraft.
  int64_t best_draft_length = 0;     ///< Of the largest speed-up; 0: no draft is faster.
  double best_speedup = 1;           ///< 1 where no draft is faster.
};

struct SpeculativePair {
  size_t draft = 0;   ///< Index into SpeculativeReport::drafts.
  size_t target = 0;  ///< Index into SpeculativeReport::targets.
  double cost = 0;    ///< Of a draft's step, in steps of the target.
  SpeculativeDecoding sampling;
  SpeculativeDecoding greedy;
};

struct SpeculativeReport {
  std::vector<SpeculativeModel> drafts;
  std::vector<SpeculativeModel> targets;
  std::vector<SpeculativePair> pairs;  ///< Draft by draft, each with every target.
  std::string method;                  ///< The convention and the assumptions, in words.
  double temperature = 1;
  int64_t ctx = 0;
  int64_t windows = 0;
  int64_t tokens = 0;       ///< Positions that `acceptance` rests on.
  int64_t starts = 0;       ///< Positions at which the drafts of `lengths` begin.
  int64_t text_tokens = 0;  ///< All tokens of the text, specials included.
  std::string text_sha256;
  std::string ids_sha256;  ///< Of the token ids that were used.
  std::string kernel;      ///< As EvaluateReport::kernel.
  std::string precision;
  double seconds = 0;
  int64_t peak_rss_bytes = 0;
  std::vector<std::string> warnings;
};

/// Throws pare::Error. Models must be of one tokenizer; where their vocabularies are padded to
/// different sizes, what the draft cannot propose counts as rejected.
PARE_EXPORT SpeculativeReport evaluate_speculative(const SpeculativeOptions& options,
                                                   const Callbacks& callbacks);

/// The report as JSON, schema "pare.speculative/1". `timings` adds seconds and peak memory.
PARE_EXPORT std::string to_json(const SpeculativeReport& report, bool timings = true);

}  // namespace pare
