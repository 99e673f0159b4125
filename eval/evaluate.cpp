#include <algorithm>
#include <chrono>
#include <optional>
#include <span>

#include "core/process_memory.h"
#include "core/progress_meter.h"
#include "core/sha256.h"
#include "core/thread_pool.h"
#include "eval/choice_task.h"
#include "eval/conventions.h"
#include "eval/evaluated_model.h"
#include "eval/layer_error.h"
#include "eval/layer_match.h"
#include "eval/limit.h"
#include "eval/memory_plan.h"
#include "eval/model_limits.h"
#include "eval/model_warnings.h"
#include "eval/perplexity_task.h"
#include "eval/precision.h"
#include "eval/tasks/task.h"
#include "pare/error.h"
#include "pare/evaluate.h"

namespace pare {
namespace {

[[noreturn]] void usage(const std::string& message) { throw Error(ErrorCode::kUsage, message); }

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
  for (const std::string& task : options.tasks) {
    if (std::count(options.tasks.begin(), options.tasks.end(), task) > 1) {
      usage("task " + task + " is given twice");
    }
    if (is_perplexity_task(task) && options.text.empty()) {
      usage("task " + task + " needs a text file or token ids, none is given");
    }
  }
  if (options.ctx != 0 && options.ctx < 2) {
    usage("ctx is " + std::to_string(options.ctx) +
          "; a window needs at least 2 tokens, since the first is not scored");
  }
  check_limit(options.limit);
  if (options.by_layer) {
    if (std::none_of(options.tasks.begin(), options.tasks.end(), is_perplexity_task)) {
      usage("errors by layer need a task of perplexity, there is none");
    }
    if (options.candidates.empty()) usage("errors by layer need a candidate");
    if (options.layer_windows < 1)
      usage("the number of windows for errors by layer is not positive");
  }
  if (options.stride < 0) usage("the stride is negative");
  if (options.threads < 0) usage("the number of threads is negative");
  if (options.max_memory < 0) usage("the memory limit is negative");
}

// Token ids, and for an encoder what it reads, must mean the same to both.
void require_same_ids(const ModelGraph& baseline, const std::string& baseline_path,
                      const ModelGraph& candidate, const std::string& path) {
  const auto require = [&](int64_t expected, int64_t found, const char* what) {
    if (found == expected) return;
    throw Error(ErrorCode::kInputMalformed,
                path + ": has a vocabulary of " + std::to_string(found) + what + ", the baseline " +
                    baseline_path + " one of " + std::to_string(expected) +
                    "; only models of one vocabulary can be compared");
  };
  require(baseline.vocab_size, candidate.vocab_size, "");
  if (baseline.encoder.has_value() != candidate.encoder.has_value()) {
    const bool pairs = baseline.encoder.has_value();
    throw Error(ErrorCode::kInputMalformed,
                path + ": is a " + candidate.architecture + " and has " +
                    (pairs ? "no encoder" : "an encoder") + ", the baseline " + baseline_path +
                    " is a " + baseline.architecture + " and has " + (pairs ? "one" : "none") +
                    "; they do not read the same texts");
  }
  if (!baseline.encoder) return;
  require(baseline.encoder->embedding.vocab_size, candidate.encoder->embedding.vocab_size,
          " for sources");
}

std::vector<EvaluatedModel> open_models(const EvaluateOptions& options) {
  std::vector<EvaluatedModel> models;
  models.push_back(open_model(options.baseline, options.lora));
  for (const std::string& path : options.candidates) {
    models.push_back(open_model(path, options.candidate_lora));
    require_same_ids(models[0].graph, options.baseline, models.back().graph, path);
  }
  if (models[0].graph.encoder && options.by_layer) require_no_encoder(models, "--by-layer");
  return models;
}

// Linears of experts, which errors by layer leave out: each sees only the tokens that chose it.
int64_t expert_linears(const ModelGraph& graph) {
  int64_t linears = 0;
  for (const BlockGraph& block : graph.blocks) {
    if (!block.experts) continue;
    const std::vector<Op>& ops = block.experts->expert->ops;
    linears += block.experts->count * std::count_if(ops.begin(), ops.end(), [](const Op& op) {
                 return op.kind == OpKind::kLinear;
               });
  }
  return linears;
}

// One call of evaluate().
class Evaluation {
 public:
  Evaluation(const EvaluateOptions& options, const Callbacks& callbacks)
      : options_(options),
        meter_(callbacks, 0),
        precision_(parse_precision(options.precision)),
        cache_(options.cache) {}

  EvaluateReport run() {
    meter_.phase("read", options_.baseline);
    models_ = open_models(options_);
    precision_ = run_precision(precision_, models_);
    pool_.emplace(static_cast<size_t>(options_.threads));
    heads_ = shared_heads(models_);
    clamps_.resize(models_.size());
    report_.precision = options_.precision;
    report_.kernel = kernel_names(precision_);
    for (const std::string& warning : model_warnings(models_)) warn(warning);
    for (size_t m = 1; options_.by_layer && m < models_.size(); ++m) {
      require_same_layers(models_[0], models_[m]);
    }
    warn_of_experts();
    prepare_tasks();
    if (options_.by_layer) require_layer_memory();
    describe_models();
    const size_t parts = options_.tasks.size() + (options_.by_layer ? models_.size() - 1 : 0);
    size_t part = 0;
    size_t text = 0;
    size_t questions = 0;
    for (const std::string& task : options_.tasks) {
      meter_.begin_part(part++, parts);
      if (is_perplexity_task(task)) {
        measure_perplexity(texts_[text++]);
      } else {
        answer_questions(questions_[questions++]);
      }
    }
    for (size_t m = 1; options_.by_layer && m < models_.size(); ++m) {
      meter_.begin_part(part++, parts);
      measure_layers(m);
    }
    report_clamps();
    for (const std::string& warning : cache_.take_warnings()) warn(warning);
    report_.peak_rss_bytes = peak_resident_bytes();
    report_.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    return std::move(report_);
  }

 private:
  ModelResult& result(size_t m) { return m == 0 ? report_.baseline : report_.candidates[m - 1]; }

  void warn(const std::string& warning) {
    auto& known = report_.warnings;  // tasks may share a text
    if (std::find(known.begin(), known.end(), warning) != known.end()) return;
    known.push_back(warning);
    meter_.warn(warning);
  }

  void warn_of_experts() {
    const int64_t linears = expert_linears(models_[0].graph);
    if (!options_.by_layer || linears == 0) return;
    warn("W-EXPERTS: " + models_[0].source->path() + ": errors by layer leave out the " +
         std::to_string(linears) +
         " linears of its experts, so that the others do not add up to the model's divergence");
  }

  // Before the models are read for their digests: what cannot work fails early.
  void prepare_tasks() {
    for (const std::string& name : options_.tasks) {
      const auto threads = static_cast<int64_t>(pool_->size());
      meter_.phase("read", is_perplexity_task(name) ? options_.text : name);
      meter_.check_cancelled();
      if (!is_perplexity_task(name)) {
        questions_.push_back(
            prepare_choice_task(name, models_, options_, heads_, precision_, threads));
        require_other_name(questions_.back().task.name);
        continue;
      }
      texts_.push_back(
          prepare_perplexity_task(name, models_, options_, heads_, precision_, threads));
      for (const std::string& warning : texts_.back().warnings) warn(warning);
      const PerplexityText& text = texts_.back().text;
      for (const std::string& warning :
           text_warnings(models_, text.scored.windows, options_.text, text.sha256)) {
        warn(warning);
      }
    }
  }

  void require_other_name(const std::string& name) const {
    const auto known = [&](const auto& task) { return task.task.name == name; };
    if (std::count_if(questions_.begin(), questions_.end(), known) > 1) {
      usage("two tasks are called " + name + "; give one of the files another name");
    }
  }

  void describe_models() {
    report_.candidates.resize(models_.size() - 1);
    for (size_t m = 0; m < models_.size(); ++m) {
      meter_.phase("read", "digest of " + models_[m].name);
      meter_.check_cancelled();
      result(m) = describe(models_[m]);
      digests_.push_back(result(m).sha256);
    }
  }

  TaskContext context() {
    return {.models = models_,
            .digests = digests_,
            .options = options_,
            .precision = precision_,
            .pool = *pool_,
            .meter = meter_,
            .cache = cache_};
  }

  void measure_perplexity(const PerplexityTask& task) {
    PerplexityTaskRun run = run_perplexity_task(task, context());
    for (size_t m = 0; m < models_.size(); ++m) {
      result(m).perplexities[task.name] = std::move(run.results[m]);
      clamps_[m].add(run.clamps[m]);
    }
    report_.tasks.push_back(std::move(run.report));
  }

  // On whole windows of the first text, evenly spread over it.
  TokenWindows layer_windows() const {
    const ScoredWindows& text = texts_.front().text.scored;
    const int64_t length = text.windows.length;
    std::vector<int64_t> whole;
    for (int64_t window = 0; window < text.windows.count; ++window) {
      if (text.ranges[static_cast<size_t>(window)].end == length) whole.push_back(window);
    }
    const auto available = static_cast<int64_t>(whole.size());
    const int64_t count = std::min(options_.layer_windows, available);
    std::vector<int64_t> chosen;
    for (int64_t i = 0; i < count; ++i) {
      chosen.push_back(whole[static_cast<size_t>(i * available / count)]);
    }
    TokenWindows windows = select_windows(text, chosen).windows;
    windows.ids_sha256 = sha256_hex(std::as_bytes(std::span<const int32_t>(windows.ids)));
    return windows;
  }

  LayerErrorSetup layer_setup() const {
    constexpr int64_t kHiddenBytes = int64_t{4} << 30;
    const int64_t limit = options_.max_memory;
    return {.precision = precision_,
            .hidden_bytes = limit > 0 ? limit - texts_.front().plan.fixed_bytes : kHiddenBytes};
  }

  void require_layer_memory() const {
    const int64_t least = least_hidden_bytes(models_[0], layer_windows());
    const int64_t missing = least - layer_setup().hidden_bytes;
    if (missing <= 0) return;
    throw Error(ErrorCode::kLimitExceeded,
                "errors by layer need " + std::to_string(options_.max_memory + missing) +
                    " bytes of memory, the limit is " + std::to_string(options_.max_memory) +
                    ": raise it, or take fewer threads or shorter windows");
  }

  void measure_layers(size_t m) {
    const TokenWindows windows = layer_windows();
    const std::vector<size_t> pair = {0, m};
    const std::string description =
        describe_scores(context(), "errors by layer", pair, windows.ids_sha256,
                        "windows of " + std::to_string(windows.length));
    if (!load_layers(description, result(m).layers)) {
      result(m).layers =
          layer_errors(models_[0], models_[m], windows, layer_setup(), *pool_, meter_);
      store_layers(description, result(m).layers);
    }
    result(m).layer_tokens = windows.count * (windows.length - 1);
  }

  // In the cache as the JSON of a report that has nothing else.
  bool load_layers(const std::string& description, std::vector<LayerError>& layers) {
    std::vector<char> text;
    StateView state;
    state.add_any(text);
    if (!cache_.load(description, state)) return false;
    layers = evaluate_report_from_json({text.begin(), text.end()}, options_.cache)
                 .candidates.at(0)
                 .layers;
    return true;
  }

  void store_layers(const std::string& description, const std::vector<LayerError>& layers) {
    if (!cache_.enabled()) return;
    EvaluateReport report;
    report.precision = options_.precision;
    report.candidates.resize(1);
    report.candidates[0].layers = layers;
    const std::string json = to_json(report, false);
    std::vector<char> text(json.begin(), json.end());
    StateView state;
    state.add_any(text);
    cache_.store(description, state);
  }

  void answer_questions(const ChoiceTask& task) {
    ChoiceTaskRun run = run_choice_task(task, context());
    const std::string& name = run.report.name;
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
      if (const auto warning = clamp_warning(models_[m], clamps)) warn(*warning);
    }
  }

  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  const EvaluateOptions& options_;
  ProgressMeter meter_;
  Precision precision_;
  EvaluationCache cache_;
  std::vector<EvaluatedModel> models_;
  std::vector<std::string> digests_;
  std::optional<ThreadPool> pool_;
  std::vector<size_t> heads_;
  std::vector<PerplexityTask> texts_;
  std::vector<ChoiceTask> questions_;
  std::vector<ClampCount> clamps_;
  EvaluateReport report_;
};

}  // namespace

std::vector<std::pair<std::string, std::string>> evaluation_tasks() {
  std::vector<std::pair<std::string, std::string>> tasks = perplexity_tasks();
  for (const auto& task : task_table()) tasks.push_back(task);
  return tasks;
}

EvaluateReport evaluate(const EvaluateOptions& options, const Callbacks& callbacks) {
  check_options(options);
  return Evaluation(options, callbacks).run();
}

}  // namespace pare
