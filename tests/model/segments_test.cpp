// In models of every architecture: a sequence that comes in pieces, or branches, gives the same as
// whole sequences, bit by bit.
#include <gtest/gtest.h>

#include <random>

#include "core/thread_pool.h"
#include "model/layer_runner.h"
#include "tests/model/every_model.h"

namespace pare {
namespace {

using testing::kModelSeed;

constexpr int64_t kRows = 40;
constexpr int64_t kMostRows = 600;  // more than two chunks
constexpr int64_t kMemoryRows = 9;

class SegmentsOf : public testing::EveryModel {
 protected:
  using Rows = std::vector<float>;

  Rows random_rows(int64_t count) {
    std::normal_distribution<float> normal;
    Rows rows(static_cast<size_t>(count));
    for (float& value : rows) value = normal(random_);
    return rows;
  }

  // One block with what runs it.
  struct Runner {
    Runner(const BlockGraph& graph, const WeightSource& weight_source, Rows memory_rows)
        : block(graph),
          source(weight_source),
          memory(std::move(memory_rows)),
          weights(load_block(graph, weight_source, Precision::kBf16)),
          runner(block, weights, positions, Precision::kBf16) {}

    BlockWorkspace workspace() const {
      return {block, {.length = kMostRows, .memory_length = kMemoryRows}, Precision::kBf16};
    }

    // The rows of all segments, in one run.
    Rows run(Rows hidden, const std::vector<Segment>& segments,
             std::vector<BlockWorkspace>& workspaces) {
      SequenceRun sequence{.hidden = hidden.data(), .segments = segments};
      if (block.memory >= 0) {
        sequence.memory = memory.data();
        sequence.memory_rows = kMemoryRows;
      }
      LayerCall call;
      call.sequences = {&sequence, 1};
      call.workspaces = workspaces;
      if (runner.has_experts()) {
        call.experts.load = expert_loader(block, source, Precision::kBf16);
      }
      ClampCount clamps;
      run_layer(runner, call, pool, clamps);
      return hidden;
    }

    Rows run_whole(const Rows& hidden) {
      std::vector<BlockWorkspace> workspaces;
      workspaces.push_back(workspace());
      return run(hidden, {{static_cast<int64_t>(hidden.size()) / block.widths[0], 0}}, workspaces);
    }

    const BlockGraph& block;
    const WeightSource& source;
    Rows memory;
    BlockWeights weights;
    PositionTables positions{kMostRows};
    BlockRunner runner;
    ThreadPool pool{1};
  };

  Runner runner_of(const BlockGraph& block) {
    const int64_t width = block.memory >= 0 ? block.width(block.memory) : 0;
    return {block, source_, random_rows(kMemoryRows * width)};
  }

  Rows part(const Rows& rows, int64_t begin, int64_t count) const {
    const auto first = rows.begin() + begin * graph_.hidden_size;
    return {first, first + count * graph_.hidden_size};
  }

  // Rows that come in segments of up to `most` rows, in one run and in many.
  void expect_same_in_segments(int64_t total, int64_t most) {
    for (const BlockGraph& block : graph_.blocks) {
      Runner runner = runner_of(block);
      const Rows input = random_rows(total * graph_.hidden_size);
      const Rows whole = runner.run_whole(input);
      std::vector<BlockWorkspace> together;
      together.push_back(runner.workspace());
      std::vector<BlockWorkspace> apart;
      apart.push_back(runner.workspace());
      std::vector<Segment> segments;
      Rows pieces;
      for (int64_t begin = 0; begin < total;) {
        const int64_t count = std::min(
            total - begin, 1 + static_cast<int64_t>(random_() % static_cast<uint64_t>(most)));
        segments.push_back({count, begin});
        const Rows piece = runner.run(part(input, begin, count), {segments.back()}, apart);
        pieces.insert(pieces.end(), piece.begin(), piece.end());
        begin += count;
      }
      EXPECT_EQ(runner.run(input, segments, together), whole)
          << block.prefix << " in segments of one run, seed " << kModelSeed;
      EXPECT_EQ(pieces, whole) << block.prefix << " in runs of their own, seed " << kModelSeed;
    }
  }

  std::mt19937 random_{kModelSeed};
};
INSTANTIATE_TEST_SUITE_P(Models, SegmentsOf, ::testing::ValuesIn(testing::model_configs()),
                         testing::name_of);

TEST_P(SegmentsOf, RandomLengths) {
  if (testing::rotates_by_length(graph_))
    GTEST_SKIP() << "rotation depends on the length of the sequence";
  expect_same_in_segments(kRows, 9);
}

TEST_P(SegmentsOf, TwoContinuations) {
  if (testing::rotates_by_length(graph_))
    GTEST_SKIP() << "rotation depends on the length of the sequence";
  constexpr int64_t kStem = 13;
  constexpr int64_t kFirst = 7;
  constexpr int64_t kSecond = 11;
  const int64_t width = graph_.hidden_size;
  for (const BlockGraph& block : graph_.blocks) {
    Runner runner = runner_of(block);
    const Rows input = random_rows((kStem + kFirst + kSecond) * width);
    std::vector<BlockWorkspace> workspaces;
    workspaces.push_back(runner.workspace());
    const Rows packed =
        runner.run(input, {{kStem, 0}, {kFirst, kStem}, {kSecond, kStem}}, workspaces);
    const Rows one = runner.run_whole(part(input, 0, kStem + kFirst));
    Rows other = part(input, 0, kStem);
    const Rows end = part(input, kStem + kFirst, kSecond);
    other.insert(other.end(), end.begin(), end.end());
    other = runner.run_whole(other);
    EXPECT_EQ(part(packed, 0, kStem + kFirst), one) << block.prefix << ", seed " << kModelSeed;
    EXPECT_EQ(part(packed, kStem + kFirst, kSecond), part(other, kStem, kSecond))
        << block.prefix << ", seed " << kModelSeed;
    // A later run comes back to the place where they parted.
    EXPECT_EQ(runner.run(part(input, kStem, kFirst), {{kFirst, kStem}}, workspaces),
              part(one, kStem, kFirst))
        << block.prefix << ", seed " << kModelSeed;
  }
}

// Segments that cross the chunks in which a sequence runs.
class LongSegmentsOf : public SegmentsOf {};
INSTANTIATE_TEST_SUITE_P(
    Models, LongSegmentsOf,
    ::testing::Values(testing::model_config("Mistral"), testing::model_config("DeepSeek"),
                      testing::model_config("GptOss"), testing::model_config("FalconAlibi"),
                      testing::model_config("MambaBiased"),
                      testing::model_config("MambaTwoLimited"), testing::model_config("Jamba"),
                      testing::model_config("TFive"), testing::model_config("Fsmt")),
    testing::name_of);

TEST_P(LongSegmentsOf, RandomLengths) { expect_same_in_segments(kMostRows, 300); }

}  // namespace
}  // namespace pare
