// What depends on positions alone: sines and cosines of the rotary embedding (Su et al., 2021,
// arXiv:2104.09864), and biases of attention scores.
//
//   PositionTables tables(sequence_length);
//   BlockRunner runner(block, weights, tables, Precision::kBf16);
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "kernels/attention.h"
#include "model/block_graph.h"

namespace pare {

/// Cosine and sine of every position, [positions, rotated / 2] each.
struct RotaryTable {
  int64_t half = 0;
  std::vector<float> cosine;
  std::vector<float> sine;
};
/// For sequences of so many tokens: some models rotate long ones otherwise.
RotaryTable make_rotary_table(const RotaryShape& shape, int64_t positions, int64_t length);

/// The tables of one shape by the length of the sequence, made when they are needed first: nearly
/// always one. Safe from several threads.
class RotaryLookup {
 public:
  RotaryLookup(RotaryShape shape, int64_t positions)
      : shape_(std::move(shape)), positions_(positions) {}

  const RotaryShape& shape() const noexcept { return shape_; }

  /// Valid as long as this object.
  const RotaryTable& for_length(int64_t length) const;

 private:
  RotaryShape shape_;
  int64_t positions_;
  mutable std::mutex mutex_;
  mutable std::map<int64_t, std::unique_ptr<RotaryTable>> tables_;  // by the kind of length
};

/// The rotary tables of sequences of up to so many positions: one for each different shape, which
/// are few in a model. Not safe from several threads.
class PositionTables {
 public:
  explicit PositionTables(int64_t positions) : positions_(positions) {}

  int64_t positions() const { return positions_; }

  /// Valid as long as this object.
  const RotaryLookup& rotary(const RotaryShape& shape);

 private:
  int64_t positions_;
  std::vector<std::unique_ptr<RotaryLookup>> known_;
};

/// What is added to the scores of attention in sequences of up to `positions` tokens. `sinks` is
/// [heads] or empty, `table` the relative bias [buckets, heads] or empty.
AttentionTerms make_attention_terms(const AttentionSpec& spec, std::span<const float> sinks,
                                    std::span<const float> table, int64_t positions);

/// Slopes of ALiBi for any number of heads, as BLOOM and Falcon choose them, [heads].
std::vector<float> alibi_slopes(int64_t heads);

/// T5's bucket of a distance (key − query), 0 … buckets − 1.
int64_t relative_bucket(int64_t distance, const RelativeBiasSpec& spec);

}  // namespace pare
