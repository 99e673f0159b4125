// The report of speculative decoding as JSON. Keys come out sorted, numbers with as many digits as
// it takes to read them back unchanged, so equal reports give equal bytes.
#include <nlohmann/json.hpp>

#include "eval/json_figures.h"
#include "pare/speculative.h"
#include "pare/version.h"

namespace pare {
namespace {

using Json = nlohmann::json;

Json model_json(const SpeculativeModel& described) {
  const ModelResult& model = described.model;
  return {{"name", model.name},
          {"qformat", model.qformat},
          {"kv_cache", model.kv_cache},
          {"sparsity", model.sparsity},
          {"parameters", model.parameters},
          {"bits_per_weight", model.bits_per_weight},
          {"bytes", model.bytes},
          {"step_bytes", described.step_bytes},
          {"sha256", model.sha256},
          {"clamped_inputs", model.clamped_inputs},
          {"quantized_inputs", model.quantized_inputs}};
}

Json models_json(const std::vector<SpeculativeModel>& models) {
  Json json = Json::array();
  for (const SpeculativeModel& model : models) json.push_back(model_json(model));
  return json;
}

Json decoding_json(const SpeculativeDecoding& decoding) {
  Json json = {{"best_draft_length", decoding.best_draft_length},
               {"best_speedup", decoding.best_speedup},
               {"lengths", Json::array()}};
  add_figure(json, "acceptance", decoding.acceptance);
  for (size_t i = 0; i < decoding.lengths.size(); ++i) {
    const DraftLength& length = decoding.lengths[i];
    Json row = {{"draft_length", i + 1},
                {"tokens_per_target_step", 1 + length.accepted.value},
                {"accepted_if_iid", length.accepted_if_iid}};
    add_figure(row, "accepted", length.accepted);
    add_figure(row, "speedup", length.speedup);
    json["lengths"].push_back(std::move(row));
  }
  return json;
}

}  // namespace

std::string to_json(const SpeculativeReport& report, bool timings) {
  Json pairs = Json::array();
  for (const SpeculativePair& pair : report.pairs) {
    pairs.push_back({{"draft", report.drafts[pair.draft].model.name},
                     {"draft_index", pair.draft},
                     {"target", report.targets[pair.target].model.name},
                     {"target_index", pair.target},
                     {"cost", pair.cost},
                     {"sampling", decoding_json(pair.sampling)},
                     {"greedy", decoding_json(pair.greedy)}});
  }
  Json json = {{"schema", "pare.speculative/1"},
               {"version", version()},
               {"drafts", models_json(report.drafts)},
               {"targets", models_json(report.targets)},
               {"pairs", pairs},
               {"method", report.method},
               {"temperature", report.temperature},
               {"ctx", report.ctx},
               {"windows", report.windows},
               {"tokens", report.tokens},
               {"starts", report.starts},
               {"text_tokens", report.text_tokens},
               {"text_sha256", report.text_sha256},
               {"ids_sha256", report.ids_sha256},
               {"kernel", report.kernel},
               {"precision", report.precision},
               {"confidence", kConfidence},
               {"warnings", report.warnings}};
  if (timings) {
    json["timings"] = {{"seconds", report.seconds}, {"peak_rss_bytes", report.peak_rss_bytes}};
  }
  // Names come from paths, which need not be UTF-8.
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace pare
