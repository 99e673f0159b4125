// LayerReport, ExpertReport and CacheReport to JSON and back.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "pare/quantize.h"

namespace pare {

nlohmann::json layers_to_json(const std::vector<LayerReport>& layers);
std::vector<LayerReport> layers_from_json(const nlohmann::json& json);

nlohmann::json expert_to_json(const ExpertReport& expert);
ExpertReport expert_from_json(const nlohmann::json& json);

nlohmann::json caches_to_json(const std::vector<CacheReport>& caches);
std::vector<CacheReport> caches_from_json(const nlohmann::json& json);

}  // namespace pare
