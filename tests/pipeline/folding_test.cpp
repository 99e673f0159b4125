// Rescaling inputs before rounding must not change what a block computes: the norms, the rows of
// earlier linears or a stored input scale take back what the columns of the weights got.
#include <algorithm>
#include <cmath>
#include <set>

#include "kernels/codec.h"
#include "pipeline/compress_block.h"
#include "pipeline/input_sharing.h"
#include "tests/pipeline/block_fixture.h"
#include "tests/pipeline/pipeline_fixture.h"

namespace pare::testing {
namespace {

class Folding : public PipelineTest {
 protected:
  Folding() {
    ModelShape shape;
    shape.biased = true;
    shape.outlier = 20;
    write(shape);
  }

  QuantizeOptions smooth() const {
    QuantizeOptions options = job("out.h5", "int8_sq");
    options.smooth_strength = 0.5;
    return options;
  }
};

const SharingSet& set_of(const WorkingBlock& working, const std::string& linear) {
  for (const SharingSet& set : working.sets) {
    for (const size_t index : set.linears) {
      if (working.linears.at(index).name.ends_with(linear)) return set;
    }
  }
  throw std::runtime_error("no " + linear);
}

// The working block as something to run. A scale that nobody absorbed is applied to the columns
// here, as pre_quant_scale does to the input.
BlockWeights runnable(const BlockGraph& block, const WorkingBlock& working) {
  BlockWeights weights;
  weights.linears.resize(block.ops.size());
  weights.adapters.resize(block.ops.size());
  weights.weight.resize(block.ops.size());
  weights.bias.resize(block.ops.size());
  weights.skip.resize(block.ops.size());
  weights.table.resize(block.ops.size());
  for (const auto& [index, norm] : working.norms) {
    weights.weight[index] = norm.weight;
    for (float& value : weights.weight[index]) value += norm.weight_offset;
    weights.bias[index] = norm.bias;
  }
  for (const SharingSet& set : working.sets) {
    for (const size_t index : set.linears) {
      const WorkingLinear& linear = working.linears.at(index);
      std::vector<float> weight = linear.weight;
      if (!set.absorbed && !set.scale.empty()) {
        for (size_t i = 0; i < weight.size(); ++i) weight[i] /= set.scale[i % set.scale.size()];
      }
      weights.linears[index] = Linear::dense({DType::kF32,
                                              {linear.out_features, linear.in_features},
                                              std::as_bytes(std::span<const float>(weight))},
                                             linear.name, linear.bias, Precision::kF32);
    }
  }
  return weights;
}

double relative_error(const std::vector<float>& expected, const std::vector<float>& found) {
  double error = 0;
  double energy = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double value = static_cast<double>(expected[i]);
    error += std::pow(value - static_cast<double>(found[i]), 2);
    energy += value * value;
  }
  return std::sqrt(error / energy);
}

// Of what the block adds to its input: the input itself passes through unchanged.
double function_error(const CalibratedBlock& calibrated, const WorkingBlock& working) {
  const auto added = [&](const BlockWeights& weights) {
    std::vector<float> output = calibrated.run(weights);
    for (size_t i = 0; i < output.size(); ++i) output[i] -= calibrated.hidden[i];
    return output;
  };
  return relative_error(added(load_block(calibrated.block(), *calibrated.source, Precision::kF32)),
                        added(runnable(calibrated.block(), working)));
}

WorkingBlock prepare(CalibratedBlock& calibrated) {
  return prepare_block(calibrated.block(), *calibrated.source, calibrated.plan,
                       calibrated.statistics, calibrated.pool, ProgressMeter({}, 0));
}

bool rescaled(const SharingSet& set) {
  return std::any_of(set.scale.begin(), set.scale.end(),
                     [](float scale) { return std::abs(scale - 1.0F) > 0.1F; });
}

TEST_F(Folding, SmoothQuantKeepsTheFunctionAndRescalesEveryInput) {
  CalibratedBlock calibrated(smooth());
  const WorkingBlock working = prepare(calibrated);
  EXPECT_EQ(working.sets.size(), 4U);
  for (const SharingSet& set : working.sets) {
    EXPECT_TRUE(set.absorbed) << set.value;
    EXPECT_TRUE(rescaled(set)) << set.value;
  }
  EXPECT_LT(function_error(calibrated, working), 1e-5);
}

TEST_F(Folding, AwqKeepsTheFunction) {
  for (const bool symmetric : {true, false}) {
    QuantizeOptions options = job("out.h5", "int4_awq");
    options.symmetric = symmetric;
    CalibratedBlock calibrated(options);
    const WorkingBlock working = prepare(calibrated);
    EXPECT_TRUE(std::any_of(working.sets.begin(), working.sets.end(), rescaled));
    for (const SharingSet& set : working.sets) EXPECT_TRUE(set.absorbed) << set.value;
    EXPECT_LT(function_error(calibrated, working), 1e-5);
  }
}

TEST_F(Folding, ChannelsOfOneValueRowShareTheirScale) {
  CalibratedBlock calibrated(smooth());
  const WorkingBlock working = prepare(calibrated);
  const SharingSet& context = set_of(working, "o_proj");
  const auto dim = static_cast<size_t>(shape_.head_dim);
  ASSERT_EQ(context.scale.size(), 4 * dim);
  std::set<float> different;
  for (size_t i = 0; i < dim; ++i) {
    EXPECT_EQ(context.scale[i], context.scale[dim + i]) << i;           // heads 0 and 1 read
    EXPECT_EQ(context.scale[2 * dim + i], context.scale[3 * dim + i]);  // one head of values
    different.insert({context.scale[i], context.scale[2 * dim + i]});
  }
  EXPECT_GT(different.size(), dim);
}

TEST_F(Folding, NormsHoldWhatTheirTypeHolds) {
  CalibratedBlock calibrated(smooth());
  const WorkingBlock working = prepare(calibrated);
  for (const auto& [index, norm] : working.norms) {
    EXPECT_EQ(norm.dtype, DType::kBf16);
    const auto original =
        load_vector(*calibrated.source,
                    calibrated.block().full_name(calibrated.block().ops[index]) + ".weight");
    EXPECT_NE(norm.weight, original);
    for (const float value : norm.weight) EXPECT_EQ(value, round_to_bf16(value));
  }
}

TEST_F(Folding, AMixedGroupStoresItsScaleWithTheWeight) {
  QuantizeOptions options = smooth();
  options.overrides = {{"q_proj$", "int8_wo"}};
  CalibratedBlock calibrated(options);
  const WorkingBlock working = prepare(calibrated);
  EXPECT_EQ(working.sets.size(), 5U);
  const SharingSet& plain = set_of(working, "q_proj");
  const SharingSet& scaled = set_of(working, "k_proj");
  EXPECT_TRUE(plain.scale.empty());
  EXPECT_FALSE(scaled.absorbed);
  EXPECT_TRUE(rescaled(scaled));
  EXPECT_LT(function_error(calibrated, working), 1e-5);
}

TEST_F(Folding, AStoredScaleUndoesWhatTheColumnsGot) {
  QuantizeOptions options = smooth();
  options.dynamic_activations = true;  // Weights are then rounded, not adapted to a noisy input,
  options.algo = "smoothquant";        // and each by itself.
  options.overrides = {{"q_proj$", "int8_sq"}, {"v_proj$", "int8_wo"}};
  CalibratedBlock calibrated(options);
  const CompressedBlock block =
      compress_block(calibrated.block(), *calibrated.source, calibrated.plan, calibrated.statistics,
                     calibrated.pool, ProgressMeter({}, 0));
  int stored = 0;
  for (const auto& [name, weight] : block.compressed) {
    const bool expected = name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight");
    EXPECT_EQ(!weight.pre_quant_scale.empty(), expected) << name;
    if (weight.pre_quant_scale.empty()) continue;
    ++stored;
    const std::vector<float> original = to_f32(calibrated.source->dense(name), name);
    std::vector<float> found(original.size());
    dequantize_rows(weight, 0, weight.out_features, found);
    for (size_t i = 0; i < found.size(); ++i) {
      const size_t row = i / static_cast<size_t>(weight.in_features);
      const float factor = weight.pre_quant_scale[i % static_cast<size_t>(weight.in_features)];
      // Half a step of the scaled weight, and the last bit of what was multiplied.
      ASSERT_NEAR(found[i] * factor, original[i],
                  0.501F * weight.scale[row] * factor + 1e-6F * std::abs(original[i]))
          << name << " " << i;
    }
  }
  EXPECT_EQ(stored, 2);
}

TEST_F(Folding, ALinearThatStaysIsNotTouchedByItsNeighbour) {
  QuantizeOptions options = smooth();
  options.exclude = {"v_proj$", "up_proj$"};
  CalibratedBlock calibrated(options);
  const WorkingBlock working = prepare(calibrated);
  EXPECT_FALSE(set_of(working, "o_proj").absorbed);
  EXPECT_FALSE(set_of(working, "down_proj").absorbed);
  EXPECT_FALSE(set_of(working, "q_proj").absorbed);
  for (const auto& [index, linear] : working.linears) {
    if (linear.plan.changes()) continue;
    EXPECT_EQ(linear.weight, to_f32(calibrated.source->dense(linear.name + ".weight"), "weight"));
  }
  EXPECT_LT(function_error(calibrated, working), 1e-5);
}

}  // namespace
}  // namespace pare::testing
