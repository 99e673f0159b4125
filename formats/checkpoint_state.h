// What a pare::Checkpoint has inside, for the functions that copy from one file to the next.
#pragma once

#include <memory>
#include <string>

#include "formats/checkpoint_reader.h"
#include "pare/checkpoint.h"

namespace pare {

struct Checkpoint::State {
  explicit State(const std::string& path);

  /// The source, after a check that it has the tensor. Throws Error(kUsage).
  const CheckpointSource& with(const std::string& name) const;

  std::unique_ptr<CheckpointSource> source;
  CheckpointTexts texts;
};

}  // namespace pare
