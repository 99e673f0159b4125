// Rows of a tensor of a GGUF file, decoded or as a compressed weight.
//
// Does not own the tensor. Safe to use from several threads.
//
//   const GgufRows rows{.tensor = file.find("blk.0.attn_q.weight"), .shape = {256, 256},
//                       .head_dim = 64, .file = file.path()};
//   CompressedWeight weight = gguf_weight(rows, "model.layers.0.self_attn.q_proj.weight");
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "core/compressed_weight.h"
#include "core/tensor_view.h"
#include "formats/gguf_file.h"
#include "formats/gguf_names.h"

namespace pare {

struct GgufRows {
  const GgufTensor* tensor = nullptr;
  int64_t first_row = 0;  ///< Of an expert's slice.
  Shape shape;
  int64_t head_dim = 0;  ///< Of rows in the order of the rotary embedding; 0: they are in order.
  float offset = 0;      ///< What the file has more than the model; F32 only.
  std::string file;      ///< For messages.

  /// Whether the elements can be shown where they are.
  bool is_mapped() const { return is_plain() && head_dim == 0 && offset == 0; }
  bool is_plain() const;  ///< F32, F16 or BF16.

  /// Element type as shown: that of the file, or F32 for what is decoded.
  DType dtype() const;

  /// Row of the file that is row `row`; of a vector, element.
  int64_t file_row(int64_t row) const {
    return first_row + (head_dim > 0 ? interleaved_row(row, head_dim) : row);
  }
  /// All bytes.
  std::span<const std::byte> bytes() const;
  /// The bytes of row `row` of a matrix.
  std::span<const std::byte> row(int64_t row) const;
};

/// Whether gguf_weight() makes a compressed weight of it: a matrix in Q4_0, Q8_0 or MXFP4.
bool has_gguf_codes(const GgufRows& rows);

/// Elements from `first` on, as many as `out` holds, of type rows.dtype(). REQUIRES: they are
/// there. Throws Error(kNonFinite), naming `name`, for blocks with scales that are no finite
/// numbers.
void decode_gguf(const GgufRows& rows, const std::string& name, int64_t first,
                 std::span<std::byte> out);

/// Codes and scales of the file, scales as float, groups of 32. Where d = 0 all weights are zero
/// and the scale is 1; negative scales give their sign to the codes, or with Q4_0 make the weight
/// asymmetric. Throws Error(kInputMalformed), naming `name`, for scales that are not finite.
CompressedWeight gguf_weight(const GgufRows& rows, const std::string& name);

}  // namespace pare
