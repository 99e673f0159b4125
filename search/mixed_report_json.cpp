#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pare/mixed_precision.h"

namespace pare {

using Json = nlohmann::json;

std::string to_json(const MixedReport& report) {
  const auto measured = [](const Measured& value) {
    Json json = {{"value", value.value}, {"se", value.standard_error}};
    if (value.interval) json["ci"] = {value.interval->lower, value.interval->upper};
    return json;
  };
  const auto title = [](const LayerChoice& choice) {
    return choice.qformat + (choice.sparse ? ", 2:4" : "");
  };
  std::vector<std::string> alternatives;
  for (const LayerChoice& choice : report.alternatives) alternatives.push_back(title(choice));
  Json groups = Json::array();
  for (const MixedGroup& group : report.groups) {
    groups.push_back({{"linears", group.linears},
                      {"bits", group.bits},
                      {"loss", group.loss},
                      {"chosen", alternatives[group.chosen]}});
  }
  return Json{{"schema", "pare.mixed/1"},
              {"alternatives", alternatives},
              {"bits", report.bits},
              {"predicted_kl", report.predicted_kl},
              {"measured_kl", measured(report.measured_kl)},
              {"ppl_ratio", measured(report.ppl_ratio)},
              {"trials", report.trials},
              {"recipe", report.recipe},
              {"groups", groups},
              {"quantize", Json::parse(to_json(report.quantize))}}
      .dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace pare
