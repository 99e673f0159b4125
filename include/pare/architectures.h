// The models that pare reads.
//
//   for (const pare::ArchitectureInfo& known : pare::known_architectures()) {
//     std::puts(known.name.c_str());
//   }
#pragma once

#include <span>
#include <string>
#include <vector>

#include "pare/export.h"

namespace pare {

struct ArchitectureInfo {
  std::string name;        ///< As in config.json's "architectures": "LlamaForCausalLM".
  std::string model_type;  ///< As its "model_type": "llama".
  std::string remark;      ///< One line.
};

/// All of them, in a fixed order; a name may occur with more than one model_type.
PARE_EXPORT std::vector<ArchitectureInfo> known_architectures();

/// As JSON, schema "pare.architectures/1".
PARE_EXPORT std::string to_json(std::span<const ArchitectureInfo> architectures);

}  // namespace pare
