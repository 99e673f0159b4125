// Reports as JSON. Keys come out sorted, numbers with as many digits as it takes to read them back
// unchanged, so equal reports give equal bytes.
#include <nlohmann/json.hpp>

#include "pare/evaluate.h"

namespace pare {
namespace {

using Json = nlohmann::json;

Json perplexity_json(const PerplexityResult& result, bool candidate) {
  Json json = {{"ppl", result.ppl},
               {"ppl_se", result.ppl_se},
               {"tokens", result.tokens},
               {"windows", result.windows},
               {"method", result.method}};
  if (!candidate) return json;
  json["ppl_ratio"] = result.ppl_ratio;
  json["ppl_ratio_se"] = result.ppl_ratio_se;
  json["kl_mean"] = result.kl_mean;
  json["kl_mean_se"] = result.kl_mean_se;
  json["kl_median"] = result.kl_median;
  json["kl_p99"] = result.kl_p99;
  json["kl_max"] = result.kl_max;
  json["top1_agreement"] = result.top1_agreement;
  json["top1_agreement_se"] = result.top1_agreement_se;
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
  if (result.target_ppl > 0) json["target_ppl"] = result.target_ppl;
  if (!candidate) return json;
  json["difference"] = result.difference;
  json["difference_ci"] = {result.difference_lower, result.difference_upper};
  // A loss is positive.
  json["relative_loss"] = 0.0 - result.relative;
  json["relative_loss_ci"] = {0.0 - result.relative_upper, 0.0 - result.relative_lower};
  json["flips"] = {{"lost", result.lost}, {"gained", result.gained}};
  json["mcnemar_p"] = result.mcnemar_p;
  json["verdict"] = result.verdict;
  return json;
}

Json tasks_json(const ModelResult& model, bool candidate) {
  Json json = Json::object();
  if (model.perplexity.windows > 0)
    json["perplexity"] = perplexity_json(model.perplexity, candidate);
  for (const auto& [task, result] : model.choices) json[task] = choice_json(result, candidate);
  return json;
}

Json task_json(const TaskReport& task, bool timings) {
  Json json = {{"name", task.name},
               {"data_sha256", task.data_sha256},
               {"ids_sha256", task.ids_sha256},
               {"shots", task.shots},
               {"fewer_shots", task.fewer_shots},
               {"prompt_tokens", task.prompt_tokens},
               {"tokens_run", task.tokens_run},
               {"method", task.method}};
  if (timings) json["seconds"] = task.seconds;
  return json;
}

Json model_json(const ModelResult& model, bool candidate) {
  return {{"name", model.name},
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
}

// Names come from paths, which need not be UTF-8.
std::string dump(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::string to_json(const EvaluateReport& report, bool timings) {
  Json candidates = Json::array();
  for (const ModelResult& model : report.candidates) candidates.push_back(model_json(model, true));
  Json json = {
      {"schema", "pare.eval/1"},           {"baseline", model_json(report.baseline, false)},
      {"candidates", candidates},          {"text_tokens", report.text_tokens},
      {"text_sha256", report.text_sha256}, {"ids_sha256", report.ids_sha256},
      {"kernel", report.kernel},           {"precision", report.precision},
      {"warnings", report.warnings}};
  json["tasks"] = Json::array();
  for (const TaskReport& task : report.tasks) json["tasks"].push_back(task_json(task, timings));
  if (timings) {
    json["timings"] = {{"seconds", report.seconds}, {"peak_rss_bytes", report.peak_rss_bytes}};
  }
  return dump(json);
}

std::string to_json(const VerifyReport& report) {
  return dump({{"schema", "pare.verify/1"},
               {"precision", report.precision},
               {"max_abs", report.max_abs},
               {"rel_l2", report.rel_l2},
               {"argmax_agreement", report.argmax_agreement},
               {"positions", report.positions}});
}

}  // namespace pare
