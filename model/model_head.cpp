#include "model/model_head.h"

#include <cstring>

#include "kernels/vector_math.h"
#include "model/block_runner.h"
#include "pare/error.h"

namespace pare {

void embed_tokens(const ModelGraph& graph, const WeightSource& source, std::span<const int32_t> ids,
                  float* hidden) {
  TensorView table = source.dense(graph.embedding);
  const size_t row_bytes = static_cast<size_t>(graph.hidden_size) * dtype_size(table.dtype);
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= graph.vocab_size) {
      throw Error(ErrorCode::kInputMalformed,
                  "token id " + std::to_string(ids[i]) + " is outside the vocabulary of " +
                      std::to_string(graph.vocab_size) + " (" + source.path() + ")");
    }
    const TensorView row{table.dtype,
                         {graph.hidden_size},
                         table.bytes.subspan(static_cast<size_t>(ids[i]) * row_bytes, row_bytes)};
    const std::vector<float> values = to_f32(row, graph.embedding);
    std::memcpy(hidden + static_cast<int64_t>(i) * graph.hidden_size, values.data(),
                values.size() * sizeof(float));
  }
}

ModelHead::ModelHead(const ModelGraph& graph, const WeightSource& source, Precision precision)
    : hidden_size_(graph.hidden_size),
      vocab_size_(graph.vocab_size),
      epsilon_(graph.norm_epsilon),
      norm_(load_vector(source, graph.final_norm)) {
  head_ = std::make_shared<const Linear>(
      source.is_compressed(graph.head)
          ? Linear::compressed(source.compressed(graph.head), {}, precision)
          : Linear::dense(source.dense(graph.head), graph.head, {}, precision));
  source.release({graph.head});
}

ModelHead::ModelHead(const ModelGraph& graph, const WeightSource& source, const ModelHead& other)
    : hidden_size_(graph.hidden_size),
      vocab_size_(graph.vocab_size),
      epsilon_(graph.norm_epsilon),
      norm_(load_vector(source, graph.final_norm)),
      head_(other.head_) {}

std::span<const float> ModelHead::logits(const float* hidden, int64_t rows,
                                         LogitsWorkspace& workspace) const {
  const auto width = static_cast<size_t>(hidden_size_);
  workspace.normed.resize(static_cast<size_t>(rows * hidden_size_));
  workspace.logits.resize(static_cast<size_t>(padded_rows(rows) * vocab_size_));
  for (int64_t row = 0; row < rows; ++row) {
    rms_norm_row({hidden + row * hidden_size_, width}, norm_, epsilon_,
                 {workspace.normed.data() + row * hidden_size_, width});
  }
  head_->prepare(workspace.normed.data(), rows, workspace.input);
  head_->multiply(workspace.input, workspace.logits.data());
  return {workspace.logits.data(), static_cast<size_t>(rows * vocab_size_)};
}

}  // namespace pare
