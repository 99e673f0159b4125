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

#include <memory>
#include <string>

#include "formats/weight_source.h"

namespace pare {

/// `path` is an .h5 file, an .h5.index.json file, or a folder that holds exactly one of the latter.
/// Throws Error(kInputMissing) when it or a shard is not there, Error(kInputMalformed) when
/// something in it breaks a rule of the format.
std::unique_ptr<WeightSource> open_checkpoint(const std::string& path);

/// Recomputes the SHA-256 of every stored dataset, and of every shard that an index names. Returns
/// the number of payload bytes that were checked. Throws Error(kInputMalformed) that names the
/// first dataset or file that differs, or as open_checkpoint().
int64_t verify_hashes(const std::string& path);

/// Whether `path` is a folder that holds an index of shards.
bool is_checkpoint_folder(const std::string& path);

}  // namespace pare
