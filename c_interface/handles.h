// What is behind the handles of checkpoints and their tensors.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "pare/checkpoint.h"
#include "pare/pare.h"

// What is known of a tensor without reading it, kept so that pointers into it can be given out.
struct pare_tensor {
  const pare::Checkpoint* checkpoint;
  std::string name;
  pare::TensorInfo info;
};

struct pare_checkpoint {
  explicit pare_checkpoint(const std::string& path) : checkpoint(path) {
    tensors.reserve(checkpoint.names().size());
    for (const std::string& name : checkpoint.names()) {
      tensors.push_back({&checkpoint, name, checkpoint.info(name)});
    }
  }

  pare::Checkpoint checkpoint;
  std::vector<pare_tensor> tensors;  // By name, sorted.
};
