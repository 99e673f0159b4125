#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "calib/token_check.h"
#include "calib/token_source.h"
#include "core/process_memory.h"
#include "core/progress_meter.h"
#include "core/thread_pool.h"
#include "eval/choice_task.h"
#include "eval/evaluated_model.h"
#include "eval/limit.h"
#include "eval/memory_plan.h"
#include "eval/perplexity.h"
#include "eval/precision.h"
#include "eval/tasks/task.h"
#include "kernels/matmul.h"
#include "pare/error.h"
#include "pare/evaluate.h"

namespace pare {
namespace {

[[noreturn]] void usage(const std::string& message) { throw Error(ErrorCode::kUsage, message); }

bool has_task(const EvaluateOptions& options, const std::string& name) {
  return std::find(options.tasks.begin(), options.tasks.end(), name) != options.tasks.end();
}

void check_options(const EvaluateOptions& options) {
  if (options.baseline.empty()) usage("no baseline model is given");
  std::string known;
  for (const auto& [name, remark] : evaluation_tasks()) known += " " + name;
  if (options.tasks.empty()) usage("no task is given; known:" + known);
  for (const std::string& task : options.tasks) {
    if (!task.ends_with(".jsonl") && (known + " ").find(" " + task + " ") == std::string::npos) {
      usage("task \"" + task + "\" is not known; known:" + known);
    }
  }
  if (has_task(options, "perplexity") && options.text.empty()) {
    usage("task perplexity needs a text file or token ids, none is given");
  }
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

Text read_text(const EvaluateOptions& options, const EvaluatedModel& baseline) {
  const TokenDocuments documents = read_documents(options.text, *baseline.source, 0, 0);
  Text text;
  text.sha256 = documents.text_sha256;
  for (const auto& document : documents.documents) {
    text.tokens += static_cast<int64_t>(document.size());
  }
  const int64_t available = text.tokens / options.ctx;
  const int64_t count = available == 0 ? 0 : limited_count(options.limit, available);
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

// What is odd about the models whatever they are measured on.
std::vector<std::string> model_warnings(const std::vector<EvaluatedModel>& models) {
  std::vector<std::string> warnings;
  for (size_t m = 0; m < models.size(); ++m) {
    const EvaluatedModel& model = models[m];
    const std::string& path = model.source->path();
    if (!model.unused.empty()) {
      warnings.push_back("W-UNUSED: " + path + ": " + std::to_string(model.unused.size()) +
                         " tensors are not used: " + joined(model.unused));
    }
    if (m > 0 && !same_tokenizer(models[0], model)) {
      warnings.push_back("W-TOKENIZER: " + path + ": its tokenizer.json differs from that of " +
                         models[0].source->path() + ", whose token ids are used");
    }
  }
  return warnings;
}

std::vector<std::string> text_warnings(const std::vector<EvaluatedModel>& models, const Text& text,
                                       const EvaluateOptions& options) {
  std::vector<std::string> warnings;
  const std::vector<int32_t> bos = bos_tokens(models[0]);
  if (!bos.empty() && std::find(bos.begin(), bos.end(), text.windows.ids[0]) == bos.end()) {
    warnings.push_back("W-BOS: " + options.text + ": the token ids do not start with token " +
                       std::to_string(bos[0]) +
                       ", which config.json names as the beginning of a text");
  }
  for (const EvaluatedModel& model : models) {
    const std::string& path = model.source->path();
    if (options.ctx > model.graph.max_positions && model.graph.max_positions > 0) {
      warnings.push_back("W-CTX: " + path + ": windows of " + std::to_string(options.ctx) +
                         " tokens exceed the " + std::to_string(model.graph.max_positions) +
                         " positions of config.json");
    }
    if (calibration_text_sha256(model) == text.sha256) {
      warnings.push_back("W-LEAK: " + path + ": was calibrated on the text that it is evaluated " +
                         "on; its figures are better than they would be on other text");
    }
  }
  return warnings;
}

// One call of evaluate().
class Evaluation {
 public:
  Evaluation(const EvaluateOptions& options, const Callbacks& callbacks)
      : options_(options), meter_(callbacks, 0), precision_(parse_precision(options.precision)) {}

  EvaluateReport run() {
    meter_.phase("read", options_.baseline);
    models_ = open_models(options_);
    pool_.emplace(static_cast<size_t>(options_.threads));
    heads_ = shared_heads(models_);
    clamps_.resize(models_.size());
    report_.precision = options_.precision;
    report_.kernel = precision_ == Precision::kF32 ? "f32 openblas" : matmul_kernels();
    for (const std::string& warning : model_warnings(models_)) warn(warning);
    if (has_task(options_, "perplexity")) read();
    describe_models();
    for (const std::string& task : options_.tasks) {
      task == "perplexity" ? measure_perplexity() : answer_questions(task);
    }
    report_clamps();
    report_.peak_rss_bytes = peak_resident_bytes();
    report_.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    return std::move(report_);
  }

 private:
  ModelResult& result(size_t m) { return m == 0 ? report_.baseline : report_.candidates[m - 1]; }

  void warn(const std::string& warning) {
    report_.warnings.push_back(warning);
    meter_.warn(warning);
  }

  void read() {
    meter_.phase("read", options_.text);
    text_ = read_text(options_, models_[0]);
    report_.text_tokens = text_.tokens;
    report_.text_sha256 = text_.sha256;
    report_.ids_sha256 = text_.windows.ids_sha256;
    meter_.check_cancelled();
    // Refused here, before the models are read for their digests, when it needs too much memory.
    plan_ = plan_memory(models_, heads_, precision_,
                        {.windows = text_.windows.count,
                         .length = options_.ctx,
                         .threads = static_cast<int64_t>(pool_->size()),
                         .text_tokens = text_.tokens},
                        options_.max_memory);
    for (const std::string& warning : text_warnings(models_, text_, options_)) warn(warning);
  }

  void describe_models() {
    report_.candidates.resize(models_.size() - 1);
    for (size_t m = 0; m < models_.size(); ++m) {
      meter_.phase("read", "digest of " + models_[m].name);
      meter_.check_cancelled();
      result(m) = describe(models_[m]);
    }
  }

  void measure_perplexity() {
    const ScoringSetup setup{.precision = precision_, .heads = heads_, .plan = plan_};
    const std::vector<TokenScores> scores =
        score_windows(models_, text_.windows, setup, *pool_, meter_);
    const std::string method = describe_method(text_.windows, bos_tokens(models_[0]));
    for (size_t m = 0; m < models_.size(); ++m) {
      result(m).perplexity = m == 0 ? summarize(scores[0], text_.windows)
                                    : summarize(scores[m], scores[0], text_.windows);
      result(m).perplexity.method = method;
      clamps_[m].add(scores[m].clamps);
    }
  }

  void answer_questions(const std::string& task) {
    ChoiceTaskRun run =
        run_choice_task(task, models_, options_, heads_, precision_, *pool_, meter_);
    const std::string& name = run.report.name;
    if (report_.baseline.choices.contains(name)) {
      usage("two tasks are called " + name + "; give one of the files another name");
    }
    for (size_t m = 0; m < models_.size(); ++m) {
      result(m).choices[name] = std::move(run.results[m]);
      clamps_[m].add(run.clamps[m]);
    }
    report_.tasks.push_back(std::move(run.report));
  }

  void report_clamps() {
    for (size_t m = 0; m < models_.size(); ++m) {
      const ClampCount& clamps = clamps_[m];
      result(m).clamped_inputs = clamps.clamped;
      result(m).quantized_inputs = clamps.values;
      if (clamps.clamped <= clamps.values / 1000) continue;
      warn("W-CLAMP: " + models_[m].source->path() + ": " + std::to_string(clamps.clamped) +
           " of " + std::to_string(clamps.values) +
           " activations exceed the range of their static scale; calibrate on text that is more "
           "like this one");
    }
  }

  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  const EvaluateOptions& options_;
  ProgressMeter meter_;
  Precision precision_;
  std::vector<EvaluatedModel> models_;
  std::optional<ThreadPool> pool_;
  std::vector<size_t> heads_;
  Text text_;
  MemoryPlan plan_;
  std::vector<ClampCount> clamps_;
  EvaluateReport report_;
};

}  // namespace

std::vector<std::pair<std::string, std::string>> evaluation_tasks() {
  std::vector<std::pair<std::string, std::string>> tasks = {
      {"perplexity", "perplexity of a text, KL divergence, top-1 agreement"}};
  for (const auto& task : task_table()) tasks.push_back(task);
  return tasks;
}

EvaluateReport evaluate(const EvaluateOptions& options, const Callbacks& callbacks) {
  check_options(options);
  return Evaluation(options, callbacks).run();
}

}  // namespace pare
