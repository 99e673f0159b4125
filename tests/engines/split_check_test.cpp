// Which models and how many ranks the check of an exported folder takes for splittable: by the
// wiring, not by names.
#include "tests/engines/tensorrt_llm_fixture.h"
#include "tests/support/error_text.h"
#include "tests/support/model_configs.h"

namespace pare::testing {
namespace {

using nlohmann::json;

class SplitCheck : public TensorRtLlmTest {
 protected:
  /// What is refused of the model, not quantized, with so many ranks.
  std::vector<CheckFinding> refused(int64_t tp_size) const {
    return check_folder({.folder = path("model"), .tp_size = tp_size}).refusals;
  }

  /// The same of a checkpoint in a form.
  CheckReport exported_report(const QuantizeOptions& options, const std::string& form,
                              int64_t tp_size) const {
    ExportOptions exporting;
    exporting.checkpoint = quantize(options, {}).output;
    exporting.format = form;
    exporting.output = path("engine");
    exporting.force = true;
    export_to(exporting, {});
    return check_folder({.folder = path("engine"), .tp_size = tp_size});
  }

  static bool names(const std::vector<CheckFinding>& findings, const std::string& module) {
    return std::any_of(findings.begin(), findings.end(), [&](const CheckFinding& finding) {
      return finding.subject.find(module) != std::string::npos;
    });
  }
};

TEST_F(SplitCheck, KeyHeadsOfOneLinearAreRepeated) {
  json config = json::parse(model_config("BigCodeOneKeyHead").json);
  config["n_embd"] = 48;
  config["n_head"] = 12;  // 48 queries, 4 keys, 4 values in one linear
  config["n_inner"] = 96;
  use(config);
  for (const int64_t ranks : {2, 3, 4, 6, 12}) {
    EXPECT_TRUE(refused(ranks).empty()) << ranks << refused(ranks)[0].message;
  }
  EXPECT_TRUE(names(refused(5), "c_attn"));
  EXPECT_TRUE(names(refused(5), "c_fc"));
}

TEST_F(SplitCheck, LatentVectorsAreWholeOnEveryRank) {
  use_config("DeepSeek");
  const std::vector<CheckFinding> found = refused(2);
  EXPECT_FALSE(names(found, "q_a_proj"));
  EXPECT_FALSE(names(found, "kv_a_proj_with_mqa"));
}

TEST_F(SplitCheck, PartsOfOneLinearAreCutByThemselves) {
  json config = json::parse(model_config("Phi").json);
  config["hidden_size"] = 256;
  config["head_dim"] = 64;
  config["num_attention_heads"] = 4;
  config["num_key_value_heads"] = 2;
  config["intermediate_size"] = 384;
  config["partial_rotary_factor"] = 1.0;
  use(config);
  QuantizeOptions options = job_of("q.h5", "fp8_block");
  options.force = true;
  // 256 queries, 128 keys, 128 values; gate and up 384 each.
  const CheckReport whole = exported_report(options, "compressed-tensors", 1);
  EXPECT_TRUE(whole.refusals.empty()) << to_json(whole);
  EXPECT_FALSE(names(whole.remarks, "kernels"));
  const CheckReport halves = check_folder({.folder = path("engine"), .tp_size = 2});
  EXPECT_TRUE(names(halves.refusals, "qkv_proj")) << to_json(halves);
  EXPECT_TRUE(names(halves.refusals, "gate_up_proj")) << to_json(halves);
  config["num_key_value_heads"] = 1;
  use(config);
  EXPECT_TRUE(names(exported_report(options, "compressed-tensors", 1).remarks, "kernels"));
}

// Experts of a layer are one linear for an engine, and so are latent projections.
TEST_F(SplitCheck, ExpertsAreAlike) {
  use_config("Mixtral");
  QuantizeOptions options = job_of("q.h5", "fp8_pc_pt");
  options.force = true;
  EXPECT_TRUE(exported_report(options, "compressed-tensors", 1).refusals.empty());
  options.exclude = {"experts\\.0\\.w2"};
  EXPECT_THAT(error_text([&] { exported_report(options, "compressed-tensors", 1); }),
              ::testing::HasSubstr("run them as one linear"));
  use_config("DeepSeek");
  options.exclude = {"q_a_proj"};
  EXPECT_THAT(error_text([&] { exported_report(options, "compressed-tensors", 1); }),
              ::testing::HasSubstr("run them as one linear"));
}

}  // namespace
}  // namespace pare::testing
