// Writes one safetensors file, for tools and tests that make models.
//
// Tensors are laid out by falling element size, then by name, so that each is aligned to its
// element; the header is padded with spaces to eight bytes. The same content gives the same bytes.
// The file appears complete or not at all (formats/output_file.h).
//
//   write_safetensors("model.safetensors", {{"w", view}}, {{"format", "pt"}}, /*force=*/false);
#pragma once

#include <map>
#include <string>

#include "core/tensor_view.h"

namespace pare {

/// Throws Error(kWriteFailed) when the file cannot be written or exists and `force` is false,
/// Error(kInternal) when a view's bytes do not match its shape.
void write_safetensors(const std::string& path, const std::map<std::string, TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata, bool force);

}  // namespace pare
