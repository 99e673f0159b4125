// A model as it lies on disk: its tensors under the names that the description uses, and the
// description.
//
//   ModelFiles model = open_model_files("models/mixtral");
//   BlockWeights weights = load_block(model.graph.blocks[0], *model.source, Precision::kBf16);
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "formats/weight_source.h"
#include "model/block_graph.h"

namespace pare {

/// Copies share the tensors.
struct ModelFiles {
  std::shared_ptr<const WeightSource> source;
  ModelGraph graph;
  std::vector<std::string> unused;  ///< Tensors that the graph does not use.
};

/// Opens a folder or checkpoint, finds out how it names its tensors, and checks that all are there.
/// Throws pare::Error as open_weight_source(), describe_model() and check_tensors() do.
/// What becomes of a LoRA adapter: it goes into the weights, or stays beside them.
enum class LoraUse : uint8_t { kMerge, kBeside };

/// `lora` is the folder of an adapter; empty: none.
ModelFiles open_model_files(const std::string& path, const std::string& lora = {},
                            LoraUse use = LoraUse::kMerge);

/// The same for tensors that are open already.
ModelFiles bind_model(std::shared_ptr<const WeightSource> source);

}  // namespace pare
