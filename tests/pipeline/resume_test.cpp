// A job that is stopped leaves nothing under its output's name, and goes on where it was.
#include <filesystem>

#include "tests/pipeline/pipeline_fixture.h"

namespace pare::testing {
namespace {

namespace fs = std::filesystem;

class Resume : public PipelineTest {
 protected:
  Resume() {
    ModelShape shape;
    shape.layers = 3;
    write(shape);
  }

  QuantizeOptions job_with_folder() const {
    QuantizeOptions options = job("out.h5", "int4_awq", "sparsegpt");
    options.work_dir = path("work");
    return options;
  }

  // Stops once the layer is on disk.
  void interrupt_after(int layer) const {
    const std::string done = path("work/layer-0000" + std::to_string(layer) + ".json");
    Callbacks callbacks;
    callbacks.cancelled = [=] { return fs::exists(done); };
    const Failure failure = failure_of(job_with_folder(), callbacks);
    EXPECT_EQ(failure.code, ErrorCode::kInterrupted);
    ASSERT_TRUE(fs::exists(done));
  }

  QuantizeOptions resumed() const {
    QuantizeOptions options = job_with_folder();
    options.resume = true;
    return options;
  }
};

TEST_F(Resume, AnInterruptedJobLeavesOnlyTheWorkFolder) {
  interrupt_after(0);
  EXPECT_THAT(names(), ::testing::ElementsAre("calib.ids", "model", "work"));
  EXPECT_THAT(list_folder(path("work")),
              ::testing::ElementsAre("job.json", "layer-00000.h5", "layer-00000.json"));
}

TEST_F(Resume, GivesTheBytesAndReportsOfARunInOneGo) {
  const QuantizeReport whole = quantize(job("whole.h5", "int4_awq", "sparsegpt"), {});
  for (const int layer : {0, 1}) {
    interrupt_after(layer);
    QuantizeOptions options = resumed();
    options.threads = 1;
    options.force = true;
    const QuantizeReport report = quantize(options, {});
    EXPECT_EQ(report.sha256, whole.sha256);
    ASSERT_EQ(report.layers.size(), whole.layers.size());
    for (size_t i = 0; i < whole.layers.size(); ++i) {
      EXPECT_EQ(report.layers[i].name, whole.layers[i].name);
      EXPECT_EQ(report.layers[i].detail, whole.layers[i].detail);
      EXPECT_EQ(report.layers[i].sqnr_db, whole.layers[i].sqnr_db);
      EXPECT_EQ(report.layers[i].bytes, whole.layers[i].bytes);
    }
    EXPECT_FALSE(fs::exists(path("work")));
    fs::remove(path("out.h5"));
  }
}

TEST_F(Resume, FinishedLayersAreNotMadeAgain) {
  interrupt_after(1);
  Callbacks callbacks;
  std::vector<std::string> compressed;
  callbacks.on_progress = [&](const Progress& progress) {
    if (progress.phase == "compress") compressed.push_back(progress.detail);
  };
  quantize(resumed(), callbacks);
  EXPECT_THAT(compressed, ::testing::Each("layer 3 of 3"));
  EXPECT_FALSE(compressed.empty());
}

TEST_F(Resume, OfAnotherJobIsRefused) {
  interrupt_after(0);
  QuantizeOptions options = resumed();
  options.clip = false;
  Failure failure = failure_of(options);
  EXPECT_EQ(failure.code, ErrorCode::kUsage);
  EXPECT_THAT(failure.message, ::testing::HasSubstr("another job"));
  options = resumed();
  options.calibration_size -= 1;
  EXPECT_EQ(failure_of(options).code, ErrorCode::kUsage);
  write(shape_, /*seed=*/12);
  failure = failure_of(resumed());
  EXPECT_EQ(failure.code, ErrorCode::kUsage);
  EXPECT_FALSE(fs::exists(path("out.h5")));
}

TEST_F(Resume, OfNothingIsRefused) {
  const Failure failure = failure_of(resumed());
  EXPECT_EQ(failure.code, ErrorCode::kInputMissing);
  EXPECT_THAT(failure.message, ::testing::HasSubstr("nothing to resume"));
  QuantizeOptions options = resumed();
  options.work_dir.clear();
  EXPECT_EQ(failure_of(options).code, ErrorCode::kUsage);
}

TEST_F(Resume, AFolderWithAJobIsNotOverwritten) {
  interrupt_after(0);
  const Failure failure = failure_of(job_with_folder());
  EXPECT_EQ(failure.code, ErrorCode::kWriteFailed);
  EXPECT_THAT(failure.message, ::testing::HasSubstr("--resume"));
  EXPECT_TRUE(fs::exists(path("work/layer-00000.json")));
}

TEST_F(Resume, ALayerOfAnotherJobIsNeverUsed) {
  interrupt_after(0);
  fs::remove(path("work/job.json"));
  QuantizeOptions options = job_with_folder();
  options.symmetric = !options.symmetric;
  const Failure failure = failure_of(options);
  EXPECT_EQ(failure.code, ErrorCode::kInputMalformed);
  EXPECT_THAT(failure.message, ::testing::HasSubstr("another job"));
}

TEST_F(Resume, TwoJobsDoNotShareAFolder) {
  interrupt_after(0);
  Failure second;
  Callbacks callbacks;
  callbacks.on_progress = [&](const Progress& progress) {
    if (progress.phase != "compress" || !second.message.empty()) return;
    QuantizeOptions options = resumed();
    options.output = path("second.h5");
    second = failure_of(options);
  };
  quantize(resumed(), callbacks);
  EXPECT_EQ(second.code, ErrorCode::kWriteFailed);
  EXPECT_THAT(second.message, ::testing::HasSubstr("another process"));
}

// Whatever byte is wrong: an error, or the right output when nothing hangs on the byte.
TEST_F(Resume, ADamagedLayerIsNeverUsed) {
  const std::string whole = quantize(job("whole.h5", "int4_awq", "sparsegpt"), {}).sha256;
  interrupt_after(0);
  const std::string layer = path("work/layer-00000.h5");
  const std::string good = read_file(layer);
  // Between the aligned tensors are zeros that nobody reads.
  std::vector<size_t> used;
  for (size_t i = 0; i < good.size(); ++i) {
    if (good[i] != 0) used.push_back(i);
  }
  constexpr size_t kParts = 12;
  int refused = 0;
  for (size_t part = 0; part < kParts; ++part) {
    std::string damaged = good;
    damaged[used[used.size() * (2 * part + 1) / (2 * kParts)]] ^= 0x10;
    write_file(layer, damaged);
    QuantizeOptions options = resumed();
    options.output = path("out" + std::to_string(part) + ".h5");
    try {
      EXPECT_EQ(quantize(options, {}).sha256, whole) << "part " << part;
      // Success removes the folder.
      interrupt_after(0);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInputMalformed) << error.what();
      EXPECT_THAT(error.what(), ::testing::HasSubstr("layer-00000.h5"));
      EXPECT_FALSE(fs::exists(options.output));
      ++refused;
    }
  }
  EXPECT_GT(refused, 8);
  write_file(layer, good.substr(0, good.size() / 2));
  EXPECT_EQ(failure_of(resumed()).code, ErrorCode::kInputMalformed);
  write_file(layer, good);
  for (const char* report :
       {"", "{", "{}", "[1]", R"({"layers": 3, "warnings": []})",
        R"({"layers": [{"name": 1}], "warnings": []})", R"({"layers": [], "warnings": [1]})"}) {
    write_file(path("work/layer-00000.json"), report);
    const Failure failure = failure_of(resumed());
    EXPECT_EQ(failure.code, ErrorCode::kInputMalformed) << report;
    EXPECT_THAT(failure.message, ::testing::HasSubstr("layer-00000.json")) << report;
  }
}

}  // namespace
}  // namespace pare::testing
