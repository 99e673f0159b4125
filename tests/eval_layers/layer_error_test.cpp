// What a linear alone costs: against the same thing computed the plain way, and what must hold.
#include "eval/layer_error.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/codec.h"
#include "tests/eval_layers/layer_fixture.h"

namespace pare {
namespace {

using testing::errors_of;
using testing::fold;
using testing::int8_weight;
using testing::kLayerCtx;
using testing::kLayerWindows;
using testing::kModelSeed;
using testing::linear_weights;
using testing::MemorySource;
using testing::MixedSource;
using testing::model_of;
using testing::producer_channels;
using testing::random_factors;
using testing::random_model;
using testing::random_windows;
using testing::run_model;
using testing::small_llama_config;
using testing::tensor_of;

// Mean divergence of each window, every term in double.
std::vector<double> plain_divergence(const std::vector<float>& base,
                                     const std::vector<float>& logits, int64_t vocabulary) {
  const auto log_sum = [&](const float* row) {
    double sum = 0;
    for (int64_t i = 0; i < vocabulary; ++i) sum += std::exp(static_cast<double>(row[i]));
    return std::log(sum);
  };
  std::vector<double> means;
  for (int64_t window = 0; window < kLayerWindows; ++window) {
    double total = 0;
    for (int64_t position = 0; position + 1 < kLayerCtx; ++position) {
      const int64_t at = (window * kLayerCtx + position) * vocabulary;
      const double p_sum = log_sum(base.data() + at);
      const double q_sum = log_sum(logits.data() + at);
      for (int64_t i = at; i < at + vocabulary; ++i) {
        const double log_p = static_cast<double>(base[static_cast<size_t>(i)]) - p_sum;
        const double log_q = static_cast<double>(logits[static_cast<size_t>(i)]) - q_sum;
        total += std::exp(log_p) * (log_p - log_q);
      }
    }
    means.push_back(total / static_cast<double>(kLayerCtx - 1));
  }
  return means;
}

MixedSource rounded(const MemorySource& source, const ModelGraph& graph, float limit) {
  MixedSource candidate(source);
  for (const std::string& name : linear_weights(graph)) {
    candidate.compress(name, int8_weight(tensor_of(source, name), limit));
  }
  return candidate;
}

// The baseline with one weight replaced by the rounded one, as a model of its own.
TEST(LayerError, EqualsTheModelWithOneLinearReplaced) {
  const auto config = small_llama_config();
  const MemorySource source = random_model(config, kModelSeed);
  const EvaluatedModel baseline = model_of("base", source);
  const EvaluatedModel candidate = model_of("int", rounded(source, baseline.graph, 15));
  const TokenWindows windows = random_windows(baseline.graph);
  const std::vector<LayerError> errors = errors_of(baseline, candidate, windows);
  const std::vector<std::string> names = linear_weights(baseline.graph);
  ASSERT_EQ(errors.size(), names.size());
  const auto expected = run_model(source, windows.ids, kLayerCtx, Precision::kF32);
  for (size_t i = 0; i < names.size(); ++i) {
    MemorySource replaced = source;
    const CompressedWeight weight = candidate.source->compressed(names[i]);
    dequantize_rows(weight, 0, weight.out_features, replaced.values(names[i]));
    const std::vector<double> kl = plain_divergence(
        expected, run_model(replaced, windows.ids, kLayerCtx, Precision::kF32), 100);
    double mean = 0;
    for (const double value : kl) mean += value / static_cast<double>(kLayerWindows);
    double square = 0;
    for (const double value : kl) square += (value - mean) * (value - mean);
    const double error = std::sqrt(square / (kLayerWindows - 1) / kLayerWindows);
    EXPECT_EQ(errors[i].name + ".weight", names[i]);
    EXPECT_EQ(errors[i].out_features, weight.out_features);
    EXPECT_EQ(errors[i].in_features, weight.in_features);
    EXPECT_EQ(errors[i].qformat, "int8_wo");
    EXPECT_GT(mean, 1e-6) << names[i];
    EXPECT_NEAR(errors[i].kl_mean.value / mean, 1, 1e-3) << names[i];
    EXPECT_NEAR(errors[i].kl_mean.standard_error / error, 1, 3e-3) << names[i];
    ASSERT_TRUE(errors[i].kl_mean.interval);
    // Student's t with 4 degrees of freedom.
    EXPECT_NEAR(errors[i].kl_mean.interval->upper, mean + 2.776445 * error, 3e-3 * mean);
  }
}

// The output of the first linears, from the embedding by hand.
TEST(LayerError, SignalToNoiseByHand) {
  const auto config = small_llama_config();
  const MemorySource source = random_model(config, kModelSeed);
  const EvaluatedModel baseline = model_of("base", source);
  const EvaluatedModel candidate = model_of("int", rounded(source, baseline.graph, 15));
  const TokenWindows windows = random_windows(baseline.graph);
  const std::vector<LayerError> errors = errors_of(baseline, candidate, windows);
  const BlockGraph& block = baseline.graph.blocks[0];
  const auto embedding = tensor_of(source, baseline.graph.embedding.tokens);
  const auto norm = tensor_of(source, block.full_name(block.ops[0]) + ".weight");
  for (size_t linear = 0; linear < 3; ++linear) {
    const std::string name = linear_weights(baseline.graph)[linear];
    const auto weight = tensor_of(source, name);
    std::vector<float> stored(weight.values.size());
    dequantize_rows(candidate.source->compressed(name), 0, weight.shape[0], stored);
    double signal = 0;
    double noise = 0;
    for (const int32_t id : windows.ids) {
      const float* x = embedding.values.data() + id * 48;
      double square = 0;
      for (size_t i = 0; i < 48; ++i)
        square += static_cast<double>(x[i]) * static_cast<double>(x[i]);
      const double inverse = 1 / std::sqrt(square / 48 + 1e-5);
      for (size_t o = 0; o < static_cast<size_t>(weight.shape[0]); ++o) {
        double y = 0;
        double off = 0;
        for (size_t i = 0; i < 48; ++i) {
          const double in =
              static_cast<double>(x[i]) * inverse * static_cast<double>(norm.values[i]);
          const double w = static_cast<double>(weight.values[o * 48 + i]);
          y += in * w;
          off += in * (static_cast<double>(stored[o * 48 + i]) - w);
        }
        signal += y * y;
        noise += off * off;
      }
    }
    ASSERT_TRUE(errors[linear].sqnr_db);
    EXPECT_NEAR(*errors[linear].sqnr_db, 10 * std::log10(signal / noise), 1e-3) << name;
  }
}

TEST(LayerError, AnUncompressedCandidateIsExactlyEqual) {
  const auto config = small_llama_config();
  const MemorySource source = random_model(config, kModelSeed);
  const EvaluatedModel baseline = model_of("base", source);
  const std::vector<LayerError> errors =
      errors_of(baseline, model_of("copy", source), random_windows(baseline.graph));
  ASSERT_EQ(errors.size(), 14U);
  for (const LayerError& error : errors) {
    EXPECT_EQ(error.qformat, "fp32");
    EXPECT_EQ(error.sqnr_db, std::nullopt);
    EXPECT_EQ(error.kl_mean.value, 0);
    EXPECT_EQ(error.kl_mean.standard_error, 0);
    ASSERT_TRUE(error.kl_mean.interval);
    EXPECT_EQ(error.kl_mean.interval->lower, 0);
    EXPECT_EQ(error.kl_mean.interval->upper, 0);
  }
}

// Codes that hold the weights exactly: equal, though every linear is stored otherwise and so is
// really run. Only then is a difference elsewhere a difference of the linear.
TEST(LayerError, ExactCodesAreExactlyEqual) {
  const auto config = small_llama_config();
  MemorySource source = random_model(config, kModelSeed);
  const ModelGraph graph = testing::graph_of(config);
  MixedSource candidate(source);
  for (const std::string& name : linear_weights(graph)) {
    CompressedWeight weight = int8_weight(tensor_of(source, name));
    for (float& scale : weight.scale) scale = 0x1p-7F;
    dequantize_rows(weight, 0, weight.out_features, source.values(name));
    candidate.compress(name, weight);
  }
  const EvaluatedModel baseline = model_of("base", source);
  for (const Precision precision : {Precision::kBf16, Precision::kF32}) {
    const std::vector<LayerError> errors = errors_of(baseline, model_of("codes", candidate),
                                                     random_windows(baseline.graph), precision);
    ASSERT_EQ(errors.size(), 14U);
    for (const LayerError& error : errors) {
      EXPECT_EQ(error.qformat, "int8_wo");
      EXPECT_EQ(error.sqnr_db, std::nullopt) << error.name;
      EXPECT_EQ(error.kl_mean.value, 0) << error.name;
    }
  }
}

void expect_folding_is_free(const nlohmann::json& config) {
  const MemorySource source = random_model(config, kModelSeed);
  const EvaluatedModel baseline = model_of("base", source);
  MemorySource folded = source;
  std::mt19937 random(kModelSeed);
  for (const BlockGraph& block : baseline.graph.blocks) {
    for (const InputGroup& group : input_groups(block)) {
      fold(folded, block, group, random_factors(producer_channels(block, group), random));
    }
  }
  const TokenWindows windows = random_windows(baseline.graph);
  const EvaluatedModel candidate = model_of("folded", folded);
  for (const LayerError& error : errors_of(baseline, candidate, windows)) {
    EXPECT_LT(error.kl_mean.value, 1e-9) << error.name << ", seed " << kModelSeed;
    EXPECT_GT(error.sqnr_db.value_or(300), 110) << error.name << ", seed " << kModelSeed;
  }
  // Rounded to BF16 on the way, of 1/256 at most.
  for (const LayerError& error : errors_of(baseline, candidate, windows, Precision::kBf16)) {
    EXPECT_LT(error.kl_mean.value, 1e-3) << error.name << ", seed " << kModelSeed;
    EXPECT_GT(error.sqnr_db.value_or(300), 45) << error.name << ", seed " << kModelSeed;
  }
  // Without the scales of their inputs the same weights are far off.
  MemorySource unfolded = folded;
  for (const BlockGraph& block : baseline.graph.blocks) {
    for (const InputGroup& group : input_groups(block)) {
      if (group.producer != Producer::kNorm) continue;
      const std::string norm = block.full_name(block.ops[group.producer_op]) + ".weight";
      unfolded.values(norm) = tensor_of(source, norm).values;
    }
  }
  const auto broken = errors_of(baseline, model_of("unfolded", unfolded), windows);
  EXPECT_GT(broken[0].kl_mean.value, 1e-3);
  EXPECT_LT(broken[0].sqnr_db.value(), 10);
}

TEST(LayerError, FoldingIsFree) { expect_folding_is_free(small_llama_config()); }

TEST(LayerError, FoldingIsFreeWithBiasesAndAnOddHeadSize) {
  nlohmann::json config = small_llama_config();
  config["attention_bias"] = true;
  config["mlp_bias"] = true;
  config["head_dim"] = 10;
  expect_folding_is_free(config);
}

TEST(LayerError, FoldingIsFreeInQwen2) {
  nlohmann::json config = small_llama_config();
  config["architectures"] = nlohmann::json::array({"Qwen2ForCausalLM"});
  config["num_key_value_heads"] = 1;
  expect_folding_is_free(config);
}

// Codes of a folded model, against the same values taken back to the baseline's scales by the
// factors that only this test knows.
TEST(LayerError, FoldedAndRoundedIsWhatItIsInTheBaselinesScales) {
  const auto config = small_llama_config();
  const MemorySource source = random_model(config, kModelSeed);
  const EvaluatedModel baseline = model_of("base", source);
  const TokenWindows windows = random_windows(baseline.graph);
  for (const float limit : {127.0F, 31.0F}) {
    std::mt19937 random(kModelSeed);
    MemorySource folded = source;
    MixedSource candidate(source);
    MemorySource expected = source;
    for (const BlockGraph& block : baseline.graph.blocks) {
      std::vector<std::vector<float>> factors;
      for (const InputGroup& group : input_groups(block)) {
        factors.push_back(random_factors(producer_channels(block, group), random));
        fold(folded, block, group, factors.back());
      }
      candidate = rounded(folded, baseline.graph, limit);
      for (const std::string& name : linear_weights(baseline.graph)) {
        if (!name.starts_with(block.prefix)) continue;
        const CompressedWeight weight = candidate.compressed(name);
        dequantize_rows(weight, 0, weight.out_features, expected.values(name));
      }
      const std::vector<InputGroup> groups = input_groups(block);
      for (size_t g = 0; g < groups.size(); ++g) {
        for (float& factor : factors[g]) factor = 1 / factor;
        fold(expected, block, groups[g], factors[g]);
        if (groups[g].producer != Producer::kNorm) continue;
        const std::string norm = block.full_name(block.ops[groups[g].producer_op]) + ".weight";
        expected.values(norm) = tensor_of(source, norm).values;
      }
    }
    const auto found = errors_of(baseline, model_of("folded", candidate), windows);
    const auto truth = errors_of(baseline, model_of("plain", expected), windows);
    for (size_t i = 0; i < truth.size(); ++i) {
      EXPECT_NEAR(*found[i].sqnr_db, *truth[i].sqnr_db, 0.5) << truth[i].name << ", " << limit;
      EXPECT_NEAR(found[i].kl_mean.value / truth[i].kl_mean.value, 1, 0.15)
          << truth[i].name << ", " << limit;
    }
  }
}

TEST(LayerError, NeitherThreadsNorMemoryMatter) {
  const auto config = small_llama_config();
  const MemorySource source = random_model(config, kModelSeed);
  const EvaluatedModel baseline = model_of("base", source);
  MixedSource mixed = rounded(source, baseline.graph, 15);
  const std::string& matrix = baseline.graph.head.matrix;
  mixed.compress(matrix, int8_weight(tensor_of(source, matrix)));
  const EvaluatedModel candidate = model_of("int", mixed);
  const TokenWindows windows = random_windows(baseline.graph);
  const int64_t least = least_hidden_bytes(baseline, windows);
  EXPECT_EQ(least, 3 * kLayerCtx * 48 * 4);
  std::vector<LayerError> first;
  for (const size_t threads : {1U, 3U}) {
    for (const int64_t bytes : {int64_t{1} << 30, least, 2 * least, kLayerWindows * least,
                                (kLayerWindows * least * 6) / 3 + 1}) {
      ThreadPool pool(threads);
      const Callbacks callbacks;
      ProgressMeter meter(callbacks, 0);
      const auto errors =
          layer_errors(baseline, candidate, windows,
                       {.precision = Precision::kBf16, .hidden_bytes = bytes}, pool, meter);
      if (first.empty()) first = errors;
      ASSERT_EQ(errors.size(), 15U);
      for (size_t i = 0; i < errors.size(); ++i) {
        EXPECT_EQ(errors[i].sqnr_db, first[i].sqnr_db) << errors[i].name << ", " << bytes;
        EXPECT_EQ(errors[i].kl_mean.value, first[i].kl_mean.value) << errors[i].name;
        EXPECT_EQ(errors[i].kl_mean.standard_error, first[i].kl_mean.standard_error);
        EXPECT_GT(errors[i].kl_mean.value, 0) << errors[i].name;
      }
    }
  }
}

// Linears that stayed as they were are skipped, also the first and the last.
TEST(LayerError, OnlySomeLinearsAreCompressed) {
  const auto config = small_llama_config();
  const MemorySource source = random_model(config, kModelSeed);
  const EvaluatedModel baseline = model_of("base", source);
  const TokenWindows windows = random_windows(baseline.graph);
  const auto all =
      errors_of(baseline, model_of("all", rounded(source, baseline.graph, 15)), windows);
  const std::vector<std::string> names = linear_weights(baseline.graph);
  for (const size_t only : {size_t{0}, size_t{5}, size_t{9}, size_t{13}}) {
    MixedSource candidate(source);
    candidate.compress(names[only], int8_weight(tensor_of(source, names[only]), 15));
    const auto some = errors_of(baseline, model_of("one", candidate), windows);
    ASSERT_EQ(some.size(), all.size());
    for (size_t i = 0; i < some.size(); ++i) {
      EXPECT_EQ(some[i].kl_mean.value, i == only ? all[i].kl_mean.value : 0) << names[i];
      EXPECT_EQ(some[i].sqnr_db, i == only ? all[i].sqnr_db : std::nullopt) << names[i];
    }
  }
}

TEST(LayerError, TheHeadIsListedWhereItDiffers) {
  const auto config = small_llama_config();
  const MemorySource source = random_model(config, kModelSeed);
  const EvaluatedModel baseline = model_of("base", source);
  MixedSource candidate(source);
  const std::string head = baseline.graph.head.matrix;
  candidate.compress(head, int8_weight(tensor_of(source, head), 15));
  const TokenWindows windows = random_windows(baseline.graph);
  const auto errors = errors_of(baseline, model_of("head", candidate), windows);
  ASSERT_EQ(errors.size(), 15U);
  MemorySource replaced = source;
  const CompressedWeight weight = candidate.compressed(head);
  dequantize_rows(weight, 0, weight.out_features, replaced.values(head));
  const std::vector<double> kl =
      plain_divergence(run_model(source, windows.ids, kLayerCtx, Precision::kF32),
                       run_model(replaced, windows.ids, kLayerCtx, Precision::kF32), 100);
  double mean = 0;
  for (const double value : kl) mean += value / static_cast<double>(kLayerWindows);
  EXPECT_EQ(errors[14].name, "lm_head");
  EXPECT_EQ(errors[14].out_features, 100);
  EXPECT_EQ(errors[14].in_features, 48);
  EXPECT_NEAR(errors[14].kl_mean.value / mean, 1, 1e-3);
  EXPECT_GT(*errors[14].sqnr_db, 15);
  EXPECT_LT(*errors[14].sqnr_db, 40);
  EXPECT_EQ(errors[0].kl_mean.value, 0);
}

TEST(LayerError, OneWindowHasNoInterval) {
  const auto config = small_llama_config();
  const MemorySource source = random_model(config, kModelSeed);
  const EvaluatedModel baseline = model_of("base", source);
  const auto errors = errors_of(baseline, model_of("int", rounded(source, baseline.graph, 15)),
                                random_windows(baseline.graph, 1));
  EXPECT_GT(errors[0].kl_mean.value, 0);
  EXPECT_EQ(errors[0].kl_mean.standard_error, 0);
  EXPECT_FALSE(errors[0].kl_mean.interval);
}

}  // namespace
}  // namespace pare
