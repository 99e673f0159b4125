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

  // The recipe says everything but where the model and the text are.
  QuantizeReport again_by_recipe(const MixedReport& report) const {
    QuantizeOptions again;
    again.model = options_.quantize.model;
    again.calibration = options_.quantize.calibration;
    again.output = dir_ / "again.h5";
    again.recipe = report.recipe;
    return quantize(again, {});
  }
  static double stored_bits(const MixedReport& report) {
    int64_t bits = 0;
    int64_t weights = 0;
    for (const MixedGroup& group : report.groups) {
      for (const LayerReport& layer : report.quantize.layers) {
        if (std::find(group.linears.begin(), group.linears.end(), layer.name) ==
            group.linears.end()) {
          continue;
        }
        bits += 8 * layer.bytes;
        weights += layer.shape[0] * layer.shape[1];
      }
    }
    return static_cast<double>(bits) / static_cast<double>(weights);
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
      EXPECT_EQ(layer.qformat, report.alternatives[group.chosen].qformat) << layer.name;
    }
  }
  EXPECT_EQ(again_by_recipe(report).sha256, report.quantize.sha256);
  EXPECT_NEAR(report.bits, stored_bits(report), 1e-9);
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

TEST_F(MixedPrecision, LayersThatLoseMostStayDense) {
  options_.formats = {"int8_sq"};
  options_.quantize.sparsity = "sparsegpt";
  options_.choose_sparsity = true;
  options_.target_bits = 7.5;  // between all sparse, about 5, and all dense, about 8
  const MixedReport report = quantize_mixed(options_, {});
  ASSERT_EQ(report.alternatives.size(), 2U);
  EXPECT_LE(report.bits, 7.5);
  std::set<bool> chosen;
  for (const MixedGroup& group : report.groups) {
    EXPECT_LT(group.bits[0], group.bits[1]);
    const LayerChoice& choice = report.alternatives[group.chosen];
    chosen.insert(choice.sparse);
    for (const LayerReport& layer : report.quantize.layers) {
      if (std::find(group.linears.begin(), group.linears.end(), layer.name) ==
          group.linears.end()) {
        continue;
      }
      EXPECT_EQ(layer.sparsity, choice.sparse ? 0.5 : 0) << layer.name;
      EXPECT_EQ(layer.qformat, "int8_sq");
    }
  }
  EXPECT_EQ(chosen.size(), 2U) << "some of each";
  EXPECT_EQ(again_by_recipe(report).sha256, report.quantize.sha256);
}

TEST_F(MixedPrecision, SparsityUnderALossBudget) {
  options_.quantize.model = PARE_SOURCE_DIR "/demo/model";
  options_.formats = {"full_prec"};
  options_.quantize.calibration_size = 16;
  options_.verify_windows = 16;
  options_.quantize.sparsity = "magnitude";
  options_.choose_sparsity = true;
  options_.max_loss = 0.3;
  const MixedReport report = quantize_mixed(options_, {});
  const size_t sparse =
      static_cast<size_t>(std::count_if(report.groups.begin(), report.groups.end(),
                                        [](const MixedGroup& group) { return group.chosen == 0; }));
  EXPECT_GT(sparse, 0U) << "an untouched model is not what was asked for";
  EXPECT_LT(sparse, report.groups.size()) << "2:4 everywhere loses more";
  ASSERT_TRUE(report.ppl_ratio.interval);
  EXPECT_LE(report.ppl_ratio.interval->upper, 1.3);
  options_.quantize.output = dir_ / "loose.h5";
  options_.max_loss = 100;
  for (const MixedGroup& group : quantize_mixed(options_, {}).groups) EXPECT_EQ(group.chosen, 0U);
}

TEST_F(MixedPrecision, BothBudgetsHold) {
  options_.target_bits = 6.5;
  options_.max_loss = 10;
  EXPECT_LE(quantize_mixed(options_, {}).bits, 6.5);
  options_.formats = {"int8_sq", "fp8"};
  options_.quantize.output = dir_ / "eight.h5";
  EXPECT_THAT(failure(), HasSubstr("below the smallest plan"));
}

TEST_F(MixedPrecision, ARecipeSaysTheRestAndNotTheFormats) {
  write_file(dir_ / "recipe.json",
             R"({"qformat": "int8_sq", "awq_block_size": 64, "clip": false})");
  options_.quantize.awq_block_size = QuantizeOptions{}.awq_block_size;
  options_.quantize.recipe = dir_ / "recipe.json";
  options_.formats = {"fp8", "int4_awq"};
  options_.target_bits = 6.5;
  const MixedReport report = quantize_mixed(options_, {});
  for (const LayerReport& layer : report.quantize.layers) EXPECT_NE(layer.qformat, "int8_sq");
  for (const MixedGroup& group : report.groups) {
    const auto first =
        std::find_if(report.quantize.layers.begin(), report.quantize.layers.end(),
                     [&](const LayerReport& layer) { return layer.name == group.linears[0]; });
    if (first->qformat != "int4_awq") continue;
    EXPECT_EQ(first->algorithm.find("clip"), std::string::npos) << first->algorithm;
  }
  write_file(dir_ / "recipe.json", R"({"overrides": [["down_proj", "fp8"]]})");
  options_.quantize.output = dir_ / "other.h5";
  EXPECT_THAT(failure(), HasSubstr("makes its own overrides"));
}

TEST_F(MixedPrecision, AFolderMayHaveASlashAtItsEnd) {
  options_.target_bits = 6.5;
  options_.quantize.output = (dir_ / "out") + "/";
  const MixedReport report = quantize_mixed(options_, {});
  EXPECT_EQ(report.recipe, dir_ / "out.recipe.json");
  EXPECT_EQ(list_folder(dir_.path()),
            (std::vector<std::string>{"model", "out", "out.recipe.json"}));
}

TEST_F(MixedPrecision, NothingIsReplacedUnasked) {
  options_.target_bits = 6.5;
  options_.recipe_output = dir_ / "plan.json";
  write_file(dir_ / "plan.json", "precious");
  EXPECT_THAT(failure(), HasSubstr("plan.json"));
  EXPECT_EQ(read_file(dir_ / "plan.json"), "precious");
  options_.recipe_output = dir_ / "missing/plan.json";
  EXPECT_THAT(failure(), HasSubstr("missing"));
  options_.recipe_output.clear();
  options_.quantize.save_stats = dir_ / "stats.h5";
  write_file(dir_ / "stats.h5", "precious");
  EXPECT_THAT(failure(), HasSubstr("stats.h5"));
  EXPECT_EQ(list_folder(dir_.path()), (std::vector<std::string>{"model", "plan.json", "stats.h5"}));
}

TEST_F(MixedPrecision, WhatCannotBeIsRefusedAndNothingIsLeft) {
  options_.target_bits = 2;
  EXPECT_THAT(failure(), HasSubstr("below the smallest plan"));
  options_.target_bits = 0;
  EXPECT_THAT(failure(), HasSubstr("needs target_bits or max_loss"));
  options_.target_bits = 6;
  options_.formats = {"fp8"};
  EXPECT_THAT(failure(), HasSubstr("at least two formats"));
  options_.choose_sparsity = true;
  EXPECT_THAT(failure(), HasSubstr("needs a sparsity"));
  options_.choose_sparsity = false;
  options_.formats = {"fp8", "fp8"};
  EXPECT_THAT(failure(), HasSubstr("named twice"));
  options_.formats = {"fp8", "int5"};
  EXPECT_THAT(failure(), HasSubstr("int5"));
  options_.formats = {"fp8", "int4_awq"};
  options_.quantize.algo = "awq";
  EXPECT_THAT(failure(), HasSubstr("algo auto or rtn"));
  options_.quantize.algo = "auto";
  EXPECT_EQ(list_folder(dir_.path()), std::vector<std::string>{"model"});
}

}  // namespace
}  // namespace pare::testing
