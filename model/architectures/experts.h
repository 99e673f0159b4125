// What mixtures of experts have in common.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "model/architectures/config_reader.h"
#include "model/block_graph.h"

namespace pare {

/// Number of experts, and of those that a token chooses, checked.
void read_experts(const ConfigReader& config, const char* count_key, int64_t count,
                  const char* chosen_key, int64_t chosen, ExpertsSpec& experts);

/// An expert with a gated MLP; names of gate, up and down.
std::shared_ptr<const BlockGraph> gated_expert(int64_t hidden, int64_t intermediate,
                                               Activation activation,
                                               const std::array<const char*, 3>& names);

/// gpt-oss' expert: gate and up alternate in one tensor, and all has biases.
std::shared_ptr<const BlockGraph> clamped_swiglu_expert(int64_t hidden, int64_t intermediate);

/// How newer files store all gated experts of a layer in two tensors, "gate_up_proj" [experts,
/// 2 × intermediate, hidden] and "down_proj" [experts, hidden, intermediate], under `prefix`.
std::vector<FusedExperts> fused_gated_experts(const std::string& prefix,
                                              const std::array<const char*, 3>& names);

}  // namespace pare
