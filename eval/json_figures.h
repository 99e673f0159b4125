// A figure in a report's JSON: key, key_se and key_ci.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "pare/measured.h"

namespace pare {

/// [lower, upper], or null.
nlohmann::json interval_json(const std::optional<Interval>& interval);

/// Adds `key`, its standard error as `key`_se (null where neither it nor an
/// interval is known) and its interval as `key`_ci.
void add_figure(nlohmann::json& json, const std::string& key, const Measured& figure);

}  // namespace pare
