// Models of any architecture on disk, and pairs of source and target for those with an encoder.
//
//   write_any_model(path("t5"), nlohmann::json::parse(model_config("TFive").json), /*seed=*/1);
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/model_configs.h"

namespace pare::testing {

/// The configuration of that name (tests/support/model_configs.h) with some keys of `changes`.
nlohmann::json any_config(const std::string& name,
                          const nlohmann::json& changes = nlohmann::json::object());

/// config.json and model.safetensors with random weights in BF16; `damaged`, if there is one, names
/// the tensor that begins with NaN.
void write_any_model(const std::string& folder, const nlohmann::json& config, uint32_t seed,
                     const std::string& damaged = {});

struct IdPair {
  std::vector<int32_t> source;
  std::vector<int32_t> target;
};

/// So many pairs of 1 to `longest` random ids below `vocabulary`.
std::vector<IdPair> random_pairs(size_t count, int64_t longest, int32_t vocabulary, uint32_t seed);

/// As .jsonl with "source" and "target".
void write_pairs(const std::string& path, const std::vector<IdPair>& pairs);

}  // namespace pare::testing
