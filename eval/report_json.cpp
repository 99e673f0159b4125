// Reports as JSON. Keys come out sorted, numbers with as many digits as it takes to read them back
// unchanged, so equal reports give equal bytes.
#include <nlohmann/json.hpp>
#include <optional>

#include "eval/figures.h"
#include "eval/json_figures.h"
#include "pare/evaluate.h"
#include "pare/version.h"

namespace pare {
namespace {

using Json = nlohmann::json;

Json slices_json(const std::vector<DivergenceSlice>& slices) {
  Json array = Json::array();
  for (const DivergenceSlice& slice : slices) {
    Json json = {{"name", slice.name}, {"tokens", slice.tokens}, {"base_ppl", slice.base_ppl}};
    add_figure(json, "ppl_ratio", slice.ppl_ratio);
    add_figure(json, "kl_mean", slice.kl_mean);
    add_figure(json, "top1_agreement", slice.top1_agreement);
    array.push_back(std::move(json));
  }
  return array;
}

void add_divergence(Json& json, const Divergence& divergence) {
  for (const auto& [key, figure] : measured_figures(divergence)) add_figure(json, key, *figure);
  json["kl_max"] = divergence.kl_max;
  json["kl_histogram"] = {{"edges", divergence.kl_histogram.edges},
                          {"counts", divergence.kl_histogram.counts}};
  json["by_position"] = slices_json(divergence.by_position);
  json["by_token_class"] = slices_json(divergence.by_token_class);
}

Json perplexity_json(const PerplexityResult& result, bool candidate) {
  Json json = {{"tokens", result.tokens}, {"windows", result.windows}, {"method", result.method}};
  add_figure(json, "ppl", result.ppl);
  if (!candidate) return json;
  add_figure(json, "ppl_ratio", result.ratio);
  add_figure(json, "log_ratio", result.log_ratio);
  add_figure(json, "ppl_difference", result.difference);
  json["log_ppl_correlation"] = result.correlation;
  json["relative_loss"] = result.ratio.value - 1;
  std::optional<Interval> loss = result.ratio.interval;
  if (loss) loss = Interval{loss->lower - 1, loss->upper - 1};
  json["relative_loss_ci"] = interval_json(loss);
  add_divergence(json, result.divergence);
  json["verdict"] = result.verdict;
  return json;
}

Json accuracy_json(const Accuracy& accuracy) {
  return {{"accuracy", accuracy.value},
          {"accuracy_ci", {accuracy.lower, accuracy.upper}},
          {"n", accuracy.n},
          {"right", accuracy.right}};
}

Json choice_json(const ChoiceResult& result, bool candidate) {
  Json json = accuracy_json(result.accuracy);
  for (const auto& [name, accuracy] : result.groups) json["groups"][name] = accuracy_json(accuracy);
  for (const auto& [name, accuracy] : result.categories) {
    json["categories"][name] = accuracy_json(accuracy);
  }
  if (result.target_ppl.value > 0) add_figure(json, "target_ppl", result.target_ppl);
  if (!candidate) return json;
  if (result.target_ppl.value > 0) add_figure(json, "target_ppl_ratio", result.target_ppl_ratio);
  add_figure(json, "difference", result.difference);
  add_figure(json, "relative_loss", result.relative_loss);
  json["flips"] = {{"lost", result.lost}, {"gained", result.gained}};
  json["mcnemar_p"] = result.mcnemar_p;
  json["verdict"] = result.verdict;
  return json;
}

Json tasks_json(const ModelResult& model, bool candidate) {
  Json json = Json::object();
  for (const auto& [task, result] : model.perplexities) {
    json[task] = perplexity_json(result, candidate);
  }
  for (const auto& [task, result] : model.choices) json[task] = choice_json(result, candidate);
  return json;
}

Json task_json(const TaskReport& task, bool timings) {
  Json json = {{"name", task.name},
               {"kind", task.questions ? "questions" : "perplexity"},
               {"data_sha256", task.data_sha256},
               {"ids_sha256", task.ids_sha256},
               {"method", task.method}};
  if (task.questions) {
    json["shots"] = task.shots;
    json["fewer_shots"] = task.fewer_shots;
    json["prompt_tokens"] = task.prompt_tokens;
    json["tokens_run"] = task.tokens_run;
  } else {
    json["text_tokens"] = task.text_tokens;
    json["ctx"] = task.ctx;
    json["stride"] = task.stride;
    json["windows"] = task.windows;
    json["tokens"] = task.tokens;
  }
  if (timings) json["seconds"] = task.seconds;
  return json;
}

Json layers_json(const ModelResult& model) {
  Json array = Json::array();
  for (const LayerError& layer : model.layers) {
    Json json = {{"name", layer.name},
                 {"shape", {layer.out_features, layer.in_features}},
                 {"qformat", layer.qformat}};
    json["sqnr_db"] = layer.sqnr_db ? Json(*layer.sqnr_db) : Json(nullptr);
    add_figure(json, "kl_mean", layer.kl_mean);
    array.push_back(std::move(json));
  }
  return array;
}

Json model_json(const ModelResult& model, bool candidate) {
  Json json = {{"name", model.name},
               {"qformat", model.qformat},
               {"kv_cache", model.kv_cache},
               {"sparsity", model.sparsity},
               {"parameters", model.parameters},
               {"bits_per_weight", model.bits_per_weight},
               {"bytes", model.bytes},
               {"sha256", model.sha256},
               {"clamped_inputs", model.clamped_inputs},
               {"quantized_inputs", model.quantized_inputs},
               {"tasks", tasks_json(model, candidate)}};
  if (!model.layers.empty()) {
    json["layers"] = layers_json(model);
    json["layer_tokens"] = model.layer_tokens;
  }
  return json;
}

// Names come from paths, which need not be UTF-8.
std::string dump(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

Json report_json(const EvaluateReport& report, bool timings) {
  Json candidates = Json::array();
  for (const ModelResult& model : report.candidates) candidates.push_back(model_json(model, true));
  Json json = {{"schema", "pare.eval/1"},
               {"version", version()},
               {"baseline", model_json(report.baseline, false)},
               {"candidates", candidates},
               {"confidence", kConfidence},
               {"kernel", report.kernel},
               {"precision", report.precision},
               {"warnings", report.warnings}};
  json["tasks"] = Json::array();
  for (const TaskReport& task : report.tasks) {
    json["tasks"].push_back(task_json(task, timings));
    if (task.questions || json.contains("text_tokens")) continue;
    json["text_tokens"] = task.text_tokens;
    json["text_sha256"] = task.data_sha256;
    json["ids_sha256"] = task.ids_sha256;
  }
  if (timings) {
    json["timings"] = {{"seconds", report.seconds}, {"peak_rss_bytes", report.peak_rss_bytes}};
  }
  return json;
}

}  // namespace

std::string to_json(const EvaluateReport& report, bool timings) {
  return dump(report_json(report, timings));
}

std::string to_json(std::span<const EvaluateReport> reports, bool timings) {
  Json array = Json::array();
  for (const EvaluateReport& report : reports) array.push_back(report_json(report, timings));
  return dump({{"schema", "pare.compare/1"}, {"reports", array}});
}

std::string to_json(const VerifyReport& report) {
  Json json = {{"schema", "pare.verify/1"},
               {"precision", report.precision},
               {"max_abs", report.max_abs},
               {"rel_l2", report.rel_l2},
               {"argmax_agreement", report.argmax_agreement},
               {"positions", report.positions}};
  if (!report.note.empty()) json["note"] = report.note;
  return dump(json);
}

}  // namespace pare
