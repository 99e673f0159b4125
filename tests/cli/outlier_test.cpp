// A model with outlier channels: what fails on it, and what must not.
#include <gmock/gmock.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "tests/cli/cli_fixture.h"

namespace pare::testing {
namespace {

class Outliers : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string command = "python3 '" PARE_SOURCE_DIR "/tests/models/outlier_model.py' '" +
                                kDemo + "/model' '" + model_ + "' 2>/dev/null";
    if (std::system("python3 --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "needs python3";
    ASSERT_EQ(std::system(command.c_str()), 0);
  }

  // Mean divergence from the baseline of what `options` make of a model.
  double loss(const std::string& model, const Arguments& options) {
    const std::string out = dir_ / ("out" + std::to_string(++outputs_) + ".h5");
    const Finished made =
        run_program(kQuantize, Arguments{model, "-o", out, "--calib", kCalib, "--calib_size", "32",
                                         "--calib_seqlen", "128"} +
                                   options);
    EXPECT_EQ(made.status, 0) << made.err;
    return divergence(out);
  }
  double divergence(const std::string& candidate) {
    const Finished run =
        run_program(kAccuracyEval, {"--baseline", kDemo + "/model", candidate, "--text", kText,
                                    "--ctx", "128", "--limit", "32", "--json", "-"});
    EXPECT_EQ(run.status, 0) << run.err;
    return nlohmann::json::parse(run.out)
        .at("candidates")[0]
        .at("tasks")
        .at("perplexity")
        .at("kl_mean");
  }

  TempDir dir_;
  std::string model_ = dir_ / "outliers";
  int outputs_ = 0;
};

TEST_F(Outliers, DoNotChangeWhatTheModelComputes) { EXPECT_EQ(divergence(model_), 0); }

TEST_F(Outliers, RuinStaticInputsWithoutSmoothingAndNoDefault) {
  const std::string plain = kDemo + "/model";
  const double ruined = loss(model_, {"--qformat", "int8_sq", "--smooth-strength", "none"});
  const double smoothed = loss(model_, {"--qformat", "int8_sq"});
  EXPECT_GT(ruined, 5 * smoothed);
  // Not int4_gptq, which leaves out the scaling that helps (docs/algorithms/awq.md).
  for (const char* qformat : {"fp8", "fp8_pc_pt", "fp8_block", "int8_sq", "int4_awq", "w4a8_awq",
                              "nvfp4", "nvfp4_wo", "mxfp4", "mxfp4_wo"}) {
    EXPECT_LT(loss(model_, {"--qformat", qformat}), 1.1 * loss(plain, {"--qformat", qformat}))
        << qformat;
  }
  for (const Arguments& job : {Arguments{"--qformat", "int8_sq", "--dynamic-activations"},
                               Arguments{"--qformat", "int4_awq", "--asym"},
                               Arguments{"--qformat", "full_prec", "--sparsity", "sparsegpt"}}) {
    EXPECT_LT(loss(model_, job), 1.1 * loss(plain, job)) << job.back();
  }
}

}  // namespace
}  // namespace pare::testing
