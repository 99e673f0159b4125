// The share of the work that quantize() says is done.
#include <map>
#include <vector>

#include "tests/pipeline/pipeline_fixture.h"

namespace pare::testing {
namespace {

using Progressing = PipelineTest;

// Layers are alike, so each takes about the same share, and the end comes with the last.
TEST_F(Progressing, EachLayerTakesItsShareOfTheBar) {
  constexpr int kLayers = 4;
  ModelShape shape;
  shape.layers = kLayers;
  write(shape);
  for (const char* qformat : {"int8_sq", "int4_awq"}) {
    std::map<std::string, double> compressing;  // where a layer's begins
    double last = 0;
    Callbacks callbacks;
    callbacks.on_progress = [&](const Progress& progress) {
      EXPECT_GE(progress.done, last);
      last = progress.done;
      if (progress.phase == "compress") compressing.emplace(progress.detail, progress.done);
    };
    quantize(job(std::string(qformat) + ".h5", qformat), callbacks);
    EXPECT_EQ(last, 1);
    ASSERT_EQ(compressing.size(), static_cast<size_t>(kLayers)) << qformat;
    for (int layer = 0; layer < kLayers; ++layer) {
      const double begin = compressing.at("layer " + std::to_string(layer + 1) + " of 4");
      EXPECT_GT(begin, static_cast<double>(layer) / kLayers) << qformat;
      EXPECT_LT(begin, static_cast<double>(layer + 1) / kLayers) << qformat;
    }
  }
}

}  // namespace
}  // namespace pare::testing
