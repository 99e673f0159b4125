// What each method is for must show: on a model whose inputs have outliers, it beats the plainer
// method that it replaces.
#include "formats/weight_source.h"
#include "tests/pipeline/pipeline_fixture.h"

namespace pare::testing {
namespace {

class Quality : public PipelineTest {
 protected:
  Quality() {
    ModelShape shape;
    shape.hidden = 128;
    shape.feed_forward = 192;
    shape.heads = 8;
    shape.kv_heads = 4;
    shape.outlier = 50;
    write(shape);
    write_ids(16, 64);
  }

  double sqnr(const QuantizeOptions& options) const { return mean_sqnr(quantize(options, {})); }
};

TEST_F(Quality, SmoothingRescuesStaticActivations) {
  QuantizeOptions options = job("a.h5", "int8_sq");
  const double smoothed = sqnr(options);
  options.output = path("b.h5");
  options.smooth = false;
  EXPECT_GT(smoothed, sqnr(options) + 15);
  EXPECT_GT(smoothed, 30);
}

TEST_F(Quality, ActivationScalesOfEachTokenAreBetterThanOneForAll) {
  QuantizeOptions options = job("a.h5", "int8_sq");
  const double fixed = sqnr(options);
  options.output = path("b.h5");
  options.dynamic_activations = true;
  EXPECT_GT(sqnr(options), fixed);
}

TEST_F(Quality, AwqIsBetterThanRounding) {
  for (const bool symmetric : {true, false}) {
    QuantizeOptions options = job("awq.h5", "int4_awq");
    options.symmetric = symmetric;
    options.force = true;
    const double searched = sqnr(options);
    options.qformat = "int4_wo";
    EXPECT_GT(searched, sqnr(options) + 1);
  }
}

TEST_F(Quality, GptqIsBetterThanAwqAloneAndRounding) {
  QuantizeOptions options = job("a.h5", "int4_awq");
  options.force = true;
  std::map<std::string, double> found;
  for (const char* algo : {"auto", "rtn", "awq", "gptq"}) {
    options.algo = algo;
    found[algo] = sqnr(options);
  }
  EXPECT_GT(found["auto"], found["awq"] + 0.3);
  EXPECT_GT(found["gptq"], found["rtn"] + 0.3);
}

// What --algo auto has behind GPTQ, in what the checkpoint holds.
TEST_F(Quality, CoordinateDescentIsBetterThanGptqAlone) {
  for (const char* qformat : {"int4_gptq", "fp8"}) {
    QuantizeOptions options = job("a.h5", qformat);
    options.force = true;
    options.uncompressed_inputs = true;  // so that layers are compared one by one
    options.algo = "gptq";
    const QuantizeReport alone = quantize(options, {});
    options.algo = "auto";
    const QuantizeReport descended = quantize(options, {});
    EXPECT_NE(descended.sha256, alone.sha256);
    EXPECT_GT(mean_sqnr(descended), mean_sqnr(alone)) << qformat;
    EXPECT_THAT(alone.layers[0].algorithm, ::testing::EndsWith("GPTQ"));
  }
}

TEST_F(Quality, WithoutClippingScalesAreThoseOfTheLargestWeight) {
  QuantizeOptions options = job("a.h5", "int4_gptq");
  options.clip = false;
  const QuantizeReport solved = quantize(options, {});
  const QuantizeReport rounded = quantize(job("b.h5", "int4_wo"), {});
  const auto source = open_weight_source(solved.output);
  const auto plain = open_weight_source(rounded.output);
  for (const LayerReport& layer : solved.layers) {
    EXPECT_EQ(layer.clipped_weights, 0);
    const CompressedWeight weight = source->compressed(layer.name + ".weight");
    const CompressedWeight expected = plain->compressed(layer.name + ".weight");
    EXPECT_EQ(weight.scale, expected.scale) << layer.name;
    EXPECT_NE(weight.codes, expected.codes) << layer.name;
  }
}

TEST_F(Quality, SmallerGroupsAreBetter) {
  QuantizeOptions options = job("a.h5", "int4_awq");
  options.force = true;
  double last = 0;
  for (const int64_t group : {0, 64, 16}) {
    options.awq_block_size = group;
    const double found = sqnr(options);
    EXPECT_GT(found, last) << group;
    last = found;
  }
}

TEST_F(Quality, SparseGptIsBetterThanMasksAlone) {
  const double updated = sqnr(job("a.h5", "full_prec", "sparsegpt"));
  const double wanda = sqnr(job("b.h5", "full_prec", "wanda"));
  const double magnitude = sqnr(job("c.h5", "full_prec", "magnitude"));
  EXPECT_GT(updated, wanda + 0.2);
  EXPECT_GT(wanda, magnitude + 1);
}

TEST_F(Quality, SparsityCostsAndFormatsOnTopCostLittleMore) {
  const double sparse = sqnr(job("a.h5", "full_prec", "sparsegpt"));
  const double int8 = sqnr(job("b.h5", "int8_sq", "sparsegpt"));
  const double dense = sqnr(job("c.h5", "int8_sq"));
  EXPECT_GT(dense, int8 + 5);
  EXPECT_GT(int8, sparse - 0.5);
}

class LayerQualityReport : public PipelineTest {
 protected:
  LayerQualityReport() {
    write({});
    write_ids(32, 24);  // Eight bits are fitted only to enough tokens.
  }
};

// Rounding to nearest is what it is compared with, so there the two are the same number.
TEST_F(LayerQualityReport, RoundingToNearestComparesWithItself) {
  for (const char* qformat :
       {"fp8", "fp8_pc_pt", "fp8_block", "int8_wo", "int4_awq", "w4a8_awq", "nvfp4", "mxfp4_wo"}) {
    QuantizeOptions options = job("a.h5", qformat);
    options.algo = "rtn";
    options.force = true;
    for (const LayerReport& layer : quantize(options, {}).layers) {
      // FP8 per tensor and NVFP4 share a scale between linears that share an input.
      const bool shared = std::string(qformat) == "fp8" || std::string(qformat) == "nvfp4";
      ASSERT_TRUE(layer.sqnr_db && layer.rtn_sqnr_db) << layer.name;
      EXPECT_NEAR(*layer.sqnr_db, *layer.rtn_sqnr_db, shared ? 1.5 : 0.05)
          << qformat << " " << layer.name;
      EXPECT_EQ(layer.algorithm, "round to nearest");
      EXPECT_EQ(layer.fallback, "");
    }
  }
}

TEST_F(LayerQualityReport, SaysWhatChoseTheNumbersAndWhatWasClipped) {
  QuantizeOptions options = job("a.h5", "int4_awq");
  QuantizeReport report = quantize(options, {});
  double gain = 0;
  int64_t clipped = 0;
  for (const LayerReport& layer : report.layers) {
    EXPECT_THAT(layer.algorithm, ::testing::EndsWith("clip search, GPTQ, coordinate descent"));
    clipped += layer.clipped_weights;
    EXPECT_LT(layer.clipped_weights, layer.shape[0] * layer.shape[1] / 20) << layer.name;
    gain += *layer.sqnr_db - *layer.rtn_sqnr_db;
  }
  EXPECT_GT(gain / static_cast<double>(report.layers.size()), 1);
  EXPECT_GT(clipped, 0);
  options = job("b.h5", "int8_sq");
  report = quantize(options, {});
  for (const LayerReport& layer : report.layers) {
    EXPECT_THAT(layer.algorithm, ::testing::HasSubstr("noise compensation"));
    EXPECT_EQ(layer.clipped_weights, 0) << "by absolute maxima";
  }
  options.force = true;
  const auto compensated = [&](const char* qformat, const char* algo) {
    options.qformat = qformat;
    options.algo = algo;
    int64_t count = 0;
    for (const LayerReport& layer : quantize(options, {}).layers) {
      count += layer.algorithm.find("noise compensation") != std::string::npos ? 1 : 0;
    }
    return count;
  };
  for (const char* qformat : {"fp8", "fp8_pc_pt", "fp8_block", "w4a8_awq"}) {
    EXPECT_GT(compensated(qformat, "auto"), 0) << qformat;
    EXPECT_EQ(compensated(qformat, "rtn"), 0) << qformat;
  }
  // The error of FP4 depends on the input, and weights alone have none.
  for (const char* qformat : {"nvfp4", "mxfp4", "int4_awq"}) {
    EXPECT_EQ(compensated(qformat, "auto"), 0) << qformat;
  }
  options = job("e.h5", "int8_sq");
  options.calibration_size = 4;
  options.output = path("d.h5");
  for (const LayerReport& layer : quantize(options, {}).layers) {
    EXPECT_THAT(layer.algorithm, ::testing::EndsWith("round to nearest"));
    EXPECT_THAT(layer.fallback, ::testing::HasSubstr("96 tokens are few"));
  }
  // Pruning with updates solves all the same.
  options = job("f.h5", "fp8", "sparsegpt");
  options.calibration_size = 4;
  for (const LayerReport& layer : quantize(options, {}).layers) {
    EXPECT_THAT(layer.algorithm, ::testing::EndsWith("GPTQ, coordinate descent"));
    EXPECT_THAT(layer.fallback, ::testing::HasSubstr("no noise compensation: 96 tokens are few"));
  }
  options = job("c.h5", "int4_awq", "sparsegpt");
  for (const LayerReport& layer : quantize(options, {}).layers) {
    EXPECT_THAT(layer.algorithm, ::testing::AllOf(::testing::HasSubstr("2:4 SparseGPT"),
                                                  ::testing::EndsWith("GPTQ, coordinate descent")));
  }
}

}  // namespace
}  // namespace pare::testing
