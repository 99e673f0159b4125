// What becomes of a checkpoint in the form of an engine: tensors that are made when they are
// written, and the small files beside them.
//
//   EngineExport made = export_compressed_tensors(model, {});
//   write_shards(folder, made.pieces, shard_bytes, pool, meter);
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "formats/safetensors_pieces.h"
#include "model/model_files.h"

namespace pare {

struct EngineExport {
  std::vector<TensorPiece> pieces;
  std::map<std::string, std::string> files;  ///< config.json and so on, by name.
  std::vector<std::string> warnings;         ///< What the form cannot say as the checkpoint does.
};

/// A tensor that goes over as it is.
TensorPiece copy_piece(std::shared_ptr<const WeightSource> source, const std::string& name);

/// Codes of all weights, one byte each, [out, in]: pruned ones have the code of zero. Packed or
/// not, for every format but kBf16.
std::vector<int8_t> dense_codes(const CompressedWeight& weight);

/// `values` as bytes, little-endian as they are.
template <typename Value>
std::vector<std::byte> to_bytes(std::span<const Value> values) {
  const auto bytes = std::as_bytes(values);
  return {bytes.begin(), bytes.end()};
}

/// The linears of a model by name, "model.layers.0.mlp.up_proj" and "lm_head", in its order.
std::vector<std::string> linear_modules(const ModelGraph& graph);

/// As compressed-tensors (vLLM, SGLang). Throws Error(kInputMalformed), naming the linear, for what
/// the form cannot hold: scales of the input that nothing absorbed, offsets of a cache.
EngineExport export_compressed_tensors(const ModelFiles& model);

/// Plain safetensors: every weight dequantized, scales of its input multiplied in, in BF16. 2:4 is
/// a dense matrix with zeros.
EngineExport export_dense(const ModelFiles& model);

/// What the weights of a linear are worth, [out, in], rounded to BF16.
std::vector<uint16_t> dense_values(const CompressedWeight& weight);

/// A matrix [rows, columns] as [columns, rows].
std::vector<uint16_t> transposed(const std::vector<uint16_t>& values, int64_t rows,
                                 int64_t columns);

}  // namespace pare
