// What must not change a token's logits: other sequences, threads, how work is cut, later tokens.
#include <gtest/gtest.h>
#include <malloc.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <string>

#include "model/block_runner.h"
#include "tests/support/random_model.h"

namespace pare {
namespace {

using testing::graph_of;
using testing::kModelSeed;
using testing::random_ids;
using testing::random_model;
using testing::run_model;
using testing::small_llama_config;

class Independence : public ::testing::TestWithParam<Precision> {
 protected:
  const nlohmann::json config_ = small_llama_config();
  const testing::MemorySource source_ = random_model(config_, kModelSeed);
  const ModelGraph graph_ = graph_of(config_);
};
INSTANTIATE_TEST_SUITE_P(Precisions, Independence,
                         ::testing::Values(Precision::kBf16, Precision::kF32),
                         [](const auto& chosen) -> std::string {
                           return chosen.param == Precision::kBf16 ? "Bf16" : "F32";
                         });

TEST_P(Independence, SequencesDoNotSeeEachOther) {
  constexpr int64_t kLength = 300;  // more than a chunk
  const auto ids = random_ids(graph_, 3 * kLength, kModelSeed);
  const auto together = run_model(source_, ids, kLength, GetParam());
  std::vector<float> alone;
  for (int64_t sequence = 0; sequence < 3; ++sequence) {
    const auto one =
        run_model(source_, std::span(ids).subspan(static_cast<size_t>(sequence) * kLength, kLength),
                  kLength, GetParam(), {.head_rows = 20});
    alone.insert(alone.end(), one.begin(), one.end());
  }
  if (GetParam() == Precision::kBf16) {
    EXPECT_EQ(alone, together) << "seed " << kModelSeed;
  } else {
    // The head's rows are cut differently, and OpenBLAS sums by the number of rows.
    EXPECT_LT(testing::relative_error(alone, together), 1e-6);
  }
}

TEST_P(Independence, ThreadsDoNotMatter) {
  constexpr int64_t kLength = 130;
  const auto ids = random_ids(graph_, 7 * kLength, kModelSeed);
  const auto one = run_model(source_, ids, kLength, GetParam(), {.threads = 1});
  for (const int64_t threads : {2, 3, 8}) {
    EXPECT_EQ(run_model(source_, ids, kLength, GetParam(), {.threads = threads}), one)
        << threads << " threads, seed " << kModelSeed;
  }
}

// Causal, and the same bytes for every length: what is scored in a short window is what a long one
// begins with.
TEST(Independence, LaterTokensDoNotMatter) {
  const testing::MemorySource source = random_model(small_llama_config(), kModelSeed);
  const ModelGraph graph = graph_of(small_llama_config());
  const auto ids = random_ids(graph, 700, kModelSeed);
  const auto whole = run_model(source, ids, 700, Precision::kBf16);
  for (const int64_t length : {1, 2, 63, 256, 257, 513}) {
    const auto part = run_model(source, std::span(ids).first(static_cast<size_t>(length)), length,
                                Precision::kBf16);
    EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin()))
        << length << " of 700 tokens, seed " << kModelSeed;
  }
}

TEST(Independence, RowsOfTheHeadDoNotMatter) {
  const testing::MemorySource source = random_model(small_llama_config(), kModelSeed);
  const auto ids = random_ids(graph_of(small_llama_config()), 300, kModelSeed);
  const auto expected = run_model(source, ids, 300, Precision::kBf16, {.head_rows = 300});
  for (const int64_t rows : {1, 7, 64, 256}) {
    EXPECT_EQ(run_model(source, ids, 300, Precision::kBf16, {.head_rows = rows}), expected) << rows;
  }
}

// Observers look at the values that the linears get, once a group, in order, without a gap.
TEST(Observer, SeesEveryInputOnce) {
  const testing::MemorySource source = random_model(small_llama_config(), kModelSeed);
  const ModelGraph graph = graph_of(small_llama_config());
  const BlockGraph& block = graph.blocks[0];
  constexpr int64_t kTokens = 600;
  std::vector<float> hidden(static_cast<size_t>(kTokens * graph.hidden_size), 0.5F);
  const std::vector<float> before = hidden;
  const BlockWeights weights = load_block(block, source, Precision::kF32);
  PositionTables positions(kTokens);
  BlockWorkspace workspace(block, {.length = kTokens}, Precision::kF32);
  std::map<int, int64_t> next;  // position that each value has to come with
  std::vector<int> order;
  BlockRunner(block, weights, positions, Precision::kF32)
      .run(hidden.data(), kTokens, workspace,
           [&](int value, int64_t position, int64_t rows, const float* x) {
             if (position == 0) order.push_back(value);
             EXPECT_EQ(next[value], position) << "value " << value;
             EXPECT_LE(rows, kChunkTokens);
             next[value] += rows;
             const int64_t width = block.widths[static_cast<size_t>(value)];
             for (int64_t i = 0; i < rows * width; ++i) ASSERT_TRUE(std::isfinite(x[i]));
           });
  EXPECT_EQ(order.size(), 4U);
  for (const auto& [value, tokens] : next) EXPECT_EQ(tokens, kTokens) << "value " << value;
  EXPECT_NE(hidden, before);
}

/// A line of /proc/self/status in bytes; -1 where there is none.
int64_t status_bytes(const std::string& name) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(name + ":")) return std::stoll(line.substr(name.size() + 1)) * 1024;
  }
  return -1;
}

/// How far the resident memory of this process rises above what it is now while `body` runs, in
/// bytes: what is freed before `body` returns counts. -1 where that cannot be known.
int64_t peak_bytes(const std::function<void()>& body) {
  malloc_trim(0);  // Or freed memory, resident still, would be used again uncounted.
  // The peak falls to what is there now.
  std::ofstream("/proc/self/clear_refs") << 5 << std::flush;
  const int64_t before = status_bytes("VmRSS");
  // The counters of the kernel are exact to some pages only.
  constexpr int64_t kNoise = int64_t{1} << 20;
  if (before < 0 || std::abs(status_bytes("VmHWM") - before) > kNoise) return -1;
  body();
  return status_bytes("VmHWM") - before;
}

TEST_P(Independence, MemoryGrowsWithTheLengthNotItsSquare) {
  constexpr int64_t kLength = 4000;
  constexpr int64_t kPairs = kLength * kLength;
  const BlockGraph& block = graph_.blocks[0];
  const BlockWeights weights = load_block(block, source_, GetParam());
  const auto peak_for = [&](int64_t length) {
    PositionTables positions(length);
    const BlockRunner runner(block, weights, positions, GetParam());
    std::vector<float> hidden(static_cast<size_t>(length * graph_.hidden_size), 0.5F);
    const int64_t peak = peak_bytes([&] {
      BlockWorkspace workspace(block, {.length = length}, GetParam());
      runner.run(hidden.data(), length, workspace, {});
    });
    for (const float value : hidden) EXPECT_TRUE(std::isfinite(value));
    return peak;
  };
  const int64_t seen = peak_bytes([] {
    const std::vector<float> scores(static_cast<size_t>(kPairs), 1.0F);
    EXPECT_EQ(scores.back(), 1.0F);
  });
  if (seen < 0) GTEST_SKIP() << "the peak of resident memory cannot be reset here";
  // A [length, length] buffer that is freed again does not escape the measurement: 64 MB …
  ASSERT_GT(seen, 3 * kPairs);
  peak_for(300);  // What is allocated once.
  const int64_t half = peak_for(kLength / 2);
  const int64_t whole = peak_for(kLength);
  // … and it would exceed this four times: a byte for each pair of tokens, 16 MB.
  EXPECT_LT(whole, kPairs);
  // Twice the tokens take twice the memory, not four times: already 4 MB of it that grew with the
  // square would be 2 MB too much.
  EXPECT_LT(whole, 2 * half + (int64_t{2} << 20)) << half << " bytes for half the tokens";
}

}  // namespace
}  // namespace pare
