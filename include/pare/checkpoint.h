// Tensors of a checkpoint, read and written. docs/checkpoint.md specifies the file.
//
//   const pare::Checkpoint checkpoint("llama-int4.h5");
//   for (const std::string& name : checkpoint.names()) {
//     if (!checkpoint.info(name).scheme) continue;  // a dense tensor
//     std::vector<float> first_row = checkpoint.values(name, 0, 1);
//   }
//   pare::PlainTensor norm = checkpoint.dense("model.norm.weight");
//   norm.bytes[0] = std::byte{0};
//   pare::copy_checkpoint(checkpoint, "patched.h5", {{"model.norm.weight", norm}});
//
// A Checkpoint is read-only and safe to use from several threads; what it returns by value owns
// itself. A CheckpointOutput is for one thread at a time. Everything here throws pare::Error: that
// a tensor is not there, or is asked for as what it is not, is kUsage; kInputMissing and
// kInputMalformed are about files; kWriteFailed about output.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "pare/export.h"

namespace pare {

/// How a compressed weight is stored, in the words of docs/checkpoint.md, section 5.
struct WeightScheme {
  std::string scheme;             ///< "fp8", "int8", "int4", "nvfp4", "mxfp4", "bf16".
  std::string activation;         ///< How the layer's input is rounded: "bf16", "fp8_static" …
  int64_t group_size = -1;        ///< −1: one scale; 0: one an output; g: one for g inputs.
  int64_t block_rows = 1;         ///< With a group size: outputs that share each scale.
  bool symmetric = true;          ///< Without zero points.
  bool sparse = false;            ///< 2:4.
  bool pre_quant_scaled = false;  ///< The layer's input is multiplied by a scale a channel.

  bool operator==(const WeightScheme&) const = default;
};

/// What is known of a tensor without reading it.
struct TensorInfo {
  std::string dtype;                   ///< As the file says: "bfloat16", "int4_packed" …
  std::vector<int64_t> shape;          ///< Logical: [out, in] of a compressed weight.
  int64_t stored_bytes = 0;            ///< Scales, zero points and mask included.
  std::optional<WeightScheme> scheme;  ///< Of a compressed weight; absent when dense.
};

/// A tensor that is not compressed.
struct PlainTensor {
  std::string dtype = "float32";
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;  ///< Row-major, little-endian.

  bool operator==(const PlainTensor&) const = default;
};

/// A compressed weight as it is stored: section 6 says how codes and mask are packed, section 7
/// what they are worth. A scale always multiplies.
struct QuantizedWeight {
  WeightScheme scheme;
  std::vector<int64_t> shape;          ///< [out, in]
  std::vector<uint8_t> codes;          ///< Each row starts at a byte.
  std::vector<uint8_t> mask_index;     ///< When sparse.
  std::vector<float> scale;            ///< [1], [out], or [blocks of rows, groups]; none for bf16.
  float global_scale = 1;              ///< nvfp4 only.
  std::vector<uint8_t> zero_point;     ///< As the scales, unless symmetric.
  float input_scale = 0;               ///< Where the activation has one.
  std::vector<float> pre_quant_scale;  ///< [in], or empty: ones.

  bool operator==(const QuantizedWeight&) const = default;
};

/// Rows [first, first + count) as float, count × in, exactly as section 7 says; pruned entries are
/// +0. `name` is for messages. Throws kUsage when the weight contradicts itself or has no such
/// rows.
PARE_EXPORT std::vector<float> dequantize(const QuantizedWeight& weight, int64_t first,
                                          int64_t count, const std::string& name = "weight");

/// What a checkpoint says beside its tensors.
struct CheckpointTexts {
  std::string architecture;        ///< For example "LlamaForCausalLM".
  std::string config_json;         ///< config.json.
  std::string recipe_json;         ///< How it was compressed, JSON; may be empty.
  std::string calibration_sha256;  ///< Of the calibration's token ids; may be empty.
  std::string source_sha256;       ///< Digest of the model that was compressed; may be empty.
  std::map<std::string, std::string> text_files;  ///< tokenizer.json and others, by name.

  bool operator==(const CheckpointTexts&) const = default;
};

class PARE_EXPORT Checkpoint {
 public:
  /// An .h5 file, a folder of shards, or its .h5.index.json. Checks everything but the hashes of
  /// the tensors; tensors are read when they are asked for.
  explicit Checkpoint(const std::string& path);
  ~Checkpoint();
  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;

  const std::string& path() const;
  const CheckpointTexts& texts() const;
  int64_t format_version() const;  ///< That the file says; see PARE_CHECKPOINT_FORMAT_VERSION.
  const std::string& tool_version() const;  ///< That wrote it: "pare 0.1.0".

  /// Of all tensors, sorted. Scales and masks belong to their weight and are not listed.
  const std::vector<std::string>& names() const;
  /// The same in the order in which they are stored.
  const std::vector<std::string>& stored_order() const;
  bool contains(const std::string& name) const;
  TensorInfo info(const std::string& name) const;

  PlainTensor dense(const std::string& name) const;
  QuantizedWeight quantized(const std::string& name) const;

  /// Rows [first, first + count) of any tensor as float: dequantized, or converted from the element
  /// type of a dense one. Rows are along the first dimension, a scalar is one row. A compressed
  /// weight is read as a whole each time: for many small pieces, keep quantized() and dequantize().
  std::vector<float> values(const std::string& name, int64_t first, int64_t count) const;
  /// All rows.
  std::vector<float> values(const std::string& name) const;

  /// Recomputes every hash in the file or files; returns the bytes that were checked. Throws
  /// kInputMalformed naming the first that differs.
  int64_t verify() const;

 private:
  friend class CheckpointOutput;
  struct State;
  std::unique_ptr<State> state_;
};

/// What was written.
struct WrittenCheckpoint {
  std::string path;
  std::string sha256;  ///< Of the file; of the index that names the shards' for a folder.
  int64_t bytes = 0;   ///< Of all files.
};

/// A new checkpoint, tensor by tensor. Nothing is there under the final name before finish(); an
/// object that is destroyed without it removes what it wrote. The same tensors in the same order
/// give the same bytes.
///
///   pare::CheckpointOutput output("tiny.h5", {.config_json = R"({"model_type": "llama"})"});
///   output.write("model.norm.weight", pare::PlainTensor{"float32", {2},
///   std::vector<std::byte>(8)}); output.finish();
class PARE_EXPORT CheckpointOutput {
 public:
  /// `path` ending in ".h5" is one file, anything else a folder of shards. Existing output is
  /// refused unless `force`, and then stays until finish().
  CheckpointOutput(const std::string& path, const CheckpointTexts& texts, bool force = false);
  ~CheckpointOutput();
  CheckpointOutput(const CheckpointOutput&) = delete;
  CheckpointOutput& operator=(const CheckpointOutput&) = delete;

  /// Throws kUsage for what no checkpoint can hold and for a second tensor of a name; nothing of it
  /// is written then.
  void write(const std::string& name, const PlainTensor& tensor);
  /// `name` ends in ".weight".
  void write(const std::string& name, const QuantizedWeight& weight);
  /// A tensor as it is stored in another checkpoint.
  void copy(const Checkpoint& from, const std::string& name);

  WrittenCheckpoint finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// What may stand in the place of a tensor.
using Replacement = std::variant<PlainTensor, QuantizedWeight>;

/// `from` with some tensors replaced; its texts and the order of tensors stay. Without
/// replacements, and by the same version of pare, the same bytes. `path` may be that of `from`
/// with `force`. Throws kUsage for a replacement of a tensor that is not there, or of another
/// shape.
PARE_EXPORT WrittenCheckpoint copy_checkpoint(const Checkpoint& from, const std::string& path,
                                              const std::map<std::string, Replacement>& replaced,
                                              bool force = false);

}  // namespace pare
