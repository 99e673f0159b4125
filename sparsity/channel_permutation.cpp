#include "sparsity/channel_permutation.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "pare/error.h"
#include "sparsity/linear_assignment.h"

namespace pare {
namespace {

constexpr size_t kLanes = 16;    // partial sums, so that the compiler can use vectors
constexpr size_t kTile = 32;     // channels of an assignment whose gains are computed at a time
constexpr size_t kChunk = 2048;  // scores of a channel that are read at a time, to stay in cache

// Σ max(a, b)
float sum_of_larger(const float* a, const float* b, size_t count) {
  float lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] += a[i + lane] > b[i + lane] ? a[i + lane] : b[i + lane];
    }
  }
  for (; i < count; ++i) lanes[0] += std::max(a[i], b[i]);
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

// What a block of four channels keeps.
double block_score(const float* const channel[4], size_t width) {
  double sum = 0;
  for (size_t i = 0; i < width; ++i) {
    const float high = std::max(channel[0][i], channel[1][i]);
    const float low = std::min(channel[0][i], channel[1][i]);
    const float other_high = std::max(channel[2][i], channel[3][i]);
    const float other_low = std::min(channel[2][i], channel[3][i]);
    const float first = std::max(high, other_high);
    const float second = std::max(std::min(high, other_high), std::max(low, other_low));
    sum += static_cast<double>(first) + static_cast<double>(second);
  }
  return sum;
}

class ChannelOrder {
 public:
  ChannelOrder(std::span<const float> score, size_t units, size_t width, size_t pool_size,
               const ChannelOrderOptions& options, ThreadPool& pool)
      : score_(score),
        units_(units),
        width_(width),
        pool_size_(pool_size),
        options_(options),
        pool_(pool),
        second_(units / 4 * width) {}

  std::vector<int32_t> find() {
    std::vector<int32_t> best(units_);
    std::iota(best.begin(), best.end(), 0);
    double kept = kept_score(score_, static_cast<int64_t>(width_), best, pool_);
    deal_out();
    for (int sweep = 0; sweep < options_.sweeps; ++sweep) {
      for (size_t place = 0; place < 4; ++place) {
        reassign(place, (static_cast<size_t>(sweep) * 4 + place) % 2 == 0);
      }
      const double now = kept_score(score_, static_cast<int64_t>(width_), order_, pool_);
      const bool goes_on = now > kept * (1 + options_.least_gain);
      if (now > kept) {
        kept = now;
        best = order_;
      }
      // The first sweep is compared with the order given, which may be as good as dealing out.
      if (!goes_on && sweep > 0) break;
    }
    return best;
  }

 private:
  const float* channel(size_t unit) const { return score_.data() + unit * width_; }

  // Heuristic channel allocation.
  void deal_out() {
    std::vector<double> sum(units_);
    pool_.parallel_for(units_, [&](size_t unit, size_t) {
      const float* values = channel(unit);
      for (size_t i = 0; i < width_; ++i) sum[unit] += static_cast<double>(values[i]);
    });
    order_.resize(units_);
    const size_t blocks = pool_size_ / 4;
    for (size_t first = 0; first < units_; first += pool_size_) {
      std::vector<int32_t> sorted(pool_size_);
      std::iota(sorted.begin(), sorted.end(), static_cast<int32_t>(first));
      std::stable_sort(sorted.begin(), sorted.end(), [&](int32_t a, int32_t b) {
        return sum[static_cast<size_t>(a)] > sum[static_cast<size_t>(b)];
      });
      for (size_t i = 0; i < pool_size_; ++i) {
        order_[first + i % blocks * 4 + i / blocks] = sorted[i];
      }
    }
  }

  // Blocks that are solved together: neighbours, or evenly spread.
  std::vector<std::vector<size_t>> parts(bool neighbours) const {
    const size_t blocks = pool_size_ / 4;
    const auto most = static_cast<size_t>(options_.most_blocks);
    const size_t count = (blocks + most - 1) / most;
    std::vector<std::vector<size_t>> all;
    for (size_t first = 0; first < units_ / 4; first += blocks) {
      const size_t begin = all.size();
      all.resize(begin + count);
      for (size_t i = 0; i < blocks; ++i) {
        all[begin + (neighbours ? i * count / blocks : i % count)].push_back(first + i);
      }
    }
    return all;
  }

  // With three channels of a block fixed, a fourth adds, beside what the largest of them keeps, the
  // larger of itself and the second of them.
  void find_seconds(size_t place) {
    pool_.parallel_for(units_ / 4, [&](size_t block, size_t) {
      const float* fixed[3];
      size_t count = 0;
      for (size_t i = 0; i < 4; ++i) {
        if (i != place) fixed[count++] = channel(static_cast<size_t>(order_[block * 4 + i]));
      }
      float* second = second_.data() + block * width_;
      for (size_t i = 0; i < width_; ++i) {
        const float high = std::max(fixed[0][i], fixed[1][i]);
        const float low = std::min(fixed[0][i], fixed[1][i]);
        second[i] = std::max(low, std::min(high, fixed[2][i]));
      }
    });
  }

  // Takes the channel at `place` out of each block and puts all back where they gain most.
  void reassign(size_t place, bool neighbours) {
    find_seconds(place);
    const std::vector<std::vector<size_t>> all = parts(neighbours);
    std::vector<std::vector<float>> gains(all.size());
    struct Tile {
      size_t part;
      size_t first;
    };
    std::vector<Tile> tiles;
    for (size_t part = 0; part < all.size(); ++part) {
      const size_t n = all[part].size();
      gains[part].resize(n * n);
      for (size_t first = 0; first < n; first += kTile) tiles.push_back({part, first});
    }
    pool_.parallel_for(tiles.size(), [&](size_t i, size_t) {
      const std::vector<size_t>& blocks = all[tiles[i].part];
      find_gains(blocks, place, tiles[i].first, gains[tiles[i].part]);
    });
    std::vector<std::vector<int32_t>> placed(all.size());
    pool_.parallel_for(all.size(), [&](size_t part, size_t) {
      placed[part] = best_assignment(gains[part], static_cast<int64_t>(all[part].size()));
    });
    const std::vector<int32_t> before = order_;
    for (size_t part = 0; part < all.size(); ++part) {
      for (size_t i = 0; i < all[part].size(); ++i) {
        const auto block = all[part][static_cast<size_t>(placed[part][i])];
        order_[block * 4 + place] = before[all[part][i] * 4 + place];
      }
    }
  }

  void find_gains(const std::vector<size_t>& blocks, size_t place, size_t first,
                  std::vector<float>& gains) const {
    const size_t n = blocks.size();
    const size_t last = std::min(first + kTile, n);
    for (size_t begin = 0; begin < width_; begin += kChunk) {
      const size_t count = std::min(kChunk, width_ - begin);
      for (size_t job = 0; job < n; ++job) {
        const float* second = second_.data() + blocks[job] * width_ + begin;
        for (size_t worker = first; worker < last; ++worker) {
          const auto unit = static_cast<size_t>(order_[blocks[worker] * 4 + place]);
          gains[worker * n + job] += sum_of_larger(channel(unit) + begin, second, count);
        }
      }
    }
  }

  std::span<const float> score_;
  size_t units_;
  size_t width_;
  size_t pool_size_;
  const ChannelOrderOptions& options_;
  ThreadPool& pool_;
  std::vector<int32_t> order_;
  std::vector<float> second_;  // [blocks, width]
};

}  // namespace

double kept_score(std::span<const float> score, int64_t width, std::span<const int32_t> order,
                  ThreadPool& pool) {
  const auto count = static_cast<size_t>(width);
  std::vector<double> kept(order.size() / 4);
  pool.parallel_for(kept.size(), [&](size_t block, size_t) {
    const float* channel[4];
    for (size_t i = 0; i < 4; ++i) {
      channel[i] = score.data() + static_cast<size_t>(order[block * 4 + i]) * count;
    }
    kept[block] = block_score(channel, count);
  });
  return std::accumulate(kept.begin(), kept.end(), 0.0);
}

std::vector<int32_t> order_for_two_of_four(std::span<const float> score, int64_t units,
                                           int64_t width, int64_t pool_size,
                                           const ChannelOrderOptions& options, ThreadPool& pool) {
  const bool whole = pool_size > 0 && pool_size % 4 == 0 && units > 0 && units % pool_size == 0;
  if (!whole || width < 0 || options.most_blocks < 1 ||
      score.size() != static_cast<size_t>(units) * static_cast<size_t>(width)) {
    throw Error(ErrorCode::kInternal, "channel order: " + std::to_string(score.size()) +
                                          " scores for " + std::to_string(units) +
                                          " channels in pools of " + std::to_string(pool_size));
  }
  return ChannelOrder(score, static_cast<size_t>(units), static_cast<size_t>(width),
                      static_cast<size_t>(pool_size), options, pool)
      .find();
}

}  // namespace pare
