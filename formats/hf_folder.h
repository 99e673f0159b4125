// A Hugging Face model folder as a WeightSource: config.json, safetensors, tokenizer files.
//
// Either model.safetensors, or model.safetensors.index.json and the shards that it names. Folders
// that are quantized show their linears as compressed weights, or decoded
// (formats/quantized_source.h). Headers are read and checked when the folder is opened; tensors are
// mapped.
//
//   auto source = open_hf_folder("models/llama");
#pragma once

#include <map>
#include <memory>
#include <string>

#include "formats/weight_source.h"

namespace pare {

/// Throws Error(kInputMissing) when config.json, the weights or a shard are not there, and
/// Error(kInputMalformed) when one is damaged, the index and the shards disagree, or the weights
/// are of a kind that is not read: pickled, or quantized in a way that is not known.
std::unique_ptr<WeightSource> open_hf_folder(const std::string& path);

/// The same with all tensors as they are stored, whatever config.json says about them.
std::unique_ptr<WeightSource> open_stored_folder(const std::string& path);

/// The files of a folder that WeightSource::text_files() shows.
std::map<std::string, std::string> read_model_texts(const std::string& folder);

}  // namespace pare
