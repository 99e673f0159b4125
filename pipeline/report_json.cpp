#include "pipeline/report_json.h"

namespace pare {

nlohmann::json layers_to_json(const std::vector<LayerReport>& layers) {
  nlohmann::json json = nlohmann::json::array();
  for (const LayerReport& layer : layers) {
    json.push_back(
        {{"name", layer.name},
         {"shape", layer.shape},
         {"qformat", layer.qformat},
         {"detail", layer.detail},
         {"algorithm", layer.algorithm},
         {"fallback", layer.fallback},
         {"sqnr_db", layer.sqnr_db ? nlohmann::json(*layer.sqnr_db) : nlohmann::json()},
         {"rtn_sqnr_db", layer.rtn_sqnr_db ? nlohmann::json(*layer.rtn_sqnr_db) : nlohmann::json()},
         {"clipped_weights", layer.clipped_weights},
         {"sparsity", layer.sparsity},
         {"bytes", layer.bytes},
         {"seconds", layer.seconds}});
  }
  return json;
}

std::vector<LayerReport> layers_from_json(const nlohmann::json& json) {
  std::vector<LayerReport> layers;
  for (const nlohmann::json& entry : json) {
    LayerReport layer;
    entry.at("name").get_to(layer.name);
    entry.at("shape").get_to(layer.shape);
    entry.at("qformat").get_to(layer.qformat);
    entry.at("detail").get_to(layer.detail);
    if (!entry.at("sqnr_db").is_null()) layer.sqnr_db = entry.at("sqnr_db").get<double>();
    entry.at("algorithm").get_to(layer.algorithm);
    entry.at("fallback").get_to(layer.fallback);
    if (!entry.at("rtn_sqnr_db").is_null())
      layer.rtn_sqnr_db = entry.at("rtn_sqnr_db").get<double>();
    entry.at("clipped_weights").get_to(layer.clipped_weights);
    entry.at("sparsity").get_to(layer.sparsity);
    entry.at("bytes").get_to(layer.bytes);
    entry.at("seconds").get_to(layer.seconds);
    layers.push_back(std::move(layer));
  }
  return layers;
}

nlohmann::json expert_to_json(const ExpertReport& expert) {
  return {{"name", expert.name}, {"tokens", expert.tokens}, {"added", expert.added}};
}

ExpertReport expert_from_json(const nlohmann::json& json) {
  ExpertReport expert;
  json.at("name").get_to(expert.name);
  json.at("tokens").get_to(expert.tokens);
  json.at("added").get_to(expert.added);
  return expert;
}

namespace {

nlohmann::json figures_to_json(const CacheFigures& figures) {
  return {{"minimum", figures.minimum},
          {"maximum", figures.maximum},
          {"beyond_e4m3", figures.beyond_e4m3},
          {"sqnr_db", figures.sqnr_db ? nlohmann::json(*figures.sqnr_db) : nlohmann::json()}};
}

CacheFigures figures_from_json(const nlohmann::json& json) {
  CacheFigures figures;
  json.at("minimum").get_to(figures.minimum);
  json.at("maximum").get_to(figures.maximum);
  json.at("beyond_e4m3").get_to(figures.beyond_e4m3);
  if (!json.at("sqnr_db").is_null()) figures.sqnr_db = json.at("sqnr_db").get<double>();
  return figures;
}

}  // namespace

nlohmann::json caches_to_json(const std::vector<CacheReport>& caches) {
  nlohmann::json json = nlohmann::json::array();
  for (const CacheReport& cache : caches) {
    json.push_back({{"name", cache.name},
                    {"format", cache.format},
                    {"scales", cache.scales},
                    {"affine", cache.affine},
                    {"kv_heads", cache.kv_heads},
                    {"keys", figures_to_json(cache.keys)},
                    {"values", figures_to_json(cache.values)}});
  }
  return json;
}

std::vector<CacheReport> caches_from_json(const nlohmann::json& json) {
  std::vector<CacheReport> caches;
  for (const nlohmann::json& entry : json) {
    CacheReport cache;
    entry.at("name").get_to(cache.name);
    entry.at("format").get_to(cache.format);
    entry.at("scales").get_to(cache.scales);
    entry.at("affine").get_to(cache.affine);
    entry.at("kv_heads").get_to(cache.kv_heads);
    cache.keys = figures_from_json(entry.at("keys"));
    cache.values = figures_from_json(entry.at("values"));
    caches.push_back(std::move(cache));
  }
  return caches;
}

std::string to_json(const QuantizeReport& report) {
  nlohmann::json experts = nlohmann::json::array();
  for (const ExpertReport& expert : report.experts) experts.push_back(expert_to_json(expert));
  nlohmann::json phases = nlohmann::json::object();
  for (const auto& [name, seconds] : report.phase_seconds) phases[name] = seconds;
  return nlohmann::json{
      {"schema", "pare.quantize/1"},
      {"output", report.output},
      {"sha256", report.sha256},
      {"bytes", report.bytes},
      {"file_bytes", report.file_bytes},
      {"bits_per_weight", report.bits_per_weight},
      {"seconds", report.seconds},
      {"peak_rss_bytes", report.peak_rss_bytes},
      {"planned_memory_bytes", report.planned_memory_bytes},
      {"calibration",
       {{"tokens", report.calibration_tokens}, {"sha256", report.calibration_sha256}}},
      {"rotation",
       {{"kind", report.rotation.kind},
        {"matrix", report.rotation.matrix},
        {"untied_head_bytes", report.rotation.untied_head_bytes}}},
      {"layers", layers_to_json(report.layers)},
      {"experts", experts},
      {"kv_caches", caches_to_json(report.caches)},
      {"phase_seconds", phases},
      {"warnings", report.warnings}}  // Paths need not be UTF-8.
      .dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace pare
