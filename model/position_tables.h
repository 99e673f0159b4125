// What depends on positions alone: sines and cosines of the rotary embedding (Su et al., 2021,
// arXiv:2104.09864), and biases of attention scores.
//
//   PositionTables tables(sequence_length);
//   BlockRunner runner(block, weights, tables, Precision::kBf16);
#pragma once

#include <cstdint>
#include <memory>
#include <span>
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
RotaryTable make_rotary_table(const RotaryShape& shape, int64_t positions);

/// The rotary tables of sequences of up to so many positions: one for each different shape, which
/// are few in a model. Not safe from several threads.
class PositionTables {
 public:
  explicit PositionTables(int64_t positions) : positions_(positions) {}

  int64_t positions() const { return positions_; }

  /// Valid as long as this object.
  const RotaryTable& rotary(const RotaryShape& shape);

 private:
  struct Known {
    RotaryShape shape;
    RotaryTable table;
  };
  int64_t positions_;
  std::vector<std::unique_ptr<Known>> known_;
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
