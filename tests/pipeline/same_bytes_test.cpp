// The same model, options and seed give the same bytes, whatever runs them, for every format.
#include <cmath>
#include <functional>
#include <memory>

#include "formats/weight_source.h"
#include "kernels/codec.h"
#include "pare/evaluate.h"
#include "tests/pipeline/pipeline_fixture.h"

namespace pare::testing {
namespace {

struct Variant {
  std::string name;
  std::string qformat;
  std::function<void(QuantizeOptions&)> change = [](QuantizeOptions&) {};
  int64_t feed_forward = 96;
};

struct Case {
  Variant variant;
  std::string sparsity;
};

void PrintTo(const Case& one, std::ostream* out) { *out << one.variant.name << one.sparsity; }

std::vector<Variant> variants() {
  const auto group = [](int64_t size, bool symmetric = true) {
    return [=](QuantizeOptions& options) {
      options.awq_block_size = size;
      options.symmetric = symmetric;
    };
  };
  return {
      {"fp8", "fp8"},
      {"int8_sq", "int8_sq"},
      {"int8_sq_dynamic", "int8_sq", [](auto& options) { options.dynamic_activations = true; }},
      {"int8_sq_fixed", "int8_sq", [](auto& options) { options.smooth_strength = 0.5; }},
      {"int8_sq_plain", "int8_sq", [](auto& options) { options.smooth = false; }},
      {"int8_wo", "int8_wo"},
      {"int4_awq_16", "int4_awq", group(16)},
      {"int4_awq_32", "int4_awq", group(32)},
      {"int4_awq_32_asymmetric", "int4_awq", group(32, false)},
      {"int4_awq_channel", "int4_awq", group(0)},
      {"int4_awq_channel_asymmetric", "int4_awq", group(0, false)},
      {"int4_awq_short_group", "int4_awq", group(40)},
      {"int4_awq_short_group_asymmetric", "int4_awq", group(40, false)},
      {"int4_awq_no_clip", "int4_awq", [](auto& options) { options.clip = false; }},
      {"int4_awq_odd_width", "int4_awq", group(32), 91},
      {"int4_awq_odd_width_asymmetric", "int4_awq", group(32, false), 91},
      {"int4_wo", "int4_wo", group(32)},
      {"full_prec", "full_prec"},
      {"kv_fp8", "int8_sq", [](auto& options) { options.kv_cache = "fp8"; }},
      {"kv_int8_affine", "full_prec",
       [](auto& options) {
         options.kv_cache = "int8";
         options.kv_affine = true;
       }},
      {"original_inputs", "int8_sq", [](auto& options) { options.uncompressed_inputs = true; }},
  };
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Variant& variant : variants()) {
    for (const char* sparsity : {"none", "magnitude", "wanda", "sparsegpt", "admm"}) {
      const bool sparse = sparsity != std::string("none");
      if (variant.qformat == "full_prec" && !sparse) continue;
      if (variant.feed_forward % 4 != 0 && sparse) continue;
      all.push_back({variant, sparsity});
    }
  }
  return all;
}

class SameBytes : public PipelineTest, public ::testing::WithParamInterface<Case> {};

// Exactly the positions of the mask hold values, two of each four.
void expect_two_of_four(const CompressedWeight& weight, const std::string& name) {
  ASSERT_TRUE(weight.sparse) << name;
  std::vector<float> values(static_cast<size_t>(weight.out_features * weight.in_features));
  dequantize_rows(weight, 0, weight.out_features, values);
  int64_t kept = 0;
  for (size_t first = 0; first < values.size(); first += 4) {
    int64_t here = 0;
    for (size_t i = first; i < first + 4; ++i) here += values[i] != 0 ? 1 : 0;
    ASSERT_LE(here, 2) << name << " at " << first;
    kept += here;
  }
  // Few codes of a kept weight are zero, even of INT4.
  EXPECT_GT(kept, static_cast<int64_t>(values.size()) * 2 / 5) << name;
}

TEST_P(SameBytes, ForAnyThreadsAndEveryRunAndEvaluatesToFiniteNumbers) {
  const Case& one = GetParam();
  ModelShape shape;
  shape.feed_forward = one.variant.feed_forward;
  shape.outlier = 8;
  write(shape);
  QuantizeOptions options = job("a.h5", one.variant.qformat, one.sparsity);
  one.variant.change(options);
  const QuantizeReport first = quantize(options, {});
  for (const int threads : {2, 1, 3}) {
    options.threads = threads;
    options.output = path("b" + std::to_string(threads) + ".h5");
    EXPECT_EQ(quantize(options, {}).sha256, first.sha256) << threads << " threads";
  }

  const auto source = open_weight_source(first.output);
  for (const LayerReport& layer : first.layers) {
    ASSERT_TRUE(layer.sqnr_db.has_value()) << layer.name;
    EXPECT_TRUE(std::isfinite(*layer.sqnr_db)) << layer.name;
    EXPECT_GT(*layer.sqnr_db, 1) << layer.name;
    ASSERT_TRUE(source->is_compressed(layer.name + ".weight")) << layer.name;
    EXPECT_EQ(source->stored_bytes(layer.name + ".weight"), layer.bytes) << layer.name;
    if (one.sparsity != "none") {
      expect_two_of_four(source->compressed(layer.name + ".weight"), layer.name);
    }
  }

  EvaluateOptions evaluation;
  evaluation.baseline = path("model");
  evaluation.candidates = {first.output};
  evaluation.text = path("calib.ids");
  evaluation.ctx = 24;
  evaluation.threads = 1;
  const EvaluateReport report = evaluate(evaluation, {});
  const PerplexityResult& result = report.candidates.at(0).perplexities.at("perplexity");
  for (const double value : {result.ppl.value, result.ratio.value, result.divergence.kl_mean.value,
                             result.divergence.kl_max}) {
    EXPECT_TRUE(std::isfinite(value));
    EXPECT_GT(value, 0);
  }
  evaluation.threads = 2;
  EXPECT_EQ(to_json(evaluate(evaluation, {}), false), to_json(report, false));
}

INSTANTIATE_TEST_SUITE_P(Formats, SameBytes, ::testing::ValuesIn(cases()), [](const auto& one) {
  return one.param.variant.name + "_" + one.param.sparsity;
});

class OtherBytes : public PipelineTest {};

TEST_F(OtherBytes, OptionsThatDecideNumbersChangeTheOutput) {
  write({});
  const std::string plain = quantize(job("a.h5", "int4_awq"), {}).sha256;
  QuantizeOptions options = job("b.h5", "int4_awq");
  options.clip = false;
  EXPECT_NE(quantize(options, {}).sha256, plain);
  options = job("c.h5", "int4_awq");
  options.calibration_size = windows_ / 2;
  EXPECT_NE(quantize(options, {}).sha256, plain);
}

TEST_F(OtherBytes, ShardsHoldTheSameTensors) {
  write({});
  const auto file = open_weight_source(quantize(job("a.h5", "int4_awq", "sparsegpt"), {}).output);
  const auto folder = open_weight_source(quantize(job("a", "int4_awq", "sparsegpt"), {}).output);
  EXPECT_EQ(file->names(), folder->names());
  EXPECT_EQ(file->sha256(), folder->sha256());
}

}  // namespace
}  // namespace pare::testing
