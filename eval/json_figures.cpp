#include "eval/json_figures.h"

namespace pare {

nlohmann::json interval_json(const std::optional<Interval>& interval) {
  return interval ? nlohmann::json{interval->lower, interval->upper} : nlohmann::json(nullptr);
}

void add_figure(nlohmann::json& json, const std::string& key, const Measured& figure) {
  json[key] = figure.value;
  json[key + "_se"] = figure.standard_error;
  json[key + "_ci"] = interval_json(figure.interval);
}

}  // namespace pare
