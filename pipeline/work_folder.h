// Finished layers of a job on disk, so that an interrupted run can go on.
//
// job.json names the job (model, options, calibration tokens); layer-00003.h5 holds the tensors of
// a finished block, layer-00003.json its reports. Each appears under its name only when complete.
#pragma once

#include <optional>
#include <string>

#include "formats/output_file.h"
#include "model/block_graph.h"
#include "pipeline/compressed_block.h"

namespace pare {

/// Throws Error(kInputMissing) when there is nothing to resume, Error(kUsage) when the folder
/// belongs to another job, Error(kWriteFailed) when it holds a job already and `resume` is false.
void check_work_folder(const std::string& path, const std::string& job_json, bool resume);

class WorkFolder {
 public:
  /// Creates the folder, or with `resume` opens it, and keeps other processes out of it. Throws as
  /// check_work_folder(), and Error(kWriteFailed) when it cannot be written or is in use.
  WorkFolder(const std::string& path, const std::string& job_json, bool resume);

  /// Whether piece `index` (a block, or one of its experts) is finished.
  bool contains(size_t index) const;

  /// The block, if it is finished.
  std::optional<CompressedBlock> load(const BlockGraph& block, size_t index) const;

  void save(const BlockGraph& block, size_t index, const CompressedBlock& tensors) const;

  /// Removes what the job left there, after its result is complete.
  void remove(size_t blocks) const;

 private:
  std::string layer_path(size_t index, const char* ending) const;

  std::string path_;
  std::string job_json_;
  Descriptor lock_;
};

}  // namespace pare
