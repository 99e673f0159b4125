// A sequence that branches gives what the whole sequences give.
#include <gtest/gtest.h>

#include <random>

#include "model/block_runner.h"
#include "tests/support/random_model.h"

namespace pare {
namespace {

using testing::graph_of;
using testing::kModelSeed;
using testing::random_model;
using testing::small_llama_config;

class Branching : public ::testing::TestWithParam<std::tuple<Precision, int>> {
 protected:
  static nlohmann::json config() {
    nlohmann::json config = small_llama_config();
    if (std::get<1>(GetParam()) > 0) {
      config["architectures"] = {"MistralForCausalLM"};
      config["sliding_window"] = std::get<1>(GetParam());
    }
    return config;
  }

  std::vector<float> random_rows(int64_t rows) {
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(rows * graph_.hidden_size));
    for (float& value : values) value = normal(random_);
    return values;
  }

  // The last rows of a whole sequence.
  std::vector<float> whole(const std::vector<float>& stem, const std::vector<float>& rest) const {
    std::vector<float> hidden = stem;
    hidden.insert(hidden.end(), rest.begin(), rest.end());
    const auto rows = static_cast<int64_t>(hidden.size()) / graph_.hidden_size;
    BlockWorkspace workspace(graph_.blocks[0], {.length = kPositions}, precision_);
    runner().run(hidden.data(), rows, workspace, {});
    return {hidden.end() - static_cast<ptrdiff_t>(rest.size()), hidden.end()};
  }

  BlockRunner runner() const { return {graph_.blocks[0], weights_, positions_, precision_}; }

  void expect_same(const std::vector<float>& found, const std::vector<float>& expected) const {
    if (precision_ == Precision::kBf16) {
      EXPECT_EQ(found, expected);
    } else {
      EXPECT_LT(testing::relative_error(found, expected), 1e-6);  // OpenBLAS sums by rows
    }
  }

  static constexpr int64_t kPositions = 700;
  std::mt19937 random_{kModelSeed};
  const testing::MemorySource source_ = random_model(config(), kModelSeed);
  const ModelGraph graph_ = graph_of(config());
  const Precision precision_ = std::get<0>(GetParam());
  const BlockWeights weights_ = load_block(graph_.blocks[0], source_, precision_);
  mutable PositionTables positions_{kPositions};
};
INSTANTIATE_TEST_SUITE_P(Kinds, Branching,
                         ::testing::Combine(::testing::Values(Precision::kBf16, Precision::kF32),
                                            ::testing::Values(0, 50)));

TEST_P(Branching, EachBranchSeesTheStemAndItself) {
  for (const int64_t stem_rows : {1, 130, 300}) {
    const std::vector<float> stem = random_rows(stem_rows);
    BlockWorkspace first(graph_.blocks[0], {.length = kPositions}, precision_);
    std::vector<float> hidden = stem;
    runner().run(hidden.data(), stem_rows, first, {});

    // Packed into blocks of 256 rows, in which they begin and end anywhere.
    const std::vector<int64_t> lengths = {3, 250, 1, 80, 80, 300, 17};
    std::vector<std::vector<float>> branches;
    std::vector<Segment> segments;
    std::vector<float> packed;
    for (const int64_t length : lengths) {
      branches.push_back(random_rows(length));
      segments.push_back({length, stem_rows});
      packed.insert(packed.end(), branches.back().begin(), branches.back().end());
    }
    // Another workspace goes on from a copy, over what it held before.
    BlockWorkspace second(graph_.blocks[0], {.length = kPositions, .rows = 2000}, precision_);
    std::vector<float> other = random_rows(600);
    runner().run(other.data(), 600, second, {});
    second.state().copy_from(first.state());
    runner().run({.hidden = packed.data(), .segments = segments}, second, {});

    size_t begin = 0;
    for (const std::vector<float>& branch : branches) {
      SCOPED_TRACE(std::to_string(branch.size()) + " after " + std::to_string(stem_rows) +
                   ", seed " + std::to_string(kModelSeed));
      expect_same({packed.begin() + static_cast<ptrdiff_t>(begin),
                   packed.begin() + static_cast<ptrdiff_t>(begin + branch.size())},
                  whole(stem, branch));
      begin += branch.size();
    }
  }
}

// A question with its choices: the branch branches again.
TEST_P(Branching, BranchesBranch) {
  const std::vector<float> stem = random_rows(40);
  const std::vector<float> question = random_rows(33);
  const std::vector<float> a = random_rows(5);
  const std::vector<float> b = random_rows(9);
  std::vector<float> packed;
  for (const auto* part : {&stem, &question, &a, &b, &question, &b}) {
    packed.insert(packed.end(), part->begin(), part->end());
  }
  BlockWorkspace workspace(graph_.blocks[0], {.length = kPositions}, precision_);
  const std::vector<Segment> segments = {{40, 0}, {33, 40}, {5, 73}, {9, 73}, {33, 40}, {9, 73}};
  runner().run({.hidden = packed.data(), .segments = segments}, workspace, {});
  const auto rows = [&](int64_t begin, int64_t count) {
    const auto width = static_cast<ptrdiff_t>(graph_.hidden_size);
    return std::vector<float>(packed.begin() + begin * width,
                              packed.begin() + (begin + count) * width);
  };
  std::vector<float> context = stem;
  context.insert(context.end(), question.begin(), question.end());
  expect_same(rows(73, 5), whole(context, a));
  expect_same(rows(78, 9), whole(context, b));
  expect_same(rows(120, 9), rows(78, 9));
}

}  // namespace
}  // namespace pare
