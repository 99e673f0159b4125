// Reads an HDF5 checkpoint, version 1 or 2 (docs/checkpoint.md): one .h5 file or a folder of
// shards.
//
// The files are listed by the strict walker of formats/hdf5_walk.h and every attribute is checked
// against the shapes when the checkpoint is opened; payloads stay mapped. The hashes of the
// payloads are recomputed when verify_hashes() or WeightSource::sha256() is asked for.
//
//   auto source = open_checkpoint("llama-int4.h5");
//   CompressedWeight weight = source->compressed("model.layers.0.mlp.up_proj.weight");
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "formats/checkpoint_writer.h"
#include "formats/weight_source.h"

namespace pare {

/// A checkpoint as a source of tensors, and what only a checkpoint can say.
class CheckpointSource : public WeightSource {
 public:
  /// What its root says, with the texts that WeightSource has too.
  virtual const CheckpointHeader& header() const = 0;
  virtual const std::string& tool_version() const = 0;
  virtual int64_t format_version() const = 0;

  /// names() in the order in which they are stored.
  virtual const std::vector<std::string>& stored_order() const = 0;

  /// The element type of a tensor or the codes of a compressed weight, in the file's words. Throws
  /// Error(kInputMalformed) when there is none.
  virtual std::string stored_dtype(const std::string& name) const = 0;

  /// A compressed weight without its vectors. Reads nothing. Throws as compressed().
  virtual CompressedWeight outline(const std::string& name) const = 0;
  virtual bool has_pre_quant_scale(const std::string& name) const = 0;
};

/// `path` is an .h5 file, an .h5.index.json file, or a folder that holds exactly one of the latter.
/// Throws Error(kInputMissing) when it or a shard is not there, Error(kInputMalformed) when
/// something in it breaks a rule of the format.
std::unique_ptr<CheckpointSource> open_checkpoint(const std::string& path);

/// Recomputes the SHA-256 of every stored dataset, and of every shard that an index names. Returns
/// the number of payload bytes that were checked. Throws Error(kInputMalformed) that names the
/// first dataset or file that differs, or as open_checkpoint().
int64_t verify_hashes(const std::string& path);

/// Whether `path` is a folder that holds an index of shards.
bool is_checkpoint_folder(const std::string& path);

}  // namespace pare
