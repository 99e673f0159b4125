// Where a model's tensors come from: a Hugging Face folder or an HDF5 checkpoint.
//
// A source is read-only and safe to use from several threads. Views of tensors that are stored as
// they are shown point into mappings that live as long as the source. Views of tensors that the
// source decodes (FP8 blocks, MXFP4, merged adapters: docs/sources.md) live until release() of that
// tensor, so that memory stays bounded: release a tensor only when no thread looks at it any more.
//
//   auto source = open_weight_source("models/llama");
//   TensorView embedding = source->dense("model.embed_tokens.weight");
#pragma once

#include <map>
#include <memory>
#include <span>
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

  /// config.json, verbatim; a source that decodes quantized tensors leaves "quantization_config"
  /// out, since what it shows is not quantized.
  virtual const std::string& config_json() const = 0;

  /// Further small files of the model by name, verbatim: those of the tokenizer (tokenizer.json,
  /// tokenizer.model, spiece.model, tokenizer_config.json, vocab.json, merges.txt,
  /// special_tokens_map.json, added_tokens.json, chat_template.jinja) and generation_config.json,
  /// where they exist.
  virtual const std::map<std::string, std::string>& text_files() const = 0;

  /// Names of all logical tensors, sorted. A compressed linear `m` counts as "m.weight" alone; its
  /// scales and mask are not listed.
  virtual const std::vector<std::string>& names() const = 0;
  virtual bool contains(const std::string& name) const = 0;

  /// Whether "m.weight" is stored compressed.
  virtual bool is_compressed(const std::string& name) const = 0;

  /// A tensor that is stored densely. Throws Error(kInputMalformed) when it is missing or
  /// compressed; the message names the file. A tensor that is decoded throws Error(kNonFinite) when
  /// it has codes, scales or values that are no finite numbers.
  virtual TensorView dense(const std::string& name) const = 0;

  /// Elements [first, first + count) of a dense tensor in row-major order, as a vector [count].
  /// Decodes no more than these where the source decodes. Lives as long as a view by dense(), or
  /// until release_part() of the same part. Throws as dense(), and Error(kInternal) when the part
  /// is not inside the tensor.
  virtual TensorView dense_part(const std::string& name, int64_t first, int64_t count) const;

  /// Writes the elements of a dense tensor that begin at `first` and fill `out` to `out`, and keeps
  /// nothing: for one pass over a tensor in pieces. Throws as dense_part().
  virtual void read(const std::string& name, int64_t first, std::span<std::byte> out) const;

  /// Element type of a dense tensor. Reads and decodes nothing. Throws as dense().
  virtual DType dtype(const std::string& name) const;

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

  /// Says that these tensors are not needed for now, so that reading a model larger than memory
  /// does not fill it: decoded copies are freed with all parts of them, and the system may forget
  /// mapped pages. Never changes what a later call returns.
  virtual void release(const std::vector<std::string>& names) const = 0;

  /// The same of one part that dense_part() gave.
  virtual void release_part(const std::string& name, int64_t first, int64_t count) const;

  /// A digest of the configuration and all tensor bytes; computed on the first call, which reads
  /// all of them. Throws Error(kInputMalformed), naming file and tensor, when a checkpoint's
  /// payload differs from the hash that is stored beside it.
  virtual std::string sha256() const = 0;

  /// The recipe with which the model was compressed, JSON; empty for a Hugging Face folder.
  virtual const std::string& recipe_json() const = 0;
};

/// Whether a tensor says how the cache of keys and values is stored (docs/checkpoint.md): it takes
/// bytes, but is no parameter.
bool is_cache_tensor(const WeightSource& source, const std::string& name);

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

/// Throws Error(kInternal) when [first, first + count) is not inside a tensor of `total` elements.
void check_part(const std::string& name, int64_t first, int64_t count, int64_t total);

/// Opens a folder with config.json and safetensors (FP8 blocks and MXFP4 are decoded), one of
/// TensorRT-LLM's checkpoints, an .h5 checkpoint, a folder of .h5 shards, or a GGUF file
/// (formats/gguf_source.h). Throws
/// Error(kInputMissing) when there is nothing at `path`, Error(kInputMalformed) when what is there
/// is neither or is damaged.
std::unique_ptr<WeightSource> open_weight_source(const std::string& path);

}  // namespace pare
