// Where a model's tensors come from: a Hugging Face folder or an HDF5 checkpoint.
//
// A source is read-only and safe to use from several threads. Views point into mappings that live
// as long as the source.
//
//   auto source = open_weight_source("models/llama");
//   TensorView embedding = source->dense("model.embed_tokens.weight");
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/compressed_weight.h"
#include "core/tensor_view.h"

namespace pare {

class WeightSource {
 public:
  virtual ~WeightSource() = default;

  /// The path that the user gave.
  virtual const std::string& path() const = 0;

  /// config.json, verbatim.
  virtual const std::string& config_json() const = 0;

  /// Further text files of the model by file name: tokenizer.json, tokenizer_config.json,
  /// generation_config.json, special_tokens_map.json, vocab.json, merges.txt: those that exist.
  virtual const std::map<std::string, std::string>& text_files() const = 0;

  /// Names of all logical tensors, sorted. A compressed linear `m` counts as "m.weight" alone; its
  /// scales and mask are not listed.
  virtual const std::vector<std::string>& names() const = 0;
  virtual bool contains(const std::string& name) const = 0;

  /// Whether "m.weight" is stored compressed.
  virtual bool is_compressed(const std::string& name) const = 0;

  /// A tensor that is stored densely. Throws Error(kInputMalformed) when it is missing or
  /// compressed; the message names the file.
  virtual TensorView dense(const std::string& name) const = 0;

  /// A compressed weight, validated. Throws Error(kInputMalformed) when it is missing or dense.
  virtual CompressedWeight compressed(const std::string& name) const = 0;

  /// The logical shape, [out, in] for compressed weights.
  virtual Shape shape(const std::string& name) const = 0;

  /// The file that holds the tensor, for messages.
  virtual std::string file_of(const std::string& name) const = 0;

  /// Bytes of all tensors as stored, scales and masks included.
  virtual int64_t stored_bytes() const = 0;

  /// Bytes that "m.weight" takes with its scales, zero points, mask and input scales.
  virtual int64_t stored_bytes(const std::string& name) const = 0;

  /// Tells the system that the mapped pages of these tensors are not needed for now, so that
  /// reading a model larger than memory does not fill it. Never changes results.
  virtual void release(const std::vector<std::string>& names) const = 0;

  /// A digest of the configuration and all tensor bytes; computed on the first call, which reads
  /// all of them. Throws Error(kInputMalformed), naming file and tensor, when a checkpoint's
  /// payload differs from the hash that is stored beside it.
  virtual std::string sha256() const = 0;

  /// The recipe with which the model was compressed, JSON; empty for a Hugging Face folder.
  virtual const std::string& recipe_json() const = 0;
};

struct StoredSize {
  int64_t parameters = 0;
  int64_t bytes = 0;

  double bits_per_weight() const {
    return parameters == 0 ? 0 : 8.0 * static_cast<double>(bytes) / static_cast<double>(parameters);
  }
};

/// Parameters and stored bytes of the model itself: all tensors but `unused`, which are buffers, or
/// the stored head of a model that uses its embedding instead.
StoredSize stored_size(const WeightSource& source, const std::vector<std::string>& unused);

/// Opens a folder with config.json and safetensors, an .h5 checkpoint, or a folder of .h5 shards.
/// Throws Error(kInputMissing) when there is nothing at `path`, Error(kInputMalformed) when what
/// is there is neither or is damaged.
std::unique_ptr<WeightSource> open_weight_source(const std::string& path);

}  // namespace pare
