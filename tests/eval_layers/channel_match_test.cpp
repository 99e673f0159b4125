// A candidate whose channels are in another order is compared linear by linear all the same.
#include "eval/channel_match.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "kernels/codec.h"
#include "model/channel_order.h"
#include "tests/eval_layers/layer_fixture.h"
#include "tests/model/every_model.h"

namespace pare::testing {
namespace {

constexpr const char* kRecipe =
    R"({"schema": "pare.recipe/1", "sparsity": "ria", "permute_channels": "on"})";

// Rows, then columns, of a tensor [rows, columns] as it is stored.
void reorder(std::vector<float>& values, const std::vector<int32_t>& rows,
             const std::vector<int32_t>& columns, bool transposed) {
  const std::vector<int32_t>& outer = transposed ? columns : rows;
  const std::vector<int32_t>& inner = transposed ? rows : columns;
  const std::vector<float> old = values;
  const size_t width = inner.empty() ? old.size() / outer.size() : inner.size();
  for (size_t i = 0; i < old.size(); ++i) {
    const size_t row = outer.empty() ? i / width : static_cast<size_t>(outer[i / width]);
    const size_t column = inner.empty() ? i % width : static_cast<size_t>(inner[i % width]);
    values[i] = old[row * width + column];
  }
}

// All inputs of the blocks that can be, in a random order within their pools.
MemorySource in_random_order(const MemorySource& source, const ModelGraph& graph) {
  std::mt19937 random(kModelSeed);
  MemorySource changed = source;
  for (const BlockGraph& block : graph.blocks) {
    for (const ReorderableInput& input : reorderable_inputs(block)) {
      std::vector<int32_t> units(static_cast<size_t>(input.pools() * input.pool_size));
      std::iota(units.begin(), units.end(), 0);
      for (auto first = units.begin(); first != units.end(); first += input.pool_size) {
        std::shuffle(first, first + input.pool_size, random);
      }
      const std::vector<int32_t> order = channel_order(input, units);
      for (const ChannelSource& made : input.sources) {
        const Op& op = block.ops[made.op];
        const std::vector<int32_t> rows = row_order(made, block.width(op.output), order);
        const std::string name = block.full_name(op);
        const bool linear = op.kind == OpKind::kLinear;
        if (linear || op.norm.weight) {
          reorder(changed.values(name + ".weight"), rows, {}, op.linear.transposed);
        }
        if (linear ? op.linear.bias : op.norm.bias) {
          reorder(changed.values(name + ".bias"), rows, {}, false);
        }
      }
      for (const size_t index : input.linears) {
        const Op& op = block.ops[index];
        reorder(changed.values(block.full_name(op) + ".weight"), {}, order, op.linear.transposed);
      }
    }
  }
  return changed;
}

class ChannelMatch : public EveryModel {};
INSTANTIATE_TEST_SUITE_P(Models, ChannelMatch, ::testing::ValuesIn(model_configs()), name_of);

TEST_P(ChannelMatch, FindsTheOrderOfEveryTensor) {
  ThreadPool pool(2);
  const MemorySource changed = in_random_order(source_, graph_);
  MixedSource moved(changed);
  moved.set_recipe(kRecipe);
  const EvaluatedModel baseline = model_of("baseline", source_);
  const EvaluatedModel same = in_order_of(model_of("candidate", moved), baseline, pool);
  for (const std::string& name : source_.names()) {
    const std::vector<float> found = to_f32(same.source->dense(name), name);
    ASSERT_EQ(found, changed.values(name)) << name << ", seed " << kModelSeed;
  }
}

// Rounded and pruned, rows are still found; and without the order the errors would be those of
// another model.
TEST(ChannelMatchOf, ACompressedCandidate) {
  const nlohmann::json config = small_llama_config();
  const ModelGraph graph = graph_of(config);
  const MemorySource source = random_model(config, kModelSeed);
  const MemorySource changed = in_random_order(source, graph);
  MixedSource moved(changed);
  MixedSource straight(source);
  for (const std::string& name : linear_weights(graph)) {
    moved.compress(name, int8_weight(tensor_of(changed, name), 7));
    straight.compress(name, int8_weight(tensor_of(source, name), 7));
  }
  const EvaluatedModel baseline = model_of("baseline", source);
  const TokenWindows windows = random_windows(graph);
  const auto expected = errors_of(baseline, model_of("straight", straight), windows);
  const auto lost = errors_of(baseline, model_of("moved", moved), windows);
  moved.set_recipe(kRecipe);
  const auto found = errors_of(baseline, model_of("moved", moved), windows);
  ASSERT_EQ(found.size(), expected.size());
  double least = 100;
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_NEAR(found[i].sqnr_db.value(), expected[i].sqnr_db.value(), 0.3) << found[i].name;
    least = std::min(least, lost[i].sqnr_db.value());
  }
  EXPECT_LT(least, 3) << "an order without effect";
}

TEST(ChannelMatchOf, ModelsThatSayNothingOfAnOrder) {
  const nlohmann::json config = small_llama_config();
  const MemorySource source = random_model(config, kModelSeed);
  const EvaluatedModel baseline = model_of("baseline", source);
  MixedSource moved(in_random_order(source, graph_of(config)));
  ThreadPool pool(1);
  for (const char* recipe :
       {"", "{}", R"({"sparsity": "ria"})", R"({"sparsity": "ria", "permute_channels": "off"})",
        R"({"sparsity": "none", "permute_channels": "auto"})", R"({"permute_channels": 3})"}) {
    moved.set_recipe(recipe);
    EXPECT_EQ(in_order_of(model_of("candidate", moved), baseline, pool).source, baseline.source)
        << recipe;
  }
}

// Rows of zeros are like none: they get the places that are left.
TEST(ChannelMatchOf, DeadRows) {
  const nlohmann::json config = small_llama_config();
  MemorySource source = random_model(config, kModelSeed);
  for (const char* name : {"gate_proj", "up_proj"}) {
    std::vector<float>& values =
        source.values(std::string("model.layers.0.mlp.") + name + ".weight");
    std::fill(values.begin() + 5 * 48, values.begin() + 9 * 48, 0.0F);
  }
  MixedSource moved(in_random_order(source, graph_of(config)));
  moved.set_recipe(kRecipe);
  ThreadPool pool(2);
  const EvaluatedModel same =
      in_order_of(model_of("candidate", moved), model_of("baseline", source), pool);
  const std::string name = "model.layers.0.mlp.up_proj.weight";
  EXPECT_EQ(to_f32(same.source->dense(name), name), moved.values(name));
}

}  // namespace
}  // namespace pare::testing
