// Statistics in a file: what is made from them equals what calibrating again would give.
#include "pipeline/saved_statistics.h"

#include <filesystem>

#include "core/sha256.h"
#include "tests/pipeline/pipeline_fixture.h"

namespace pare::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class SavedStatisticsTest : public PipelineTest {
 protected:
  SavedStatisticsTest() { write({}); }

  // quantize() on the original's activations, from text.
  QuantizeOptions plain(const std::string& output, const std::string& qformat,
                        const std::string& sparsity = "none") const {
    QuantizeOptions options = job(output, qformat, sparsity);
    options.uncompressed_inputs = true;
    return options;
  }
  QuantizeOptions from_file(const std::string& output, const std::string& qformat,
                            const std::string& sparsity = "none") const {
    QuantizeOptions options = job(output, qformat, sparsity);
    options.calibration.clear();
    options.stats = path("stats.h5");
    return options;
  }
  void save() {
    QuantizeOptions options = job("first.h5", "fp8");
    options.save_stats = path("stats.h5");
    quantize(options, {});
  }
};

TEST_F(SavedStatisticsTest, EveryFormatIsTheSameFileAsWithCalibration) {
  save();
  for (const auto& [qformat, sparsity] :
       {std::pair{"fp8", "none"}, std::pair{"int8_sq", "none"}, std::pair{"int4_awq", "none"},
        std::pair{"nvfp4", "none"}, std::pair{"fp8_block", "none"}, std::pair{"full_prec", "wanda"},
        std::pair{"int4_awq", "sparsegpt"}}) {
    SCOPED_TRACE(std::string(qformat) + ", " + sparsity);
    const QuantizeReport expected = quantize(plain("a.h5", qformat, sparsity), {});
    const QuantizeReport found = quantize(from_file("b.h5", qformat, sparsity), {});
    EXPECT_EQ(found.sha256, expected.sha256);
    EXPECT_EQ(found.calibration_sha256, expected.calibration_sha256);
    EXPECT_EQ(found.calibration_tokens, expected.calibration_tokens);
    ASSERT_EQ(found.layers.size(), expected.layers.size());
    for (size_t i = 0; i < found.layers.size(); ++i) {
      EXPECT_EQ(found.layers[i].sqnr_db, expected.layers[i].sqnr_db);
    }
    std::filesystem::remove(path("a.h5"));
    std::filesystem::remove(path("b.h5"));
  }
}

TEST_F(SavedStatisticsTest, SavingChangesNothingAndDoesNotDependOnTheFormatOrThreads) {
  QuantizeOptions options = plain("a.h5", "int4_awq");
  const std::string expected = quantize(options, {}).sha256;
  options.save_stats = path("stats-int4.h5");
  options.output = path("b.h5");
  options.threads = 1;
  options.exclude = {};
  EXPECT_EQ(quantize(options, {}).sha256, expected);
  save();
  EXPECT_EQ(sha256_file(path("stats-int4.h5")), sha256_file(path("stats.h5")));
}

TEST_F(SavedStatisticsTest, SeveralFormatsAtOnceAreTheSameFilesAndLeaveNothingBehind) {
  const std::vector<FormatOutput> outputs = {
      {"fp8", path("x-fp8.h5")}, {"int8_sq", path("x-int8.h5")}, {"int4_awq", path("x-int4.h5")}};
  const std::vector<QuantizeReport> reports = quantize_each(job("", ""), outputs, {});
  ASSERT_EQ(reports.size(), 3U);
  for (size_t i = 0; i < reports.size(); ++i) {
    EXPECT_EQ(reports[i].output, outputs[i].output);
    EXPECT_EQ(reports[i].sha256, quantize(plain("a.h5", outputs[i].qformat), {}).sha256);
    std::filesystem::remove(path("a.h5"));
  }
  EXPECT_THAT(names(), ::testing::UnorderedElementsAre("model", "calib.ids", "x-fp8.h5",
                                                       "x-int8.h5", "x-int4.h5"));
}

TEST_F(SavedStatisticsTest, AFailureOfOneFormatLeavesNoStatisticsBehind) {
  write_file(path("x-int8.h5"), "here already");
  EXPECT_THROW(
      quantize_each(job("", ""), {{"fp8", path("x-fp8.h5")}, {"int8_sq", path("x-int8.h5")}}, {}),
      Error);
  EXPECT_THAT(names(),
              ::testing::UnorderedElementsAre("model", "calib.ids", "x-fp8.h5", "x-int8.h5"));
}

TEST_F(SavedStatisticsTest, OfAnotherModelRotationOrTextTheyAreRefused) {
  save();
  QuantizeOptions options = from_file("a.h5", "int8_sq");
  options.rotate = "residual";
  EXPECT_THAT(failure_of(options).message,
              AllOf(HasSubstr("stats.h5"), HasSubstr("another rotation"), HasSubstr("residual")));
  options = from_file("a.h5", "int8_sq");
  write_ids(8, 23);
  options.calibration = path("calib.ids");
  options.calibration_seqlen = 23;
  EXPECT_THAT(failure_of(options).message, HasSubstr("another calibration text"));
  write(shape_, 12);  // other weights
  const Failure failure = failure_of(from_file("a.h5", "int8_sq"));
  EXPECT_EQ(failure.code, ErrorCode::kInputMalformed);
  EXPECT_THAT(failure.message, AllOf(HasSubstr("stats.h5"), HasSubstr("another model")));
}

TEST_F(SavedStatisticsTest, FilesThatAreNotStatisticsAreRefused) {
  quantize(job("model.h5", "fp8"), {});
  QuantizeOptions options = from_file("a.h5", "int8_sq");
  options.stats = path("model.h5");
  Failure failure = failure_of(options);
  EXPECT_EQ(failure.code, ErrorCode::kInputMalformed);
  EXPECT_THAT(failure.message, AllOf(HasSubstr("model.h5"), HasSubstr("not statistics")));
  options.stats = path("nobody.h5");
  failure = failure_of(options);
  EXPECT_EQ(failure.code, ErrorCode::kInputMissing);
  EXPECT_THAT(failure.message, HasSubstr("nobody.h5"));
}

TEST_F(SavedStatisticsTest, OptionsThatContradictAreRefused) {
  QuantizeOptions options = job("a.h5", "int8_sq");
  options.save_stats = path("stats.h5");
  options.stats = path("stats.h5");
  EXPECT_EQ(failure_of(options).code, ErrorCode::kUsage);
  options.stats.clear();
  options.calibration.clear();
  EXPECT_THAT(failure_of(options).message, HasSubstr("save_stats needs calibration text"));
}

}  // namespace
}  // namespace pare::testing
