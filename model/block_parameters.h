// The tensors that a block needs, by name and shape.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/tensor_view.h"
#include "model/block_graph.h"

namespace pare {

struct Parameter {
  std::string name;         ///< In full.
  Shape shape;              ///< As a dense tensor is stored.
  size_t op = 0;            ///< Index into BlockGraph::ops.
  bool weight = false;      ///< Of a linear: may be compressed, and then is [out, in].
  bool transposed = false;  ///< Dense, it is [in, out].
  bool owned = true;        ///< False: it is another block's, and only read here.
  bool optional = false;    ///< The model does without it.
};

/// All parameters of a block but those of its experts, in a fixed order.
std::vector<Parameter> block_parameters(const BlockGraph& block);

/// Names of the tensors that a block owns, without its experts'.
std::vector<std::string> block_tensors(const BlockGraph& block);

/// Elements of the weights of a block's linears, without its experts'.
struct LinearElements {
  int64_t all = 0;
  int64_t largest = 0;  ///< Of one linear.
};
LinearElements linear_elements(const BlockGraph& block);

/// Calls visit(block) for the blocks that can be compressed: those of the encoder, those of the
/// decoder, and after each of them its experts.
void for_each_block(const ModelGraph& graph, const std::function<void(const BlockGraph&)>& visit);

/// Parameters of the model that are in none of those blocks: embeddings, stems, tails, the head.
std::vector<Parameter> outer_parameters(const ModelGraph& graph);

}  // namespace pare
