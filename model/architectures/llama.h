// Llama 2 and 3, Mistral, Qwen2: pre-norm decoders with grouped-query attention, rotary positions
// and a gated MLP. They differ in biases, head size and sliding window.
#pragma once

#include "model/architectures/config_reader.h"
#include "model/block_graph.h"

namespace pare {

ModelGraph describe_llama(const ConfigReader& config);
ModelGraph describe_mistral(const ConfigReader& config);
ModelGraph describe_qwen2(const ConfigReader& config);

}  // namespace pare
