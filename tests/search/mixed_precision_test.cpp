// A whole plan on a small model.
#include "pare/mixed_precision.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "pare/error.h"
#include "tests/support/program.h"
#include "tests/support/tiny_model.h"

namespace pare::testing {
namespace {

using ::testing::HasSubstr;

class MixedPrecision : public ::testing::Test {
 protected:
  void SetUp() override {
    write_tiny_llama(model_, PARE_SOURCE_DIR "/demo/model/tokenizer.json", 17);
    options_.quantize.model = model_;
    options_.quantize.output = dir_ / "out.h5";
    options_.quantize.calibration = PARE_SOURCE_DIR "/demo/calib.jsonl";
    options_.quantize.calibration_size = 4;
    options_.quantize.calibration_seqlen = 64;
    options_.quantize.awq_block_size = 32;
    options_.quantize.threads = 2;
    options_.formats = {"int4_awq", "int8_sq", "fp8"};
    options_.probe_windows = 2;
    options_.verify_windows = 4;
  }
  std::string failure() const {
    try {
      quantize_mixed(options_, {});
    } catch (const Error& error) {
      return error.what();
    }
    ADD_FAILURE() << "quantize_mixed() did not fail";
    return "";
  }

  TempDir dir_;
  std::string model_ = dir_ / "model";
  MixedOptions options_;
};

TEST_F(MixedPrecision, APlanKeepsItsBitsAndItsRecipeGivesTheSameFile) {
  options_.target_bits = 6.5;
  const MixedReport report = quantize_mixed(options_, {});
  EXPECT_LE(report.bits, 6.5);
  EXPECT_GT(report.bits, 5.5) << "the budget is used";
  EXPECT_EQ(report.trials, 1);
  EXPECT_GT(report.measured_kl.value, 0);
  EXPECT_GT(report.predicted_kl, 0);
  std::set<size_t> chosen;
  for (const MixedGroup& group : report.groups) {
    chosen.insert(group.chosen);
    ASSERT_EQ(group.bits.size(), 3U);
    EXPECT_LT(group.bits[0], group.bits[1]);
    // q, k and v; gate and up.
    EXPECT_TRUE(group.linears.size() == 1 || group.linears.size() == 2 ||
                group.linears.size() == 3);
  }
  EXPECT_GE(chosen.size(), 2U);
  EXPECT_EQ(list_folder(dir_.path()),
            (std::vector<std::string>{"model", "out.h5", "out.h5.recipe.json"}));
  // The report's layers have the formats that were chosen.
  for (const MixedGroup& group : report.groups) {
    for (const LayerReport& layer : report.quantize.layers) {
      if (std::find(group.linears.begin(), group.linears.end(), layer.name) ==
          group.linears.end()) {
        continue;
      }
      EXPECT_EQ(layer.qformat, options_.formats[group.chosen]) << layer.name;
    }
  }
  QuantizeOptions again = options_.quantize;
  again.qformat = "fp8";
  again.output = dir_ / "again.h5";
  again.recipe = report.recipe;
  EXPECT_EQ(quantize(again, {}).sha256, report.quantize.sha256);
  const auto json = nlohmann::json::parse(to_json(report));
  EXPECT_EQ(json.at("schema"), "pare.mixed/1");
  EXPECT_EQ(json.at("groups").size(), report.groups.size());
}

TEST_F(MixedPrecision, MoreBitsAreSpentOnLessDivergence) {
  options_.target_bits = 5.1;
  options_.quantize.output = dir_ / "small.h5";
  const MixedReport small = quantize_mixed(options_, {});
  options_.target_bits = 7.5;
  options_.quantize.output = dir_ / "large.h5";
  const MixedReport large = quantize_mixed(options_, {});
  EXPECT_LT(small.bits, large.bits);
  EXPECT_LT(large.predicted_kl, small.predicted_kl);
  EXPECT_LT(large.measured_kl.value, small.measured_kl.value);
}

TEST_F(MixedPrecision, ALossBudgetTakesTheSmallestPlanThatPasses) {
  options_.max_loss = 10;  // anything passes
  const MixedReport loose = quantize_mixed(options_, {});
  EXPECT_EQ(loose.trials, 1);
  for (const MixedGroup& group : loose.groups) EXPECT_EQ(group.chosen, 0U);
  options_.quantize.output = dir_ / "strict.h5";
  // A trained model, which cannot but lose: both formats are of four bits.
  options_.quantize.model = PARE_SOURCE_DIR "/demo/model";
  options_.formats = {"int4_wo", "mxfp4_wo"};
  options_.max_loss = 1e-6;
  EXPECT_THAT(failure(), HasSubstr("no plan keeps max_loss"));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "strict.h5"));
}

TEST_F(MixedPrecision, WhatCannotBeIsRefusedAndNothingIsLeft) {
  options_.target_bits = 2;
  EXPECT_THAT(failure(), HasSubstr("below the smallest plan"));
  options_.target_bits = 0;
  EXPECT_THAT(failure(), HasSubstr("needs target_bits or max_loss"));
  options_.target_bits = 6;
  options_.formats = {"fp8"};
  EXPECT_THAT(failure(), HasSubstr("at least two formats"));
  options_.formats = {"fp8", "fp8"};
  EXPECT_THAT(failure(), HasSubstr("named twice"));
  options_.formats = {"fp8", "int5"};
  EXPECT_THAT(failure(), HasSubstr("int5"));
  EXPECT_EQ(list_folder(dir_.path()), std::vector<std::string>{"model"});
}

}  // namespace
}  // namespace pare::testing
