// What a block keeps of the tokens of a sequence that it has seen: keys and values of attention,
// and the states of convolutions and scans.
//
// A sequence can be taken up again at an earlier position: keys and values are cut off there; the
// states of scans, which cannot be, are kept at the end of every segment.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "kernels/attention.h"
#include "model/block_graph.h"

namespace pare {

class SequenceState {
 public:
  /// For positions below `length`, and an encoder's output of up to `memory_length` tokens.
  SequenceState(const BlockGraph& block, int64_t length, int64_t memory_length,
                Precision precision);

  /// Forgets the sequence, keeps the memory.
  void clear();

  /// Becomes a copy of `other`, of the same block and precision. REQUIRES: other's length fits.
  void copy_from(const SequenceState& other);

  KeyValueCache& cache(int attention) { return caches_[static_cast<size_t>(attention)]; }

  /// State of a convolution or scan, by index into BlockGraph::ops, as it is before the token at
  /// `position`. REQUIRES: that is 0, where the op has come to, or where a segment ended.
  std::span<float> scan_state(size_t op, int64_t position);

  /// The op has gone through `rows` more tokens; `keep` its state for coming back here.
  void advance_scan(size_t op, int64_t rows, bool keep);

  /// Bytes that an object for these lengths takes, with one state of scans kept for coming back.
  static int64_t memory_bytes(const BlockGraph& block, int64_t length, int64_t memory_length,
                              Precision precision);

 private:
  struct ScanState {
    int64_t position = 0;
    std::vector<float> now;
    std::vector<std::pair<int64_t, std::vector<float>>> kept;  // by position, ascending
  };

  std::vector<KeyValueCache> caches_;  // by index into BlockGraph::attentions
  std::map<size_t, ScanState> scans_;  // by index into BlockGraph::ops
};

}  // namespace pare
