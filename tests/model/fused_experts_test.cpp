// Files that hold all experts of a layer in one tensor give what files with one tensor an expert
// give.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "model/model_files.h"
#include "tests/model/every_model.h"

namespace pare {
namespace {

using testing::kModelSeed;
using testing::MemorySource;
using testing::MemoryTensor;

// [experts, rows of all parts, …] from the tensors of single experts, which are taken out.
void fuse(const BlockGraph& block, const std::string& stored, MemorySource& source) {
  MemoryTensor fused;
  for (int64_t expert = 0; expert < block.experts->count; ++expert) {
    for (int64_t part = 0;; ++part) {
      const auto& all = block.experts->fused;
      const auto found = std::find_if(all.begin(), all.end(), [&](const FusedExperts& one) {
        return one.stored == stored && one.part == part;
      });
      if (found == all.end()) break;
      const std::string name = expert_block(block, expert).prefix + found->parameter;
      Shape shape = source.shape(name);
      shape[0] *= found->parts;
      shape.insert(shape.begin(), block.experts->count);
      fused.shape = shape;
      const std::vector<float>& values = source.values(name);
      fused.values.insert(fused.values.end(), values.begin(), values.end());
      source.erase(name);
    }
  }
  source.set(block.prefix + stored, std::move(fused));
}

class Fused : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Models, Fused,
                         ::testing::Values("Mixtral", "QwenThreeMoe", "QwenThreeMoeMixed",
                                           "DeepSeek", "GptOss", "Jamba"),
                         [](const auto& chosen) { return chosen.param; });

TEST_P(Fused, IsTheSame) {
  const auto config = nlohmann::json::parse(testing::model_config(GetParam()).json);
  const MemorySource single = testing::random_model(config, kModelSeed);
  const ModelGraph graph = testing::graph_of(config);
  auto fused = std::make_shared<MemorySource>(single);
  int layers = 0;
  for (const BlockGraph& block : graph.blocks) {
    if (!block.experts) continue;
    for (const FusedExperts& one : block.experts->fused) {
      if (!fused->contains(block.prefix + one.stored)) fuse(block, one.stored, *fused);
    }
    ++layers;
  }
  ASSERT_GT(layers, 0);
  ASSERT_LT(fused->names().size(), single.names().size());
  const ModelFiles files = bind_model(fused);
  EXPECT_TRUE(files.unused.empty());
  const auto sequences = testing::random_sequences(graph, {20, 6}, kModelSeed);
  EXPECT_EQ(testing::run_sequences(files.graph, *files.source, sequences, Precision::kBf16),
            testing::run_sequences(graph, single, sequences, Precision::kBf16))
      << "seed " << kModelSeed;
}

// T5 1.1 has a head of its own; where a file has one it counts.
TEST(OwnHead, IsUsedWhereTheFileHasIt) {
  for (const char* name : {"TFive", "MTFive", "Fsmt"}) {
    auto config = nlohmann::json::parse(testing::model_config(name).json);
    config["tie_word_embeddings"] = true;
    auto source = std::make_shared<MemorySource>(testing::random_model(config, kModelSeed));
    const ModelFiles tied = bind_model(source);
    const std::string own = tied.graph.head.own_matrix;
    EXPECT_NE(tied.graph.head.matrix, own);
    auto with_head = std::make_shared<MemorySource>(*source);
    with_head->set(own,
                   {source->shape(tied.graph.head.matrix), source->values(tied.graph.head.matrix)});
    for (float& value : with_head->values(own)) value = -value;
    const ModelFiles untied = bind_model(with_head);
    EXPECT_EQ(untied.graph.head.matrix, own);
    EXPECT_TRUE(untied.unused.empty());
    const auto sequences = testing::random_sequences(tied.graph, {9}, kModelSeed);
    const auto logits =
        testing::run_sequences(tied.graph, *tied.source, sequences, Precision::kF32)[0];
    auto other =
        testing::run_sequences(untied.graph, *untied.source, sequences, Precision::kF32)[0];
    if (tied.graph.head.bias.empty()) {
      for (float& value : other) value = -value;
      EXPECT_LT(testing::relative_error(other, logits), 1e-6) << name;
    } else {
      EXPECT_GT(testing::relative_error(other, logits), 0.1) << name;
    }
  }
}

}  // namespace
}  // namespace pare
