// What must not change a token's logits: other sequences, threads, how work is cut, later tokens.
#include <gtest/gtest.h>
#include <malloc.h>

#include <cmath>
#include <map>

#include "model/block_runner.h"
#include "tests/model/random_model.h"

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
  const RotaryTable rotary = make_rotary_table(block.rotary, kTokens);
  BlockWorkspace workspace(block, kTokens, Precision::kF32);
  std::map<int, int64_t> next;  // position that each value has to come with
  std::vector<int> order;
  BlockRunner(block, weights, rotary, Precision::kF32)
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

int64_t live_bytes() {
  const struct mallinfo2 info = mallinfo2();
  return static_cast<int64_t>(info.uordblks + info.hblkhd);
}

TEST_P(Independence, MemoryGrowsWithTheLengthNotItsSquare) {
  const BlockGraph& block = graph_.blocks[0];
  const BlockWeights weights = load_block(block, source_, GetParam());
  const auto bytes_for = [&](int64_t length) {
    const RotaryTable rotary = make_rotary_table(block.rotary, length);
    const BlockRunner runner(block, weights, rotary, GetParam());
    std::vector<float> hidden(static_cast<size_t>(length * graph_.hidden_size), 0.5F);
    const int64_t before = live_bytes();
    BlockWorkspace workspace(block, length, GetParam());
    runner.run(hidden.data(), length, workspace, {});
    for (const float value : hidden) EXPECT_TRUE(std::isfinite(value));
    return live_bytes() - before;
  };
  bytes_for(300);  // whatever is allocated once
  const int64_t once = bytes_for(1500);
  if (once == 0) GTEST_SKIP() << "the allocator keeps no books here";
  const int64_t twice = bytes_for(3000);
  EXPECT_LT(twice, 2 * once + 65536);
  EXPECT_LT(twice, int64_t{3000} * 3000);  // less than a byte for each pair of tokens
}

}  // namespace
}  // namespace pare
