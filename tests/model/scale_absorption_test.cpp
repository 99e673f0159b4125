// input_groups() promises that a producer can take what a group's input is divided by.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "model/block_parameters.h"
#include "model/input_groups.h"
#include "tests/model/every_model.h"

namespace pare {
namespace {

using testing::kModelSeed;
using testing::MemorySource;
using testing::relative_error;

// Factors between 1/4 and 4.
std::vector<float> random_factors(size_t count, std::mt19937& random) {
  std::uniform_real_distribution<float> exponent(-2, 2);
  std::vector<float> factors(count);
  for (float& factor : factors) factor = std::exp2(exponent(random));
  return factors;
}

// The weight of a linear, [out, in] whichever way it is stored.
class WeightAccess {
 public:
  WeightAccess(MemorySource& source, const BlockGraph& block, const Op& op)
      : values_(source.values(block.full_name(op) + ".weight")),
        out_(static_cast<size_t>(block.out_features(op))),
        in_(static_cast<size_t>(block.in_features(op))),
        transposed_(op.linear.transposed) {}

  void scale_row(size_t row, float factor) {
    for (size_t column = 0; column < in_; ++column) at(row, column) *= factor;
  }
  void divide_columns(const std::vector<float>& factors) {
    for (size_t row = 0; row < out_; ++row) {
      for (size_t column = 0; column < in_; ++column) at(row, column) /= factors[column];
    }
  }

 private:
  float& at(size_t row, size_t column) {
    return values_[transposed_ ? column * out_ + row : row * in_ + column];
  }

  std::vector<float>& values_;
  size_t out_;
  size_t in_;
  bool transposed_;
};

void scale_norm(MemorySource& source, const BlockGraph& block, const Op& op,
                const std::vector<float>& factors) {
  const std::string name = block.full_name(op);
  std::vector<float>& weight = source.values(name + ".weight");
  for (size_t i = 0; i < weight.size(); ++i) {
    weight[i] = (weight[i] + op.norm.weight_offset) * factors[i] - op.norm.weight_offset;
  }
  if (!op.norm.bias) return;
  std::vector<float>& bias = source.values(name + ".bias");
  for (size_t i = 0; i < bias.size(); ++i) bias[i] *= factors[i];
}

// Row r of the producer times factors[r].
void scale_linear(MemorySource& source, const BlockGraph& block, const Op& op,
                  const std::vector<float>& factors) {
  WeightAccess weight(source, block, op);
  for (size_t row = 0; row < factors.size(); ++row) {
    weight.scale_row(row, factors[row]);
    if (op.linear.bias) source.values(block.full_name(op) + ".bias")[row] *= factors[row];
  }
}

class ScaleAbsorption : public testing::EveryModel {
 protected:
  std::vector<float> logits(const MemorySource& source) const {
    std::vector<float> all;
    for (const auto& one : testing::run_sequences(graph_, source, sequences_, Precision::kF32)) {
      all.insert(all.end(), one.begin(), one.end());
    }
    return all;
  }

  void check(const BlockGraph& block, const InputGroup& group) {
    if (group.producer == Producer::kNone) return;
    SCOPED_TRACE(block.prefix + ": " + group.describe(block) + " behind " +
                 block.ops[group.producer_op].name + ", seed " + std::to_string(kModelSeed));
    const Op& producer = block.ops[group.producer_op];
    const bool norm = group.producer == Producer::kNorm;
    MemorySource changed = source_;
    // Factors of the norm's channels, or of the producer's rows, some of which stay as they are.
    std::vector<float> factors(
        static_cast<size_t>(norm ? group.in_features : block.out_features(producer)), 1.0F);
    const std::vector<float> random = random_factors(factors.size(), random_);
    std::vector<float> channels;
    for (size_t i = 0; i < static_cast<size_t>(group.in_features); ++i) {
      const size_t row = norm ? i : static_cast<size_t>(group.producer_row.at(i));
      factors.at(row) = random[row];
      channels.push_back(random[row]);
    }
    if (norm) {
      scale_norm(changed, block, producer, factors);
    } else {
      scale_linear(changed, block, producer, factors);
    }
    EXPECT_GT(relative_error(logits(changed), expected_), 1e-4) << "without effect";
    for (const size_t index : group.linears) {
      WeightAccess(changed, block, block.ops[index]).divide_columns(channels);
    }
    EXPECT_LT(relative_error(logits(changed), expected_), 1e-5);
    ++absorbed_;
  }

  const std::vector<testing::Sequence> sequences_ =
      testing::random_sequences(graph_, {23, 9}, kModelSeed);
  const std::vector<float> expected_ = logits(source_);
  std::mt19937 random_{kModelSeed};
  int absorbed_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Models, ScaleAbsorption, ::testing::ValuesIn(testing::model_configs()),
                         testing::name_of);

TEST_P(ScaleAbsorption, LeavesTheLogits) {
  for_each_block(graph_, [&](const BlockGraph& block) {
    for (const InputGroup& group : input_groups(block)) check(block, group);
  });
  // In every architecture something can be absorbed.
  EXPECT_GT(absorbed_, 0);
}

}  // namespace
}  // namespace pare
