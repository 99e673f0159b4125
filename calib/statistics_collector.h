// Gathers InputStatistics while sequences run through a block.
//
// Sequences come in batches: observers keep the inputs of the batch as bfloat16 (what a matrix
// product would read), then end_batch() adds them up on the pool, cut by channel, each piece going
// through the tokens in order. So the sums do not depend on threads or on the size of a batch.
//
//   StatisticsCollector collector(values, pool);
//   collector.begin_batch(count);
//   … runner.run(hidden, length, workspace, collector.observer(i)) for i in [0, count) …
//   collector.end_batch();
//   InputStatistics statistics = collector.take(value);
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "calib/statistics.h"
#include "core/thread_pool.h"
#include "kernels/matmul.h"
#include "model/block_runner.h"

namespace pare {

/// One value of a block to watch.
struct WatchedValue {
  int value = 0;
  int64_t in_features = 0;
  bool gram = false;      ///< Whether the Gram matrix is wanted.
  int64_t tokens = 0;     ///< In all batches.
  bool mismatch = false;  ///< Whether the original's inputs come, too (original_observer()).
};

class StatisticsCollector {
 public:
  StatisticsCollector(const std::vector<WatchedValue>& values, ThreadPool& pool);
  ~StatisticsCollector();

  /// The next `count` sequences follow.
  void begin_batch(int64_t count);

  /// Observer for the sequence `index` of the batch. Observers of different sequences may run on
  /// different threads.
  InputObserver observer(int64_t index);

  /// For the same sequence in the uncompressed model: as many rows of the values with `mismatch`.
  InputObserver original_observer(int64_t index);

  void end_batch();

  /// The statistics of a value over all batches. REQUIRES: called once a value.
  InputStatistics take(int value);

  /// Bytes that a collector for these values keeps.
  static int64_t memory_bytes(const std::vector<WatchedValue>& values, int64_t batch_tokens);

  /// Tokens kept as a sample, at most.
  static constexpr int64_t kSampleTokens = 512;

 private:
  struct Watched {
    InputStatistics statistics;
    bool wants_gram = false;
    bool wants_mismatch = false;
    std::vector<std::vector<uint16_t>> batch;     // by sequence: [tokens, in]
    std::vector<std::vector<uint16_t>> original;  // the same of the uncompressed model
    int64_t sample_stride = 1;
    int64_t seen = 0;               // tokens, over all batches
    std::vector<double> magnitude;  // [in] Σ |x|
  };

  static int64_t rows_of(const Watched& watched, size_t sequence);
  void make_products(const Watched& watched);
  void add_channels(Watched& watched, int64_t begin, int64_t end);
  // Of Σ a xᵀ, with rows of a for each sequence, x the batch.
  struct ProductTile {
    Watched* watched;
    const std::vector<std::vector<uint16_t>>* left;
    std::vector<double>* sum;
    int64_t row;
    int64_t column;
  };
  void add_product_tile(const ProductTile& tile, MatmulScratch& scratch,
                        std::vector<float>& product);
  const TileMatmul& tile_product(int64_t m, int64_t n, int64_t k, int64_t in_features) const;

  ThreadPool& pool_;
  std::map<int, Watched> watched_;
  std::map<std::vector<int64_t>, std::unique_ptr<TileMatmul>> products_;
  std::vector<MatmulScratch> scratch_;
  std::vector<std::vector<float>> product_buffers_;
};

}  // namespace pare
