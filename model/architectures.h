// From config.json to a ModelGraph, for every architecture that pare knows.
//
// known_architectures() in pare/architectures.h lists them. To add one: write a file in
// model/architectures/ and a line in architectures.cpp.
#pragma once

#include <string>
#include <vector>

#include "formats/weight_source.h"
#include "model/block_graph.h"
#include "pare/architectures.h"

namespace pare {

/// Throws Error(kInputMalformed) when the configuration is damaged, misses a key, or names an
/// architecture (or a variant of one) that is not supported; `origin` is for messages.
ModelGraph describe_model(const std::string& config_json, const std::string& origin);

/// Checks that every tensor of the graph is in `source` with the shape that config.json implies.
/// Throws Error(kInputMalformed) naming file and tensor. Returns names of tensors that the graph
/// does not use.
std::vector<std::string> check_tensors(const ModelGraph& graph, const WeightSource& source);

}  // namespace pare
