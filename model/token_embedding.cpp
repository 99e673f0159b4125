#include "model/token_embedding.h"

#include <cmath>
#include <cstring>

#include "core/dtype.h"
#include "kernels/vector_math.h"
#include "model/block_runner.h"
#include "pare/error.h"

namespace pare {

TokenEmbedding::TokenEmbedding(const EmbeddingSpec& spec, const WeightSource& source,
                               Precision precision)
    : spec_(spec), source_(source), precision_(precision), scale_(spec.scale) {
  if (spec.scale_rounded && precision != Precision::kF32) {
    scale_ = bf16_to_f32(f32_to_bf16(scale_));
  }
  if (spec.position_kind != PositionKind::kNone && source.contains(spec.positions)) {
    positions_ = load_vector(source, spec.positions);
  }
  stem_ = load_block(spec.stem, source, precision);
}

void TokenEmbedding::embed(std::span<const int32_t> ids, int64_t position, float* hidden) const {
  const bool has_positions = spec_.position_kind != PositionKind::kNone;
  const int64_t width = spec_.stem.width(spec_.stem.output);
  PositionTables tables(1);
  const BlockRunner stem(spec_.stem, stem_, tables, precision_);
  BlockWorkspace workspace(spec_.stem, {.length = kChunkTokens}, precision_);
  std::vector<float> rows;
  for (size_t first = 0; first < ids.size(); first += static_cast<size_t>(kChunkTokens)) {
    const size_t count = std::min(ids.size() - first, static_cast<size_t>(kChunkTokens));
    const int64_t start = position + static_cast<int64_t>(first);
    float* out = hidden + static_cast<int64_t>(first) * width;
    rows.resize(count * static_cast<size_t>(spec_.width));
    look_up(ids.subspan(first, count), rows.data());
    if (has_positions && !spec_.positions_after_stem) add_positions(start, rows);
    stem.apply(rows.data(), static_cast<int64_t>(count), workspace, out);
    if (has_positions && spec_.positions_after_stem) {
      add_positions(start, {out, count * static_cast<size_t>(width)});
    }
  }
}

void TokenEmbedding::look_up(std::span<const int32_t> ids, float* rows) const {
  const TensorView table = source_.dense(spec_.tokens);
  const size_t row_bytes = static_cast<size_t>(spec_.width) * dtype_size(table.dtype);
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= spec_.vocab_size) {
      throw Error(ErrorCode::kInputMalformed,
                  "token id " + std::to_string(ids[i]) + " is outside the vocabulary of " +
                      std::to_string(spec_.vocab_size) + " (" + source_.path() + ")");
    }
    const TensorView stored{
        table.dtype,
        {spec_.width},
        table.bytes.subspan(static_cast<size_t>(ids[i]) * row_bytes, row_bytes)};
    const std::vector<float> values = to_f32(stored, spec_.tokens);
    const std::span<float> row(rows + static_cast<int64_t>(i) * spec_.width, values.size());
    std::memcpy(row.data(), values.data(), values.size() * sizeof(float));
    if (scale_ != 1) scale_in_place(row, scale_);
  }
}

void TokenEmbedding::add_positions(int64_t first, std::span<float> rows) const {
  const auto width = static_cast<size_t>(spec_.position_width());
  for (size_t i = 0; i * width < rows.size(); ++i) {
    add_position(first + static_cast<int64_t>(i), rows.subspan(i * width, width));
  }
}

void TokenEmbedding::add_position(int64_t position, std::span<float> row) const {
  const int64_t index = position + spec_.position_offset;
  const auto stored = static_cast<int64_t>(positions_.size() / row.size());
  if (index < stored) {
    return add_in_place(row,
                        {positions_.data() + static_cast<size_t>(index) * row.size(), row.size()});
  }
  if (spec_.position_kind == PositionKind::kSinusoidal) return add_sinusoids(index, row);
  throw Error(ErrorCode::kInputMalformed,
              "position " + std::to_string(position) + " is outside of the " +
                  std::to_string(stored - spec_.position_offset) + " that \"" + spec_.positions +
                  "\" knows (" + source_.path() + "); take shorter sequences");
}

void add_sinusoids(int64_t position, std::span<float> row) {
  const size_t half = row.size() / 2;
  const auto step = static_cast<float>(std::log(10000.0) / static_cast<double>(half - 1));
  for (size_t i = 0; i < half; ++i) {
    // In FP32, as the models' own code computes the angle.
    const float angle = static_cast<float>(position) * std::exp(static_cast<float>(i) * -step);
    row[i] += std::sin(angle);
    row[half + i] += std::cos(angle);
  }
}

}  // namespace pare
