// What the datasets of a checkpoint mean: which belong together, and that they fit.
//
// Private to the reader. Pointers lead into the list that was interpreted, which must outlive the
// entries.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/compressed_weight.h"
#include "formats/checkpoint_layout.h"
#include "formats/hdf5_walk.h"

namespace pare {

/// One logical tensor: a dense one, or the codes of a compressed weight and what belongs to them.
struct CheckpointEntry {
  Shape shape;                           ///< Logical.
  DType dtype = DType::kF32;             ///< Of a dense tensor.
  const StoredDataset* data = nullptr;   ///< The tensor or the codes.
  const CodeLayout* layout = nullptr;    ///< Of a compressed weight; null when dense.
  CompressedWeight weight;               ///< Everything but the vectors; when compressed.
  const StoredDataset* scale = nullptr;  ///< These six: null when absent.
  const StoredDataset* global_scale = nullptr;
  const StoredDataset* zero_point = nullptr;
  const StoredDataset* input_scale = nullptr;
  const StoredDataset* pre_quant_scale = nullptr;
  const StoredDataset* mask_index = nullptr;

  /// `data` and those of the six that are there.
  std::vector<const StoredDataset*> parts() const;
};

/// Checks all attributes of the datasets of one file and joins side datasets to their codes.
/// Throws Error(kInputMalformed) that begins with `path` and names the tensor.
std::map<std::string, CheckpointEntry> interpret_datasets(
    const std::string& path, const std::vector<StoredDataset>& datasets);

/// The attribute as a text or a number. `shown` names the object in messages, file included.
const std::string& text_attribute(const AttributeMap& attributes, const std::string& name,
                                  const std::string& shown);
int64_t number_attribute(const AttributeMap& attributes, const std::string& name,
                         const std::string& shown);

}  // namespace pare
