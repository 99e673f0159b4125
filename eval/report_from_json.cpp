// Reads what report_json.cpp writes. A report is input like any other: it may be damaged, edited by
// hand or made to do harm. What is not known is ignored, so that reports of later versions, which
// have more, still read.
#include <nlohmann/json.hpp>
#include <set>

#include "eval/figures.h"
#include "eval/json_node.h"
#include "formats/json_check.h"
#include "pare/error.h"
#include "pare/evaluate.h"

namespace pare {
namespace {

constexpr const char* kSchema = "pare.eval/1";

// Reports of the largest models have a few MiB.
constexpr size_t kMaxBytes = size_t{64} << 20;

std::vector<DivergenceSlice> slices_from(const JsonNode& json) {
  std::vector<DivergenceSlice> slices;
  for (const JsonNode& node : json.elements()) {
    DivergenceSlice& slice = slices.emplace_back();
    slice.name = node.at("name").text();
    slice.tokens = node.at("tokens").count();
    slice.base_ppl = node.at("base_ppl").number();
    slice.ppl_ratio = node.measured("ppl_ratio");
    slice.kl_mean = node.measured("kl_mean");
    slice.top1_agreement = node.measured("top1_agreement");
  }
  return slices;
}

Histogram histogram_from(const JsonNode& json) {
  Histogram histogram;
  const JsonNode edges = json.at("edges");
  for (const JsonNode& edge : edges.elements()) histogram.edges.push_back(edge.number());
  for (size_t i = 1; i < histogram.edges.size(); ++i) {
    if (!(histogram.edges[i - 1] < histogram.edges[i])) edges.fail("the edges do not ascend");
  }
  const JsonNode counts = json.at("counts");
  for (const JsonNode& count : counts.elements()) histogram.counts.push_back(count.count());
  if (histogram.edges.empty() && histogram.counts.empty()) return histogram;
  if (histogram.edges.size() != histogram.counts.size() + 1) {
    counts.fail("expected one less than there are edges, found " +
                std::to_string(histogram.counts.size()) + " for " +
                std::to_string(histogram.edges.size()) + " edges");
  }
  return histogram;
}

Divergence divergence_from(const JsonNode& json) {
  Divergence divergence;
  for (const auto& [key, figure] : measured_figures(divergence)) *figure = json.measured(key);
  divergence.kl_max = json.at("kl_max").number();
  divergence.kl_histogram = histogram_from(json.at("kl_histogram"));
  divergence.by_position = slices_from(json.at("by_position"));
  divergence.by_token_class = slices_from(json.at("by_token_class"));
  return divergence;
}

PerplexityResult perplexity_from(const JsonNode& json, bool candidate) {
  PerplexityResult result;
  result.tokens = json.at("tokens").count();
  result.windows = json.at("windows").count();
  result.method = json.at("method").text();
  result.ppl = json.measured("ppl");
  if (!candidate) return result;
  result.ratio = json.measured("ppl_ratio");
  result.log_ratio = json.measured("log_ratio");
  result.difference = json.measured("ppl_difference");
  result.correlation = json.at("log_ppl_correlation").number();
  result.divergence = divergence_from(json);
  result.verdict = json.at("verdict").text();
  return result;
}

Accuracy accuracy_from(const JsonNode& json) {
  Accuracy accuracy;
  accuracy.value = json.at("accuracy").share();
  const Interval interval = json.at("accuracy_ci").interval();
  accuracy.lower = interval.lower;
  accuracy.upper = interval.upper;
  accuracy.n = json.at("n").count();
  accuracy.right = json.at("right").count();
  if (accuracy.right > accuracy.n) {
    json.at("right").fail("more than n = " + std::to_string(accuracy.n));
  }
  return accuracy;
}

std::vector<std::pair<std::string, Accuracy>> accuracies_from(const JsonNode& json,
                                                              const char* key) {
  std::vector<std::pair<std::string, Accuracy>> result;
  const std::optional<JsonNode> groups = json.find(key);
  if (!groups) return result;
  for (const auto& [name, node] : groups->members()) {
    result.emplace_back(name, accuracy_from(node));
  }
  return result;
}

ChoiceResult choice_from(const JsonNode& json, bool candidate) {
  ChoiceResult result;
  result.accuracy = accuracy_from(json);
  result.groups = accuracies_from(json, "groups");
  result.categories = accuracies_from(json, "categories");
  const bool has_target = json.find("target_ppl").has_value();
  if (has_target) result.target_ppl = json.measured("target_ppl");
  if (!candidate) return result;
  if (has_target) result.target_ppl_ratio = json.measured("target_ppl_ratio");
  result.difference = json.measured("difference");
  result.relative_loss = json.measured("relative_loss");
  const JsonNode flips = json.at("flips");
  result.lost = flips.at("lost").count();
  result.gained = flips.at("gained").count();
  result.mcnemar_p = json.at("mcnemar_p").share();
  result.verdict = json.at("verdict").text();
  return result;
}

TaskReport task_from(const JsonNode& json) {
  TaskReport task;
  task.name = json.at("name").text();
  const JsonNode kind = json.at("kind");
  task.questions = kind.text() == "questions";
  if (!task.questions && kind.text() != "perplexity") {
    kind.fail("expected \"perplexity\" or \"questions\"; a later version of pare may read it");
  }
  task.method = json.at("method").text();
  task.data_sha256 = json.at("data_sha256").text();
  task.ids_sha256 = json.at("ids_sha256").text();
  if (task.questions) {
    task.shots = json.at("shots").count();
    task.fewer_shots = json.at("fewer_shots").count();
    task.prompt_tokens = json.at("prompt_tokens").count();
    task.tokens_run = json.at("tokens_run").count();
  } else {
    task.text_tokens = json.at("text_tokens").count();
    task.ctx = json.at("ctx").count();
    task.stride = json.at("stride").count();
    task.windows = json.at("windows").count();
    task.tokens = json.at("tokens").count();
  }
  if (const auto seconds = json.find("seconds")) task.seconds = seconds->number();
  return task;
}

std::vector<TaskReport> tasks_from(const JsonNode& json) {
  std::vector<TaskReport> tasks;
  std::set<std::string> names;
  for (const JsonNode& node : json.elements()) {
    tasks.push_back(task_from(node));
    if (!names.insert(tasks.back().name).second)
      node.at("name").fail("a task before has this name");
  }
  return tasks;
}

LayerError layer_from(const JsonNode& json) {
  LayerError layer;
  layer.name = json.at("name").text();
  const JsonNode shape = json.at("shape");
  const std::vector<JsonNode> sizes = shape.elements();
  if (sizes.size() != 2) shape.fail("expected two sizes, found " + std::to_string(sizes.size()));
  layer.out_features = sizes[0].count();
  layer.in_features = sizes[1].count();
  layer.qformat = json.at("qformat").text();
  const JsonNode sqnr = json.at("sqnr_db");
  if (!sqnr.is_null()) layer.sqnr_db = sqnr.number();
  layer.kl_mean = json.measured("kl_mean");
  return layer;
}

ModelResult model_from(const JsonNode& json, const std::vector<TaskReport>& tasks, bool candidate) {
  ModelResult model;
  model.name = json.at("name").text();
  model.qformat = json.at("qformat").text();
  model.kv_cache = json.at("kv_cache").text();
  model.sparsity = json.at("sparsity").text();
  model.parameters = json.at("parameters").count();
  model.bits_per_weight = json.at("bits_per_weight").number();
  model.bytes = json.at("bytes").count();
  model.sha256 = json.at("sha256").text();
  model.clamped_inputs = json.at("clamped_inputs").count();
  model.quantized_inputs = json.at("quantized_inputs").count();
  const JsonNode results = json.at("tasks");
  for (const TaskReport& task : tasks) {
    const JsonNode result = results.at(task.name);
    if (task.questions) {
      model.choices[task.name] = choice_from(result, candidate);
    } else {
      model.perplexities[task.name] = perplexity_from(result, candidate);
    }
  }
  for (const auto& [name, node] : results.members()) {
    if (!model.choices.contains(name) && !model.perplexities.contains(name)) {
      node.fail("the report's list of tasks has no such task");
    }
  }
  if (const auto layers = json.find("layers")) {
    for (const JsonNode& layer : layers->elements()) model.layers.push_back(layer_from(layer));
    model.layer_tokens = json.at("layer_tokens").count();
  }
  return model;
}

// Other intervals than of 95 % would be shown as such.
void check_confidence(const JsonNode& json) {
  if (json.number() != kConfidence) json.fail("expected 0.95: other intervals are not supported");
}

// What is wrong with the JSON is said in the words of the file, which can be of any length.
void check_syntax(const std::string& json, const std::string& path) {
  constexpr size_t kLongest = 300;
  try {
    check_json(json, path);
  } catch (const Error& error) {
    std::string message = error.what();
    if (message.size() <= path.size() + kLongest) throw;
    size_t end = path.size() + kLongest;
    while ((static_cast<unsigned char>(message[end]) & 0xc0) == 0x80) --end;  // within a character
    throw Error(error.code(), message.substr(0, end) + "…");
  }
}

EvaluateReport report_from(const JsonNode& json) {
  EvaluateReport report;
  report.tasks = tasks_from(json.at("tasks"));
  report.baseline = model_from(json.at("baseline"), report.tasks, false);
  for (const JsonNode& candidate : json.at("candidates").elements()) {
    report.candidates.push_back(model_from(candidate, report.tasks, true));
  }
  check_confidence(json.at("confidence"));
  report.kernel = json.at("kernel").text();
  report.precision = json.at("precision").text();
  for (const JsonNode& warning : json.at("warnings").elements()) {
    report.warnings.push_back(warning.text());
  }
  if (const auto timings = json.find("timings")) {
    report.seconds = timings->at("seconds").number();
    report.peak_rss_bytes = timings->at("peak_rss_bytes").count();
  }
  return report;
}

}  // namespace

EvaluateReport evaluate_report_from_json(const std::string& json, const std::string& path) {
  if (json.size() > kMaxBytes) {
    throw Error(ErrorCode::kInputMalformed, path + ": has " + std::to_string(json.size()) +
                                                " bytes; a report of an evaluation has at most " +
                                                std::to_string(kMaxBytes));
  }
  check_syntax(json, path);
  const nlohmann::json parsed = nlohmann::json::parse(json);
  const JsonNode root(parsed, path);
  const auto schema = root.find("schema");
  if (!schema || schema->text() != kSchema) {
    throw Error(ErrorCode::kInputMalformed,
                path + ": is not a report of accuracy-eval: expected \"schema\": \"" + kSchema +
                    "\"; write one with accuracy-eval --json FILE");
  }
  return report_from(root);
}

}  // namespace pare
