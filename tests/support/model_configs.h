// Configurations of models of every architecture that pare knows, in odd sizes: few channels, heads
// that are no power of two, windows shorter than a sequence, and every variant that the
// descriptions tell apart.
//
//   for (const NamedConfig& config : model_configs()) describe_model(config.json, config.name);
//
// Tables of positions have 64 rows, and scaled rotary embeddings change at 16 positions.
#pragma once

#include <string>
#include <vector>

namespace pare::testing {

struct NamedConfig {
  std::string name;  ///< Letters and digits only.
  std::string json;  ///< A config.json.
};

/// At least one for each name and type of known_architectures().
std::vector<NamedConfig> model_configs();

/// The one of that name. Throws std::out_of_range for unknown ones.
NamedConfig model_config(const std::string& name);

}  // namespace pare::testing
