// Tests that hold for models of every architecture: one instance for each of model_configs().
#pragma once

#include <gtest/gtest.h>

#include <ostream>
#include <string>

#include "tests/support/model_configs.h"
#include "tests/support/random_model.h"

namespace pare::testing {

/// What GoogleTest prints for a parameter.
inline void PrintTo(const NamedConfig& config, std::ostream* out) { *out << config.name; }

class EveryModel : public ::testing::TestWithParam<NamedConfig> {
 protected:
  const nlohmann::json config_ = nlohmann::json::parse(GetParam().json);
  const MemorySource source_ = random_model(config_, kModelSeed);
  const ModelGraph graph_ = graph_of(config_);
};

/// Whether a token is rotated otherwise in a longer sequence (dynamic NTK, LongRoPE): then parts of
/// a sequence are not what they are in the whole, by definition.
inline bool rotates_by_length(const ModelGraph& graph) {
  for (const BlockGraph& block : graph.blocks) {
    for (const RotaryShape& shape : block.rotaries) {
      if (shape.short_positions > 0) return true;
    }
  }
  return false;
}

inline std::string name_of(const ::testing::TestParamInfo<NamedConfig>& info) {
  return info.param.name;
}

}  // namespace pare::testing
