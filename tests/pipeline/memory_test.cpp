// Memory follows the largest block, not the depth, and stays under what the plan says.
#include "tests/pipeline/peak_memory.h"
#include "tests/pipeline/pipeline_fixture.h"

namespace pare::testing {
namespace {

class Memory : public PipelineTest {
 protected:
  Memory() { write_ids(32, 128); }

  // In a child too, so that this process stays small.
  void write_deep(int64_t layers) {
    shape_.hidden = 384;
    shape_.feed_forward = 1024;
    shape_.heads = 6;
    shape_.kv_heads = 2;
    shape_.head_dim = 64;
    shape_.layers = layers;
    peak_of([&] { write(shape_); });
  }

  int64_t planned(QuantizeOptions options) const {
    options.dry_run = true;
    return quantize(options, {}).planned_memory_bytes;
  }
};

TEST_F(Memory, TwiceTheLayersTakeTheSameMemory) {
  for (const char* qformat : {"int4_awq", "int8_sq"}) {
    int64_t peak[2] = {};
    for (const int64_t layers : {4, 8}) {
      write_deep(layers);
      QuantizeOptions options = job("out.h5", qformat);
      options.force = true;
      options.threads = 1;  // The allocator keeps a heap for each thread: noise at this size.
      int64_t& found = peak[layers / 8];
      found = peak_of([&] { quantize(options, {}); });
      EXPECT_GE(planned(options), found) << qformat << ", " << layers << " layers";
    }
    EXPECT_LT(static_cast<double>(peak[1]), 1.1 * static_cast<double>(peak[0]))
        << qformat << ": " << peak[0] << " and " << peak[1] << " bytes";
  }
}

// Tensors are rotated when they are asked for, and forgotten with their layer.
TEST_F(Memory, ARotatedModelIsHeldALayerAtATime) {
  int64_t peak[2] = {};
  for (const int64_t layers : {4, 8}) {
    write_deep(layers);
    QuantizeOptions options = job("out.h5", "int4_awq");
    options.rotate = "residual+heads";
    options.force = true;
    options.threads = 1;
    int64_t& found = peak[layers / 8];
    found = peak_of([&] { quantize(options, {}); });
    EXPECT_GE(planned(options), found) << layers << " layers";
  }
  EXPECT_LT(static_cast<double>(peak[1]), 1.1 * static_cast<double>(peak[0]))
      << peak[0] << " and " << peak[1] << " bytes";
}

TEST_F(Memory, ThePlanCoversPruningWithUpdates) {
  write_deep(2);
  for (const char* qformat : {"full_prec", "int4_awq"}) {
    QuantizeOptions options = job("out.h5", qformat, "sparsegpt");
    options.force = true;
    for (const int threads : {1, 3}) {
      options.threads = threads;
      const int64_t peak = peak_of([&] { quantize(options, {}); });
      EXPECT_GE(planned(options), peak) << qformat << ", " << threads << " threads";
    }
  }
}

TEST_F(Memory, ALimitBelowThePlanStopsTheJobBeforeItBegins) {
  write_deep(2);
  QuantizeOptions options = job("out.h5", "int4_awq");
  options.work_dir = path("work");
  const int64_t needed = planned(options);
  options.max_memory = needed - 1;
  options.calibration = path("missing.ids");
  const std::vector<std::string> before = names();
  const Failure failure = failure_of(options);
  EXPECT_EQ(failure.code, ErrorCode::kLimitExceeded);
  EXPECT_THAT(failure.message, ::testing::HasSubstr(std::to_string(needed)));
  EXPECT_THAT(failure.message, ::testing::HasSubstr(std::to_string(needed - 1)));
  EXPECT_EQ(names(), before);
  options.calibration = path("calib.ids");
  options.max_memory = needed;
  EXPECT_EQ(quantize(options, {}).planned_memory_bytes, needed);
}

}  // namespace
}  // namespace pare::testing
