#include "eval/json_figures.h"

namespace pare {

nlohmann::json interval_json(const std::optional<Interval>& interval) {
  return interval ? nlohmann::json{interval->lower, interval->upper} : nlohmann::json(nullptr);
}

void add_figure(nlohmann::json& json, const std::string& key, const Measured& figure) {
  json[key] = figure.value;
  // An error that is not known is not 0.
  const bool known = figure.standard_error > 0 || figure.interval;
  json[key + "_se"] = known ? nlohmann::json(figure.standard_error) : nlohmann::json(nullptr);
  json[key + "_ci"] = interval_json(figure.interval);
}

}  // namespace pare
