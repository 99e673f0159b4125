// Models whose tables of positions end, and tensors that a model does not know.
#include <gmock/gmock.h>

#include "pare/error.h"
#include "tests/pipeline/architecture_fixture.h"
#include "tests/support/model_configs.h"

namespace pare::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class Limits : public ArchitectureTest {
 protected:
  // A model with `rows` positions, and calibration of `length` tokens a window or side of a pair.
  void use_table(const std::string& name, int64_t rows, int64_t length) {
    nlohmann::json config = nlohmann::json::parse(model_config(name).json);
    config[name == "GptTwoByLayer" ? "n_positions" : "max_position_embeddings"] = rows;
    use(config, 3, length);
  }

  std::string refusal(const QuantizeOptions& options) {
    try {
      quantize(options, {});
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUsage) << error.what();
      return error.what();
    }
    ADD_FAILURE() << "no error";
    return "";
  }
};

TEST_F(Limits, WindowsBeyondTheTableAreRefusedBeforeTheWork) {
  for (const char* name : {"Opt", "GptTwoByLayer", "Bart"}) {
    SCOPED_TRACE(name);
    const bool pairs = name == std::string("Bart");
    use_table(name, 24, 24);
    EXPECT_FALSE(quantize(job_of(std::string(name) + ".h5", "int8_sq"), {}).sha256.empty());
    use_table(name, 23, 24);
    QuantizeOptions options = job_of(std::string(name) + "-refused.h5", "int8_sq");
    for (const bool dry_run : {true, false}) {
      options.dry_run = dry_run;
      EXPECT_THAT(refusal(options), AllOf(HasSubstr(pairs ? "pair is 24" : "calib_seqlen is 24"),
                                          HasSubstr("23 tokens"), HasSubstr(path("model"))));
    }
    EXPECT_FALSE(std::filesystem::exists(options.output));
  }
}

TEST_F(Limits, PairsThatAreShortNeedNoLongTable) {
  use_table("Bart", 30, 24);
  QuantizeOptions options = job_of("short.h5", "int8_sq");
  options.calibration_seqlen = 512;
  EXPECT_FALSE(quantize(options, {}).sha256.empty());
}

TEST_F(Limits, TensorsThatNothingUsesAreOneWarning) {
  MemorySource source = random_model(nlohmann::json::parse(model_config("Mixtral").json), 3);
  source.set("model.layers.0.extra", {{1}, {2.0F}});
  use(source);
  EXPECT_THAT(quantize(job_of("one.h5", "fp8"), {}).warnings,
              ::testing::Contains(AllOf(HasSubstr("copied"), HasSubstr("1 tensor:"),
                                        HasSubstr("model.layers.0.extra"))));
  for (int i = 0; i < 10; ++i) source.set("other." + std::to_string(i), {{1}, {2.0F}});
  use(source);
  const QuantizeReport report = quantize(job_of("many.h5", "fp8"), {});
  std::vector<std::string> about;
  for (const std::string& warning : report.warnings) {
    if (warning.find("copied") != std::string::npos) about.push_back(warning);
  }
  EXPECT_THAT(about, ElementsAre(AllOf(HasSubstr("11 tensors:"), HasSubstr("other.6"),
                                       HasSubstr("and 3 more"), Not(HasSubstr("other.7")))));
  EXPECT_TRUE(open_weight_source(report.output)->contains("other.9"));
}

}  // namespace
}  // namespace pare::testing
