// Mixtures, encoder-decoders and scans give the same bytes for any number of threads, and for any
// number of windows that run between two updates of the statistics.
#include "tests/pipeline/architecture_fixture.h"
#include "tests/support/model_configs.h"

namespace pare::testing {
namespace {

struct Case {
  std::string model;
  std::string qformat;
  std::string sparsity = "none";
  std::string moe_calib = "routed";
};

void PrintTo(const Case& one, std::ostream* out) { *out << one.model << " " << one.qformat; }

class SameBytesEvery : public ArchitectureTest, public ::testing::WithParamInterface<Case> {
 protected:
  QuantizeOptions job_with(const std::string& output) const {
    QuantizeOptions options = job_of(output, GetParam().qformat, GetParam().sparsity);
    options.moe_calib = GetParam().moe_calib;
    return options;
  }
};

INSTANTIATE_TEST_SUITE_P(
    Models, SameBytesEvery,
    ::testing::Values(Case{"DeepSeek", "int8_sq"}, Case{"DeepSeek", "int4_awq", "sparsegpt"},
                      Case{"DeepSeek", "int4_awq", "none", "all"}, Case{"GptOss", "fp8"},
                      Case{"MBart", "int8_sq"}, Case{"MBart", "full_prec", "sparsegpt"},
                      Case{"TFiveGated", "int4_awq"}, Case{"MambaBiased", "int8_sq"},
                      Case{"MambaTwo", "int4_awq"}, Case{"Jamba", "int8_sq", "none", "all"}),
    [](const auto& one) {
      return one.param.model + "_" + one.param.qformat + "_" + one.param.sparsity + "_" +
             one.param.moe_calib;
    });

TEST_P(SameBytesEvery, ForAnyThreads) {
  use_config(GetParam().model, 5, 24);
  QuantizeOptions options = job_with("a.h5");
  const QuantizeReport first = quantize(options, {});
  for (const int threads : {1, 3}) {
    options.threads = threads;
    options.output = path("b" + std::to_string(threads) + ".h5");
    const QuantizeReport report = quantize(options, {});
    EXPECT_EQ(report.sha256, first.sha256) << threads << " threads";
    EXPECT_EQ(report.warnings, first.warnings);
  }
}

// Windows so long that a batch has as many of them as there are threads.
class LongWindows : public SameBytesEvery {};

INSTANTIATE_TEST_SUITE_P(Models, LongWindows,
                         ::testing::Values(Case{"DeepSeek", "int4_awq"},
                                           Case{"MambaTwo", "int8_sq"}, Case{"TFive", "int8_sq"}),
                         [](const auto& one) { return one.param.model; });

TEST_P(LongWindows, ForAnyBatch) {
  use_config(GetParam().model, 3, 5000);
  QuantizeOptions options = job_with("a.h5");
  options.threads = 1;
  const QuantizeReport first = quantize(options, {});
  options.threads = 3;
  options.output = path("b.h5");
  EXPECT_EQ(quantize(options, {}).sha256, first.sha256);
}

}  // namespace
}  // namespace pare::testing
