#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "calib/token_check.h"
#include "calib/token_source.h"
#include "core/process_memory.h"
#include "core/progress_meter.h"
#include "core/thread_pool.h"
#include "eval/evaluated_model.h"
#include "eval/memory_plan.h"
#include "eval/perplexity.h"
#include "eval/precision.h"
#include "kernels/matmul.h"
#include "pare/error.h"
#include "pare/evaluate.h"

namespace pare {
namespace {

[[noreturn]] void usage(const std::string& message) { throw Error(ErrorCode::kUsage, message); }

void check_options(const EvaluateOptions& options) {
  if (options.baseline.empty()) usage("no baseline model is given");
  if (options.tasks.empty()) usage("no task is given; known: perplexity");
  for (const std::string& task : options.tasks) {
    if (task != "perplexity") usage("task \"" + task + "\" is not known; known: perplexity");
  }
  if (options.text.empty()) usage("task perplexity needs a text file or token ids, none is given");
  if (options.ctx < 2) {
    usage("ctx is " + std::to_string(options.ctx) +
          "; a window needs at least 2 tokens, since the first is not scored");
  }
  if (!(options.limit >= 0) || (options.limit >= 1 && options.limit != std::floor(options.limit)) ||
      options.limit > 1e15) {
    usage("limit must be a number of windows, or a share of them between 0 and 1");
  }
  if (options.threads < 0) usage("the number of threads is negative");
  if (options.max_memory < 0) usage("the memory limit is negative");
}

std::vector<EvaluatedModel> open_models(const EvaluateOptions& options) {
  std::vector<EvaluatedModel> models;
  models.push_back(open_model(options.baseline));
  for (const std::string& path : options.candidates) {
    models.push_back(open_model(path));
    const int64_t expected = models[0].graph.vocab_size;
    const int64_t found = models.back().graph.vocab_size;
    if (found != expected) {
      throw Error(ErrorCode::kInputMalformed,
                  path + ": has a vocabulary of " + std::to_string(found) + ", the baseline " +
                      options.baseline + " one of " + std::to_string(expected) +
                      "; only models of one vocabulary can be compared");
    }
  }
  return models;
}

struct Text {
  TokenWindows windows;
  int64_t tokens = 0;
  std::string sha256;
};

int64_t limited(int64_t available, double limit) {
  if (limit >= 1) return std::min(available, static_cast<int64_t>(limit));
  if (limit > 0) {
    const double share = limit * static_cast<double>(available);
    return std::max<int64_t>(1, static_cast<int64_t>(std::llround(share)));
  }
  return available;
}

Text read_text(const EvaluateOptions& options, const EvaluatedModel& baseline) {
  const TokenDocuments documents = read_documents(options.text, *baseline.source, 0, 0);
  Text text;
  text.sha256 = documents.text_sha256;
  for (const auto& document : documents.documents) {
    text.tokens += static_cast<int64_t>(document.size());
  }
  const int64_t available = text.tokens / options.ctx;
  const int64_t count = available == 0 ? 0 : limited(available, options.limit);
  text.windows = make_windows(documents, count, options.ctx, options.text);
  check_token_ids(text.windows.ids, baseline.graph.vocab_size, options.text, options.baseline);
  return text;
}

bool same_tokenizer(const EvaluatedModel& a, const EvaluatedModel& b) {
  const auto& left = a.source->text_files();
  const auto& right = b.source->text_files();
  const auto x = left.find("tokenizer.json");
  const auto y = right.find("tokenizer.json");
  if (x == left.end() || y == right.end() || x->second == y->second) return true;
  const auto parse = [](const std::string& text) {
    return nlohmann::json::parse(text, nullptr, false);
  };
  return parse(x->second) == parse(y->second);  // another layout of the same content
}

std::string joined(const std::vector<std::string>& names) {
  constexpr size_t kShown = 3;
  std::string text;
  for (size_t i = 0; i < std::min(kShown, names.size()); ++i) {
    text += (i == 0 ? "" : ", ") + names[i];
  }
  return names.size() > kShown ? text + " …" : text;
}

std::vector<std::string> find_warnings(const std::vector<EvaluatedModel>& models, const Text& text,
                                       const EvaluateOptions& options) {
  std::vector<std::string> warnings;
  const std::vector<int32_t> bos = bos_tokens(models[0]);
  if (!bos.empty() && std::find(bos.begin(), bos.end(), text.windows.ids[0]) == bos.end()) {
    warnings.push_back("W-BOS: " + options.text + ": the token ids do not start with token " +
                       std::to_string(bos[0]) +
                       ", which config.json names as the beginning of a text");
  }
  for (size_t m = 0; m < models.size(); ++m) {
    const EvaluatedModel& model = models[m];
    const std::string& path = model.source->path();
    if (options.ctx > model.graph.max_positions && model.graph.max_positions > 0) {
      warnings.push_back("W-CTX: " + path + ": windows of " + std::to_string(options.ctx) +
                         " tokens exceed the " + std::to_string(model.graph.max_positions) +
                         " positions of config.json");
    }
    if (!model.unused.empty()) {
      warnings.push_back("W-UNUSED: " + path + ": " + std::to_string(model.unused.size()) +
                         " tensors are not used: " + joined(model.unused));
    }
    if (calibration_text_sha256(model) == text.sha256) {
      warnings.push_back("W-LEAK: " + path + ": was calibrated on the text that it is evaluated " +
                         "on; its figures are better than they would be on other text");
    }
    if (m > 0 && !same_tokenizer(models[0], model)) {
      warnings.push_back("W-TOKENIZER: " + path + ": its tokenizer.json differs from that of " +
                         models[0].source->path() + ", whose token ids are used");
    }
  }
  return warnings;
}

}  // namespace

EvaluateReport evaluate(const EvaluateOptions& options, const Callbacks& callbacks) {
  const auto start = std::chrono::steady_clock::now();
  check_options(options);
  ScoringSetup setup;
  setup.precision = parse_precision(options.precision);

  ProgressMeter meter(callbacks, 0);
  meter.phase("read", options.baseline);
  const std::vector<EvaluatedModel> models = open_models(options);
  meter.phase("read", options.text);
  const Text text = read_text(options, models[0]);
  meter.check_cancelled();

  ThreadPool pool(static_cast<size_t>(options.threads));
  setup.heads = shared_heads(models);
  setup.plan = plan_memory(models, setup.heads, setup.precision,
                           {.windows = text.windows.count,
                            .length = options.ctx,
                            .threads = static_cast<int64_t>(pool.size()),
                            .text_tokens = text.tokens},
                           options.max_memory);

  EvaluateReport report;
  report.text_tokens = text.tokens;
  report.text_sha256 = text.sha256;
  report.ids_sha256 = text.windows.ids_sha256;
  report.precision = options.precision;
  report.kernel = setup.precision == Precision::kF32 ? "f32 openblas" : matmul_kernels();
  report.warnings = find_warnings(models, text, options);
  for (const std::string& warning : report.warnings) meter.warn(warning);
  for (size_t m = 0; m < models.size(); ++m) {
    meter.phase("read", "digest of " + models[m].name);
    meter.check_cancelled();
    ModelResult result = describe(models[m]);
    if (m == 0) {
      report.baseline = std::move(result);
    } else {
      report.candidates.push_back(std::move(result));
    }
  }

  const std::vector<TokenScores> scores = score_windows(models, text.windows, setup, pool, meter);
  for (size_t m = 0; m < models.size(); ++m) {
    const ClampCount& clamps = scores[m].clamps;
    ModelResult& result = m == 0 ? report.baseline : report.candidates[m - 1];
    result.clamped_inputs = clamps.clamped;
    result.quantized_inputs = clamps.values;
    if (clamps.clamped <= clamps.values / 1000) continue;
    report.warnings.push_back("W-CLAMP: " + models[m].source->path() + ": " +
                              std::to_string(clamps.clamped) + " of " +
                              std::to_string(clamps.values) +
                              " activations exceed the range of their static scale; calibrate on "
                              "text that is more like this one");
    meter.warn(report.warnings.back());
  }
  const std::string method = describe_method(text.windows, bos_tokens(models[0]));
  report.baseline.perplexity = summarize(scores[0], text.windows);
  report.baseline.perplexity.method = method;
  for (size_t m = 1; m < models.size(); ++m) {
    PerplexityResult& result = report.candidates[m - 1].perplexity;
    result = summarize(scores[m], scores[0], text.windows);
    result.method = method;
  }
  report.peak_rss_bytes = peak_resident_bytes();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace pare
