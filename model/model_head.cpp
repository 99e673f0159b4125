#include "model/model_head.h"

#include <algorithm>

#include "kernels/vector_math.h"

namespace pare {
namespace {

std::shared_ptr<const Linear> load_matrix(const ModelGraph& graph, const WeightSource& source,
                                          Precision precision) {
  const std::string& name = graph.head.matrix;
  auto matrix = std::make_shared<const Linear>(
      source.is_compressed(name) ? Linear::compressed(source.compressed(name), {}, precision)
                                 : Linear::dense(source.dense(name), name, {}, precision));
  source.release({name});
  return matrix;
}

}  // namespace

ModelHead::ModelHead(const ModelGraph& graph, const WeightSource& source, Precision precision)
    : ModelHead(graph, source, precision, load_matrix(graph, source, precision)) {}

ModelHead::ModelHead(const ModelGraph& graph, const WeightSource& source, Precision precision,
                     const ModelHead& other)
    : ModelHead(graph, source, precision, other.matrix_) {}

ModelHead::ModelHead(const ModelGraph& graph, const WeightSource& source, Precision precision,
                     std::shared_ptr<const Linear> matrix)
    : graph_(graph),
      precision_(precision),
      tail_weights_(
          std::make_unique<const BlockWeights>(load_block(graph.head.tail, source, precision))),
      matrix_(std::move(matrix)) {
  PositionTables positions(1);
  tail_ =
      std::make_unique<const BlockRunner>(graph.head.tail, *tail_weights_, positions, precision);
  if (source.contains(graph.head.bias)) bias_ = load_vector(source, graph.head.bias);
}

std::span<const float> ModelHead::logits(const float* hidden, int64_t rows,
                                         LogitsWorkspace& workspace) const {
  const HeadSpec& head = graph_.head;
  const int64_t width = head.tail.width(head.tail.output);
  if (!workspace.tail)
    workspace.tail.emplace(head.tail, WorkspaceSize{.length = kChunkTokens}, precision_);
  workspace.hidden.assign(hidden, hidden + rows * graph_.hidden_size);
  workspace.normed.resize(static_cast<size_t>(rows * width));
  workspace.logits.resize(static_cast<size_t>(padded_rows(rows) * graph_.vocab_size));
  tail_->apply(workspace.hidden.data(), rows, *workspace.tail, workspace.normed.data());
  if (head.scale != 1) scale_in_place(workspace.normed, head.scale);
  matrix_->prepare(workspace.normed.data(), rows, workspace.input);
  matrix_->multiply(workspace.input, workspace.logits.data());
  const std::span<float> logits(workspace.logits.data(),
                                static_cast<size_t>(rows * graph_.vocab_size));
  if (head.logit_scale != 1) scale_in_place(logits, head.logit_scale);
  if (!bias_.empty()) add_bias_rows(logits, rows, bias_);
  if (head.soft_cap > 0) soft_cap_in_place(logits, head.soft_cap);
  return logits;
}

}  // namespace pare
