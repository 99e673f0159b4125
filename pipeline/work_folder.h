// Finished layers of a job on disk, so that an interrupted run can go on.
//
// job.json names the job (model, options, calibration tokens); layer-00003.h5 holds the tensors of
// a finished block, layer-00003.json its reports. Each appears under its name only when complete.
#pragma once

#include <optional>
#include <string>

#include "model/block_graph.h"
#include "pipeline/compressed_block.h"

namespace pare {

class WorkFolder {
 public:
  /// Creates the folder, or with `resume` opens it. Throws Error(kInputMissing) when there is
  /// nothing to resume, Error(kUsage) when it belongs to another job, Error(kWriteFailed) when it
  /// cannot be written or holds a job already and `resume` is false.
  WorkFolder(const std::string& path, const std::string& job_json, bool resume);

  /// The block, if it is finished.
  std::optional<CompressedBlock> load(const BlockGraph& block, size_t index) const;

  void save(const BlockGraph& block, size_t index, const CompressedBlock& tensors) const;

  /// Removes what the job left there, after its result is complete.
  void remove(size_t blocks) const;

 private:
  std::string layer_path(size_t index, const char* ending) const;

  std::string path_;
  std::string job_json_;
};

}  // namespace pare
