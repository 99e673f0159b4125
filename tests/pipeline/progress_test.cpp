// The share of the work that quantize() says is done.
#include <filesystem>
#include <map>
#include <vector>

#include "tests/pipeline/architecture_fixture.h"

namespace pare::testing {
namespace {

class Progressing : public ArchitectureTest {
 protected:
  // Where the compression of each layer begins. The bar never goes back, and ends with the job.
  static std::map<std::string, double> beginnings(const QuantizeOptions& options) {
    std::map<std::string, double> compressing;
    double last = 0;
    Callbacks callbacks;
    callbacks.on_progress = [&](const Progress& progress) {
      EXPECT_GE(progress.done, last);
      last = progress.done;
      if (progress.phase == "compress") compressing.emplace(progress.detail, progress.done);
    };
    quantize(options, callbacks);
    EXPECT_EQ(last, 1);
    return compressing;
  }

  static void expect_equal_shares(const QuantizeOptions& options, int layers) {
    const auto compressing = beginnings(options);
    ASSERT_EQ(compressing.size(), static_cast<size_t>(layers));
    for (int layer = 0; layer < layers; ++layer) {
      const std::string name =
          "layer " + std::to_string(layer + 1) + " of " + std::to_string(layers);
      EXPECT_GE(compressing.at(name), static_cast<double>(layer) / layers) << name;
      EXPECT_LT(compressing.at(name), static_cast<double>(layer + 1) / layers) << name;
    }
  }

  void write_layers(int layers) {
    ModelShape shape;
    shape.layers = layers;
    write(shape);
  }
};

// Layers are alike, so each takes about the same share, and the end comes with the last.
TEST_F(Progressing, EachLayerTakesItsShareOfTheBar) {
  write_layers(4);
  for (const char* qformat : {"int8_sq", "int4_awq"}) {
    SCOPED_TRACE(qformat);
    expect_equal_shares(job(std::string(qformat) + ".h5", qformat), 4);
  }
}

TEST_F(Progressing, LayersThatNobodyWatchesCount) {
  write_layers(4);
  QuantizeOptions caches = job("cache.h5", "full_prec");
  caches.kv_cache = "fp8";
  expect_equal_shares(caches, 4);
  QuantizeOptions first_alone = job("first.h5", "int8_sq");
  first_alone.exclude = {"layers\\.[123]\\."};
  beginnings(first_alone);
}

TEST_F(Progressing, BothStacksOfAnEncoderDecoderCount) {
  use_config("TFive");
  const auto compressing = beginnings(job_of("out.h5", "int8_sq"));
  EXPECT_EQ(compressing.size(), 5U);
  EXPECT_LT(compressing.at("encoder layer 3 of 3"), 0.6);
  EXPECT_GT(compressing.at("layer 1 of 2"), 0.55);
  EXPECT_LT(compressing.at("layer 2 of 2"), 1);
}

TEST_F(Progressing, FinishedLayersCountWhenAJobGoesOn) {
  write_layers(4);
  QuantizeOptions options = job("out.h5", "int4_awq");
  options.work_dir = path("work");
  Callbacks callbacks;
  callbacks.cancelled = [&] { return std::filesystem::exists(path("work/layer-00001.json")); };
  EXPECT_EQ(failure_of(options, callbacks).code, ErrorCode::kInterrupted);
  options.resume = true;
  const auto compressing = beginnings(options);
  EXPECT_EQ(compressing.size(), 2U);
  EXPECT_LT(compressing.at("layer 4 of 4"), 1);
}

}  // namespace
}  // namespace pare::testing
