#include "eval/perplexity_task.h"

#include <chrono>
#include <utility>

#include "eval/divergence.h"
#include "eval/perplexity.h"
#include "eval/token_class.h"
#include "pare/error.h"
#include "tokenizer/open_tokenizer.h"

namespace pare {
namespace {

ScoreClasses classes_of_scores(const Tokenizer& tokenizer, const ScoredWindows& text) {
  ScoreClasses classes;
  TokenClasses known(tokenizer);
  classes.reserve(text.scores());
  for (size_t window = 0; window < text.ranges.size(); ++window) {
    const auto begin = static_cast<int64_t>(window) * text.windows.length;
    const ScoredRange range = text.ranges[window];
    for (int64_t i = begin + range.begin; i < begin + range.end; ++i) {
      classes.push_back(static_cast<uint8_t>(known.of(text.windows.ids[static_cast<size_t>(i)])));
    }
  }
  return classes;
}

void view(TokenScores& scores, std::vector<ClampCount>& clamps, StateView& state) {
  state.add(scores.nll);
  state.add(scores.kl);
  state.add(scores.same_top);
  state.add(scores.common_top5);
  state.add(clamps);
}

// Of all models; candidates that an earlier run has compared with this baseline do not run again.
std::vector<TokenScores> scores_of(const PerplexityTask& task, const TaskContext& context) {
  const ScoredWindows& text = task.text.scored;
  const std::string& ids = text.windows.ids_sha256;
  const std::string& method = task.text.method;
  const auto description = [&](size_t m) {
    if (m == 0) {
      const std::vector<size_t> baseline = {0};
      return describe_scores(context, "losses of a baseline", baseline, ids, method);
    }
    const std::vector<size_t> pair = {0, m};
    return describe_scores(context, "comparison with a baseline", pair, ids, method);
  };
  std::vector<TokenScores> scores = allocate_scores(context.models.size(), text.scores());
  std::vector<size_t> missing;
  for (size_t m = 0; m < scores.size(); ++m) {
    std::vector<ClampCount> clamps(1);
    StateView state;
    view(scores[m], clamps, state);
    if (context.cache.load(description(m), state)) {
      scores[m].clamps = clamps[0];
    } else {
      missing.push_back(m);
    }
  }
  if (missing.empty()) return scores;
  // Candidates need the baseline's logits beside their own.
  if (missing.front() != 0) missing.insert(missing.begin(), 0);
  std::vector<EvaluatedModel> models;
  for (const size_t m : missing) models.push_back(context.models[m]);
  ScoringSetup setup{.precision = context.precision,
                     .heads = shared_heads(models),
                     .plan = task.plan,
                     .checkpointer = nullptr,
                     .cache = &context.cache,
                     .baseline_description = ""};
  const std::vector<size_t> baseline = {0};
  setup.baseline_description = describe_scores(context, "hidden states", baseline, ids,
                                               "windows of " + std::to_string(task.text.ctx));
  Checkpointer checkpointer(
      context.cache,
      describe_scores(context, "perplexity under way", missing, ids,
                      method + ", passes of " + std::to_string(task.plan.windows_per_pass)),
      context.options.checkpoint_seconds);
  setup.checkpointer = &checkpointer;
  std::vector<TokenScores> found = score_windows(models, text, setup, context.pool, context.meter);
  for (size_t i = 0; i < missing.size(); ++i) {
    std::vector<ClampCount> clamps = {found[i].clamps};
    StateView state;
    view(found[i], clamps, state);
    context.cache.store(description(missing[i]), state);
    scores[missing[i]] = std::move(found[i]);
  }
  checkpointer.finish();
  return scores;
}

}  // namespace

PerplexityTask prepare_perplexity_task(const std::string& name,
                                       std::span<const EvaluatedModel> models,
                                       const EvaluateOptions& options,
                                       std::span<const size_t> heads, Precision precision,
                                       int64_t threads) {
  PerplexityTask task;
  task.name = name;
  EvaluateOptions sized = options;
  sized.ctx = perplexity_ctx(name, options, models);
  task.text = read_perplexity_text(name, sized, models[0]);
  const int64_t usual = usual_ctx(name);
  if (options.ctx == 0 && sized.ctx < usual) {
    task.warnings.push_back("W-CTX: windows of " + std::to_string(sized.ctx) +
                            " tokens instead of " + std::to_string(usual) +
                            ", which is usual for " + name +
                            ": there are no more learned positions");
  }
  const TokenWindows& windows = task.text.scored.windows;
  task.plan = plan_memory(models, heads, precision,
                          {.windows = windows.count,
                           .length = windows.length,
                           .source_length = windows.sources.longest(),
                           .threads = threads,
                           .text_tokens = task.text.text_tokens},
                          options.max_memory);
  // Without a tokenizer token ids mean nothing; one that is of no use takes nothing but this view.
  if (models.size() < 2 || tokenizer_file_name(models[0].source->text_files()).empty()) return task;
  try {
    task.classes = classes_of_scores(load_tokenizer(*models[0].source), task.text.scored);
  } catch (const Error& error) {
    task.warnings.push_back(std::string("W-CLASSES: divergence by class of token is left out: ") +
                            error.what());
  }
  return task;
}

PerplexityTaskRun run_perplexity_task(const PerplexityTask& task, const TaskContext& context) {
  const auto start = std::chrono::steady_clock::now();
  const std::span<const EvaluatedModel> models = context.models;
  const ScoredWindows& text = task.text.scored;
  const std::vector<TokenScores> scores = scores_of(task, context);
  PerplexityTaskRun run;
  for (size_t m = 0; m < models.size(); ++m) {
    run.results.push_back(m == 0 ? summarize_baseline(scores[0], text)
                                 : summarize_candidate(scores[m], scores[0], text, task.classes));
    run.results.back().method = task.text.method;
    run.clamps.push_back(scores[m].clamps);
  }
  TaskReport& report = run.report;
  report.name = task.name;
  report.method = task.text.method;
  report.data_sha256 = task.text.sha256;
  report.ids_sha256 = text.windows.ids_sha256;
  report.text_tokens = task.text.text_tokens;
  report.ctx = task.text.ctx;
  report.stride = task.text.stride;
  report.windows = text.windows.count;
  report.tokens = static_cast<int64_t>(text.scores());
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return run;
}

}  // namespace pare
