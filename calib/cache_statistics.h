// What an attention writes to its cache over the calibration tokens: the range of each channel of
// keys and values, and a sample of tokens.
//
// Ranges are of all tokens, the sample is spread evenly over them. Sequences are kept apart until
// they are all there, so the result does not depend on threads or batches.
//
//   CacheCollector collector(sequences, tokens, block);
//   … runner.run(sequence, workspace, {.cache = collector.observer(i)}) for each sequence i …
//   CacheStatistics statistics = collector.take(op);
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "model/block_graph.h"
#include "model/block_runner.h"

namespace pare {

/// Of keys, or of values.
struct CacheRange {
  int64_t heads = 0;
  int64_t width = 0;           ///< Of a head.
  std::vector<float> minimum;  ///< [heads × width]
  std::vector<float> maximum;
  std::vector<float> sample;  ///< [tokens, heads × width]
  int64_t values = 0;         ///< Seen in all.
  int64_t beyond_e4m3 = 0;    ///< Of them, above 448: what an FP8 cache without scales clips.

  /// The largest magnitude of all channels.
  float absmax() const;
};

struct CacheStatistics {
  CacheRange keys;
  CacheRange values;
};

class CacheCollector {
 public:
  /// `tokens` in all sequences, roughly: of them up to kSampleTokens are kept.
  CacheCollector(const BlockGraph& block, int64_t sequences, int64_t tokens);

  /// For one sequence; those of different sequences may run on different threads.
  CacheObserver observer(int64_t sequence);

  /// Of the attention `op`. REQUIRES: called once an op. Throws Error(kNonFinite) naming the
  /// attention for keys or values that are not finite.
  CacheStatistics take(size_t op);

  /// Bytes that a collector keeps for an attention.
  static int64_t memory_bytes(const AttentionShape& shape, int64_t sequences);

  static constexpr int64_t kSampleTokens = 4096;

 private:
  struct Part {
    CacheStatistics statistics;
    int64_t tokens = 0;
  };
  CacheRange empty_range(int64_t heads, int64_t width) const;
  void add_rows(int64_t sequence, size_t op, int64_t rows, const float* k, const float* v);

  const BlockGraph& block_;
  int64_t stride_;
  std::vector<std::map<size_t, Part>> parts_;  // by sequence, then op
};

}  // namespace pare
