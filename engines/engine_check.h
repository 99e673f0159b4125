// What an engine would refuse in a folder, found by reading it as the engine does.
//
// A check looks at the files themselves, not at what a WeightSource makes of them: names, element
// types, shapes, configuration, and that scales are numbers an engine can multiply with. It goes on
// after a finding, so that all of them are named at once.
//
//   EngineFindings findings;
//   check_compressed_tensors(folder, {.tp_size = 2}, findings);
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pare/engines.h"

namespace pare {

struct EngineCheckOptions {
  int64_t tp_size = 1;  ///< Tensor parallelism that the engine will be started with.
};

struct EngineFindings {
  std::vector<CheckFinding> refusals;  ///< The engine fails, or runs another model.
  std::vector<CheckFinding> remarks;   ///< It works, but not as one may think.
  int64_t quantized_linears = 0;

  void refuse(std::string subject, std::string message) {
    refusals.push_back({std::move(subject), std::move(message)});
  }
  void remark(std::string subject, std::string message) {
    remarks.push_back({std::move(subject), std::move(message)});
  }
};

}  // namespace pare
