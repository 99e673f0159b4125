// Writes an HDF5 checkpoint, version 1 or 2 (docs/checkpoint.md), tensor by tensor.
//
// Nothing appears under the final name before finish(): the file grows under a temporary name in
// the same folder, is synced, and renamed. A writer that is destroyed without finish() removes
// what it wrote. Bytes depend only on what is written and in which order. Not thread-safe.
//
//   CheckpointWriter writer("out.h5", header, /*force=*/false);
//   writer.write_dense("model.norm.weight", view);
//   writer.write_compressed("model.layers.0.mlp.up_proj.weight", weight);
//   CheckpointFile file = writer.finish();
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "core/compressed_weight.h"
#include "core/tensor_view.h"

namespace pare {

/// What the root of a checkpoint carries beside the tensors.
struct CheckpointHeader {
  std::string architecture;        ///< For example "LlamaForCausalLM".
  std::string config_json;         ///< config.json, verbatim.
  std::string recipe_json;         ///< How it was compressed, JSON.
  std::string calibration_sha256;  ///< Of the calibration token ids; empty when there were none.
  std::string source_sha256;       ///< WeightSource::sha256() of the input model.
  std::map<std::string, std::string> text_files;  ///< Tokenizer and generation files.
};

/// What finish() made.
struct CheckpointFile {
  std::string path;    ///< The file, or the folder of shards.
  std::string sha256;  ///< Of the file; of the index file for shards, which names each shard's.
  int64_t bytes = 0;   ///< Of all files.
};

class CheckpointWriter {
 public:
  /// `path` ending in ".h5" makes one file, anything else a folder of shards of at most
  /// `shard_bytes` (a larger single tensor gets a shard of its own). Throws Error(kWriteFailed)
  /// when the output exists and `force` is false, or the folder cannot be written, and as
  /// OutputFolder when shards cannot be named after it.
  CheckpointWriter(const std::string& path, const CheckpointHeader& header, bool force,
                   int64_t shard_bytes = int64_t{5} << 30);
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// Throws Error(kWriteFailed) when the disk is full or the name was written before.
  void write_dense(const std::string& name, const TensorView& tensor);

  /// `name` ends in ".weight"; scales and mask are written beside it as "….weight_scale" and so on.
  void write_compressed(const std::string& name, const CompressedWeight& weight);

  /// Completes, syncs and renames. The writer is of no further use.
  CheckpointFile finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pare
