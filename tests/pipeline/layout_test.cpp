// Files that lay out or name the same tensors differently give the same checkpoint.
#include <filesystem>
#include <utility>

#include "formats/weight_source.h"
#include "tests/pipeline/architecture_fixture.h"
#include "tests/support/model_configs.h"

namespace pare::testing {
namespace {

class Layout : public ArchitectureTest {
 protected:
  // Two files of one model, by the formats that treat tensors most differently.
  void expect_same(const MemorySource& one, const MemorySource& other) {
    ASSERT_NE(one.names(), other.names());
    for (const char* qformat : {"int8_sq", "full_prec"}) {
      SCOPED_TRACE(qformat);
      use(one);
      const QuantizeReport first = quantize(job_of("a.h5", qformat), {});
      use(other);
      const QuantizeReport second = quantize(job_of("b.h5", qformat), {});
      EXPECT_EQ(first.warnings, second.warnings);
      EXPECT_EQ(first.bytes, second.bytes);
      const auto source = open_weight_source(first.output);
      EXPECT_GT(source->names().size(), 10U);
      EXPECT_THAT(different_tensors(*source, *open_weight_source(second.output)),
                  ::testing::IsEmpty());
      std::filesystem::remove(first.output);
      std::filesystem::remove(second.output);
    }
  }

  static MemorySource model(const std::string& name) {
    return random_model(nlohmann::json::parse(model_config(name).json), kModelSeed);
  }
};

TEST_F(Layout, FusedExpertsAreTheSameAsSingleOnes) {
  for (const char* name : {"Mixtral", "QwenThreeMoeMixed", "DeepSeek", "GptOss", "Jamba"}) {
    SCOPED_TRACE(name);
    const MemorySource single = model(name);
    expect_same(single, with_fused_experts(single));
  }
}

TEST_F(Layout, NamesWithoutTheOuterClassAreTheSame) {
  for (const auto& [name, prefix] : {std::pair{"LlamaBiased", "model."},
                                     {"GptTwoByLayer", "transformer."},
                                     {"BloomOldNames", "transformer."},
                                     {"DeepSeek", "model."},
                                     {"MBart", "model."}}) {
    SCOPED_TRACE(name);
    const MemorySource full = model(name);
    expect_same(full, without_prefix(full, prefix));
  }
}

TEST_F(Layout, FusedExpertsUnderShortNamesToo) {
  const MemorySource single = model("Mixtral");
  expect_same(single, without_prefix(with_fused_experts(single), "model."));
}

}  // namespace
}  // namespace pare::testing
