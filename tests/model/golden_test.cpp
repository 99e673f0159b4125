// Logits of reference implementations, computed in FP32 and in BF16.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "formats/safetensors.h"
#include "pare/evaluate.h"
#include "tests/model/random_model.h"

namespace pare {
namespace {

class Golden : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(folder())) {
      GTEST_SKIP() << "the reference data is not here: " << folder();
    }
  }
  std::string folder() const { return std::string(PARE_REFERENCE_DIR) + "/golden/" + GetParam(); }
  std::string file() const { return folder() + "/golden.safetensors"; }
};

INSTANTIATE_TEST_SUITE_P(Llamas, Golden,
                         ::testing::Values("llama", "llama-rope3-tied", "llama-bias-headdim",
                                           "mistral-swa", "qwen2"),
                         [](const auto& chosen) {
                           std::string name = chosen.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST_P(Golden, F32IsTheReferenceToRounding) {
  const VerifyReport report = verify(file(), folder(), "fp32", 1, {});
  EXPECT_GT(report.positions, 0);
  EXPECT_LE(report.rel_l2, 1e-5);
  EXPECT_EQ(report.argmax_agreement, 1.0);
}

TEST_P(Golden, Bf16IsAsGoodAsTheReferencesOwn) {
  const SafetensorsFile golden = SafetensorsFile::open(file());
  const double theirs =
      testing::relative_error(to_f32(golden.get("logits_bf16_run"), "logits_bf16_run"),
                              to_f32(golden.get("logits"), "logits"));
  ASSERT_GT(theirs, 0.0);
  const VerifyReport report = verify(file(), folder(), "bf16", 2, {});
  EXPECT_GT(report.rel_l2, 0.0) << "this cannot have been BF16";
  EXPECT_LE(report.rel_l2, 1.5 * theirs);
  RecordProperty("ours_over_theirs", std::to_string(report.rel_l2 / theirs));
}

TEST_P(Golden, ThreadsDoNotChangeTheReport) {
  EXPECT_EQ(to_json(verify(file(), folder(), "bf16", 1, {})),
            to_json(verify(file(), folder(), "bf16", 2, {})));
}

}  // namespace
}  // namespace pare
