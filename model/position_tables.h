// Sines and cosines of the rotary position embedding (Su et al., 2021, arXiv:2104.09864).
//
//   RotaryTables tables(sequence_length);
//   BlockRunner runner(block, weights, tables.of(block.rotary), Precision::kBf16);
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "model/block_graph.h"

namespace pare {

/// Cosine and sine of every position, [positions, rotated / 2] each.
struct RotaryTable {
  int64_t half = 0;
  std::vector<float> cosine;
  std::vector<float> sine;
};
RotaryTable make_rotary_table(const RotaryShape& shape, int64_t positions);

/// A table for each different shape, which are few in a model. Not safe from several threads.
class RotaryTables {
 public:
  explicit RotaryTables(int64_t positions) : positions_(positions) {}

  /// Valid as long as this object.
  const RotaryTable& of(const RotaryShape& shape);

 private:
  struct Known {
    RotaryShape shape;
    RotaryTable table;
  };
  int64_t positions_;
  std::vector<std::unique_ptr<Known>> known_;
};

}  // namespace pare
