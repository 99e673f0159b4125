// Plans for models whose layers cannot all be probed.
#include <gmock/gmock.h>

#include "pare/mixed_precision.h"
#include "tests/pipeline/architecture_fixture.h"
#include "tests/support/model_configs.h"

namespace pare::testing {
namespace {

class MixedArchitectures : public ArchitectureTest {
 protected:
  MixedOptions options(const std::string& output) const {
    MixedOptions mixed;
    mixed.quantize = job_of(output, "fp8");
    mixed.formats = {"int4_wo", "int8_wo"};
    mixed.target_bits = 7.2;
    mixed.probe_windows = 2;
    mixed.verify_windows = 2;
    return mixed;
  }
};

// Experts are not probed: what they lose is estimated, or all would get the smallest format.
TEST_F(MixedArchitectures, ExpertsGetTheirShare) {
  nlohmann::json config = nlohmann::json::parse(model_config("DeepSeekPlainQueries").json);
  config["n_routed_experts"] = 8;
  config["num_experts_per_tok"] = 3;
  use(config, 8, 64);
  const MixedReport report = quantize_mixed(options("out.h5"), {});
  EXPECT_LE(report.bits, 7.2);
  int larger = 0;
  int experts = 0;
  for (const MixedGroup& group : report.groups) {
    if (group.linears[0].find("experts.") == std::string::npos ||
        group.linears[0].find("shared_experts.") != std::string::npos) {
      continue;
    }
    ++experts;
    EXPECT_GT(group.loss[0], group.loss[1]) << group.linears[0];
    larger += group.chosen == 1 ? 1 : 0;
  }
  EXPECT_GT(larger, 0);
  EXPECT_LT(larger, experts);
}

TEST_F(MixedArchitectures, AnEncoderIsRefusedBeforeAnyWork) {
  use_config("TFive");
  try {
    quantize_mixed(options("out.h5"), {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("encoder"));
  }
  EXPECT_THAT(names(), ::testing::Not(::testing::Contains("out.h5")));
}

}  // namespace
}  // namespace pare::testing
