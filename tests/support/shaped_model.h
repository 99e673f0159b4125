// Models of any shape of the Llama family, small enough to make in a test and to change tensor by
// tensor before they are written.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "tests/support/tiny_model.h"

namespace pare::testing {

struct ModelShape {
  int64_t hidden = 64;
  int64_t feed_forward = 96;
  int64_t vocabulary = 256;
  int64_t layers = 2;
  int64_t heads = 4;
  int64_t kv_heads = 2;
  int64_t head_dim = 16;
  bool tied = false;    ///< Head and embedding are one tensor.
  bool biased = false;  ///< Biases on all linears.
  /// Every sixteenth channel of each norm, and of the inputs of o_proj and down_proj, is this many
  /// times larger, and the weights behind it as many times smaller.
  float outlier = 1;
};

using ModelTensors = std::map<std::string, Bf16Tensor>;

/// Normal random weights of such a size that the residual stream keeps its scale.
ModelTensors make_tensors(const ModelShape& shape, uint32_t seed);

/// config.json and one safetensors file, without a tokenizer.
void write_model(const std::string& folder, const ModelShape& shape, const ModelTensors& tensors);

}  // namespace pare::testing
