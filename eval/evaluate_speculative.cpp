#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <optional>

#include "calib/token_check.h"
#include "core/process_memory.h"
#include "eval/acceptance.h"
#include "eval/limit.h"
#include "eval/model_limits.h"
#include "eval/model_warnings.h"
#include "eval/precision.h"
#include "eval/speculative.h"
#include "pare/error.h"
#include "pare/speculative.h"

namespace pare {
namespace {

constexpr double kLowestTemperature = 0.01;
constexpr double kHighestTemperature = 100;

[[noreturn]] void usage(const std::string& message) { throw Error(ErrorCode::kUsage, message); }

void check_options(const SpeculativeOptions& options) {
  if (options.drafts.empty()) usage("no draft model is given");
  if (options.targets.empty()) usage("no target model is given");
  if (options.text.empty()) {
    usage("speculative decoding needs a text file or token ids, none is given");
  }
  if (options.ctx <= kLongestDraft) {
    usage("ctx is " + std::to_string(options.ctx) + "; a window needs at least " +
          std::to_string(kLongestDraft + 1) + " tokens, for drafts of up to " +
          std::to_string(kLongestDraft) + " after the first");
  }
  if (!(options.temperature >= kLowestTemperature && options.temperature <= kHighestTemperature)) {
    usage(
        "the temperature must be between 0.01 and 100; greedy decoding, which is temperature 0, "
        "is reported anyway");
  }
  if (!(options.draft_cost >= 0) || std::isinf(options.draft_cost)) {
    usage("the draft's cost must be a positive number of the target's steps");
  }
  check_limit(options.limit);
  if (options.threads < 0) usage("the number of threads is negative");
  if (options.max_memory < 0) usage("the memory limit is negative");
}

bool same_place(const std::string& a, const std::string& b) {
  std::error_code error;
  return a == b || std::filesystem::equivalent(a, b, error);
}

// Weights that a step of decoding reads. Of an embedding it reads one row, unless the embedding is
// also the head.
int64_t step_bytes(const EvaluatedModel& model) {
  int64_t bytes = stored_size(*model.source, model.unused).bytes;
  const std::string& embedding = model.graph.embedding.tokens;
  if (embedding != model.graph.head.matrix) bytes -= model.source->stored_bytes(embedding);
  return bytes;
}

SpeculativeDecoding summarize(const std::vector<float>& acceptance, size_t window, double cost) {
  const AcceptanceCurve curve = acceptance_curve(acceptance, window, kLongestDraft);
  SpeculativeDecoding result;
  result.acceptance = curve.rate;
  std::vector<Measured> speedups;
  for (int64_t length = 1; length <= kLongestDraft; ++length) {
    const Measured& accepted = curve.accepted[static_cast<size_t>(length - 1)];
    speedups.push_back(expected_speedup(accepted, length, cost));
    result.lengths.push_back({accepted, speedups.back(), iid_accepted(curve.rate.value, length)});
  }
  result.best_draft_length = best_draft_length(speedups);
  if (result.best_draft_length > 0) {
    result.best_speedup = speedups[static_cast<size_t>(result.best_draft_length - 1)].value;
  }
  return result;
}

std::string short_number(double value) {
  std::string text = std::to_string(value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.')) text.pop_back();
  return text;
}

std::string describe_method(const SpeculativeOptions& options, const SpeculativeReport& report) {
  const std::string ctx = std::to_string(options.ctx);
  const std::string longest = std::to_string(kLongestDraft);
  std::string text = "teacher-forced on the text, not on tokens that the draft made: windows of " +
                     ctx + " tokens, stride " + ctx + ", tail dropped, positions 1…" +
                     std::to_string(options.ctx - 1) + "; sampling at temperature " +
                     short_number(options.temperature) +
                     " keeps a drafted token with probability α = Σ min(p_target, p_draft) over "
                     "the vocabulary, greedy decoding where the most likely tokens are equal; "
                     "accepted(γ) = mean of Σ_{k≤γ} of the products of k consecutive α over the " +
                     std::to_string(report.starts) + " starts with " + longest +
                     " positions left in their window, the same for all γ; errors between "
                     "windows, intervals 95 % by Student's t; speed-up(γ) = (1 + accepted) / "
                     "(γ c + 1), which takes a check of γ + 1 positions to cost the target one "
                     "step, ";
  text +=
      options.draft_cost > 0
          ? "with c = " + short_number(options.draft_cost) + " as given"
          : std::string(
                "with c = bytes of stored weights that a step reads, draft over target (all but "
                "an embedding that is not the head too): decoding of one sequence, "
                "bound by memory");
  return text;
}

// One call of evaluate_speculative().
class SpeculativeEvaluation {
 public:
  SpeculativeEvaluation(const SpeculativeOptions& options, const Callbacks& callbacks)
      : options_(options), meter_(callbacks, 0), precision_(parse_precision(options.precision)) {}

  SpeculativeReport run() {
    open_models();
    precision_ = run_precision(precision_, models_);
    pool_.emplace(static_cast<size_t>(options_.threads));
    for (const std::string& warning : model_warnings(models_)) warn(warning);
    require_no_encoder(models_, "speculative decoding");
    require_positions(models_, options_.ctx, "ctx");
    check_vocabularies();
    read_text();
    PairSetup setup{.precision = precision_,
                    .temperature = options_.temperature,
                    .heads = shared_heads(models_),
                    .plan = {}};
    // Refused here, before the models are read for their digests, when it needs too much memory.
    setup.plan = plan(setup.heads);
    describe_models();
    measure(setup);
    report_.precision = options_.precision;
    report_.kernel = kernel_names(precision_);
    report_.peak_rss_bytes = peak_resident_bytes();
    report_.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    return std::move(report_);
  }

 private:
  void warn(const std::string& warning) {
    report_.warnings.push_back(warning);
    meter_.warn(warning);
  }

  // A model that is given twice, for example as draft and as target, runs once.
  size_t open(const std::string& path) {
    for (size_t m = 0; m < models_.size(); ++m) {
      if (same_place(models_[m].source->path(), path)) return m;
    }
    meter_.phase("read", path);
    models_.push_back(open_model(path));
    return models_.size() - 1;
  }

  void open_models() {
    std::vector<size_t> targets;
    for (const std::string& path : options_.targets) targets.push_back(open(path));
    targets_ = targets;
    for (const std::string& path : options_.drafts) {
      drafts_.push_back(open(path));
      for (const size_t target : targets) pairs_.push_back({drafts_.back(), target});
    }
  }

  void check_vocabularies() {
    const EvaluatedModel& first = models_[0];
    const int64_t expected = first.graph.vocab_size;
    for (const EvaluatedModel& model : models_) {
      const int64_t found = model.graph.vocab_size;
      if (found == expected) continue;
      const std::optional<bool> same = same_tokenizer(first, model);
      const std::string sizes = model.source->path() + ": has a vocabulary of " +
                                std::to_string(found) + " tokens, " + first.source->path() +
                                " one of " + std::to_string(expected);
      if (!same.value_or(false)) {
        throw Error(ErrorCode::kInputMalformed,
                    sizes +
                        (same.has_value() ? ", and their tokenizer.json differ"
                                          : ", and one of them has no tokenizer.json") +
                        "; a draft's tokens mean something to a target of the same tokenizer only");
      }
      warn("W-VOCABULARY: " + sizes + ", of the same tokenizer; tokens that one of a pair does " +
           "not have count as rejected");
    }
  }

  void read_text() {
    meter_.phase("read", options_.text);
    const TokenDocuments documents = read_documents(options_.text, *models_[0].source, 0, 0,
                                                    {.parse_special = options_.parse_special});
    for (const auto& document : documents.documents) {
      report_.text_tokens += static_cast<int64_t>(document.size());
    }
    const int64_t available = report_.text_tokens / options_.ctx;
    const int64_t count = available == 0 ? 0 : limited_count(options_.limit, available);
    windows_ = make_windows(documents, count, options_.ctx, options_.text);
    const auto least = std::min_element(
        models_.begin(), models_.end(),
        [](const auto& a, const auto& b) { return a.graph.vocab_size < b.graph.vocab_size; });
    check_token_ids(windows_.ids, least->graph.vocab_size, options_.text, least->source->path());
    report_.text_sha256 = documents.text_sha256;
    report_.ids_sha256 = windows_.ids_sha256;
    meter_.check_cancelled();
    for (const std::string& warning :
         text_warnings(models_, windows_, options_.text, documents.text_sha256)) {
      warn(warning);
    }
  }

  MemoryPlan plan(const std::vector<size_t>& heads) const {
    WorkShape shape{.windows = windows_.count,
                    .length = options_.ctx,
                    .threads = static_cast<int64_t>(pool_->size()),
                    .text_tokens = report_.text_tokens};
    shape.extra_bytes = pair_scoring_bytes(models_, pairs_.size(), shape);
    return plan_memory(models_, heads, precision_, shape, options_.max_memory);
  }

  void describe_models() {
    for (const EvaluatedModel& model : models_) {
      meter_.phase("read", "digest of " + model.name);
      meter_.check_cancelled();
      described_.push_back({describe(model), step_bytes(model)});
    }
  }

  void measure(const PairSetup& setup) {
    std::vector<ClampCount> clamps(models_.size());
    const std::vector<PairScores> scores =
        score_pairs(models_, pairs_, windows_, setup, *pool_, meter_, clamps);
    for (size_t m = 0; m < models_.size(); ++m) {
      described_[m].model.clamped_inputs = clamps[m].clamped;
      described_[m].model.quantized_inputs = clamps[m].values;
      if (const auto warning = clamp_warning(models_[m], clamps[m])) warn(*warning);
    }
    for (const size_t m : drafts_) report_.drafts.push_back(described_[m]);
    for (const size_t m : targets_) report_.targets.push_back(described_[m]);

    const auto window = static_cast<size_t>(windows_.length - 1);
    report_.temperature = options_.temperature;
    report_.ctx = options_.ctx;
    report_.windows = windows_.count;
    report_.tokens = windows_.count * (windows_.length - 1);
    report_.starts = windows_.count * static_cast<int64_t>(draft_starts(window, kLongestDraft));
    report_.method = describe_method(options_, report_);
    for (size_t p = 0; p < pairs_.size(); ++p) {
      SpeculativePair pair{.draft = p / targets_.size(),
                           .target = p % targets_.size(),
                           .cost = cost_of(pairs_[p]),
                           .sampling = {},
                           .greedy = {}};
      pair.sampling = summarize(scores[p].sampling, window, pair.cost);
      pair.greedy = summarize(scores[p].greedy, window, pair.cost);
      report_.pairs.push_back(std::move(pair));
    }
  }

  double cost_of(const ModelPair& pair) const {
    if (options_.draft_cost > 0) return options_.draft_cost;
    return static_cast<double>(described_[pair.draft].step_bytes) /
           static_cast<double>(described_[pair.target].step_bytes);
  }

  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  const SpeculativeOptions& options_;
  ProgressMeter meter_;
  Precision precision_;
  std::vector<EvaluatedModel> models_;  // each once; the first is the first target
  std::vector<size_t> drafts_;          // into models_
  std::vector<size_t> targets_;
  std::vector<ModelPair> pairs_;
  std::vector<SpeculativeModel> described_;
  std::optional<ThreadPool> pool_;
  TokenWindows windows_;
  SpeculativeReport report_;
};

}  // namespace

SpeculativeReport evaluate_speculative(const SpeculativeOptions& options,
                                       const Callbacks& callbacks) {
  check_options(options);
  return SpeculativeEvaluation(options, callbacks).run();
}

}  // namespace pare
