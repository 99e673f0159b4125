// Reads what place_tensors() found: rows of ranks as one matrix, quantized linears as compressed
// weights. Functions of the mapped files alone; safe to call from several threads.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "formats/tensorrt_llm_places.h"

namespace pare {

/// Rows [first, last) of a tensor, [rows, columns] of its element type; rows that no rank has are
/// zero. Throws Error(kInputMalformed), naming file and tensor, where ranks should have the same
/// rows and do not.
void gather_rows(const TrtFolder& folder, const TrtPlaced& tensor, int64_t first, int64_t last,
                 std::span<std::byte> out);

/// REQUIRES: tensor.scheme is that of a compressed weight. Throws Error(kInputMalformed), naming
/// file and tensor, as gather_rows(), and for scales of other numbers or values than they have to
/// be. `name` is the model's.
CompressedWeight read_trt_weight(const TrtFolder& folder, const TrtPlaced& tensor,
                                 const std::string& name);

/// A floating-point tensor of `count` elements. Throws Error(kInputMalformed).
std::vector<float> read_numbers(const SafetensorsFile& file, const std::string& tensor,
                                int64_t count);

}  // namespace pare
