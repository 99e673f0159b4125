// The rotary embedding that a config.json describes, in its old and new forms.
#pragma once

#include <string>

#include "model/architectures/config_reader.h"
#include "model/block_graph.h"

namespace pare {

struct RotaryDefaults {
  double theta = 10000;         ///< Where the file names no base …
  double partial = 1;           ///< … and no share of channels that rotate.
  std::string layer_type = {};  ///< Section of "rope_parameters" for these layers; or empty
  std::string theta_key = "rope_theta";
  bool scaled = true;  ///< False: a scaling in the file is not for these layers.
};

/// Rotates the first channels of each head of `head_dim`, as many as the file says. Throws
/// Error(kInputMalformed) for types that are unknown, by name.
RotaryShape read_rotary(const ConfigReader& config, int64_t head_dim,
                        const RotaryDefaults& defaults = {});

/// The factor on the attention scale that goes with YaRN's "mscale_all_dim" (DeepSeek); usually 1.
float attention_scale_factor(const ConfigReader& config);

}  // namespace pare
