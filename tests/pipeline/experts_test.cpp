// Experts one by one: what they were calibrated on, which of them nobody chose, their routers, and
// jobs that stop between two of them.
#include <cmath>
#include <filesystem>
#include <map>

#include "core/tensor_view.h"
#include "formats/weight_source.h"
#include "kernels/codec.h"
#include "tests/pipeline/architecture_fixture.h"
#include "tests/support/model_configs.h"

namespace pare::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class Experts : public ArchitectureTest {
 protected:
  static constexpr int64_t kWindows = 8;
  static constexpr int64_t kLength = 64;
  static constexpr int64_t kTokens = kWindows * kLength;

  // Layer 0 is dense; in the others each token chooses three experts.
  static nlohmann::json config(int layers = 3, int experts = 8) {
    nlohmann::json json = nlohmann::json::parse(model_config("DeepSeekPlainQueries").json);
    json["num_hidden_layers"] = layers;
    json["n_routed_experts"] = experts;
    json["num_experts_per_tok"] = 3;
    return json;
  }

  // Expert 5 of each layer is never chosen.
  void use_with_lonely_expert() {
    MemorySource source = random_model(config(), kModelSeed);
    for (const std::string& name : source.names()) {
      if (name.ends_with("e_score_correction_bias")) source.values(name)[5] = -100;
    }
    use(source, kWindows, kLength);
  }

  static std::map<std::string, std::vector<ExpertReport>> by_layer(const QuantizeReport& report) {
    std::map<std::string, std::vector<ExpertReport>> layers;
    for (const ExpertReport& expert : report.experts) {
      layers[expert.name.substr(0, expert.name.rfind('.'))].push_back(expert);
    }
    return layers;
  }

  static std::vector<std::string> warnings_about(const QuantizeReport& report,
                                                 const std::string& part) {
    std::vector<std::string> found;
    for (const std::string& warning : report.warnings) {
      if (warning.find(part) != std::string::npos) found.push_back(warning);
    }
    return found;
  }
};

TEST_F(Experts, EveryChoiceOfEveryTokenIsCounted) {
  use(config(), kWindows, kLength);
  const QuantizeReport report = quantize(job_of("a.h5", "int8_sq"), {});
  const auto layers = by_layer(report);
  ASSERT_EQ(layers.size(), 2U);
  int64_t most = 0;
  for (const auto& [name, experts] : layers) {
    ASSERT_EQ(experts.size(), 8U) << name;
    int64_t sum = 0;
    for (size_t i = 0; i < experts.size(); ++i) {
      EXPECT_EQ(experts[i].name, name + "." + std::to_string(i));
      sum += experts[i].tokens;
      most = std::max(most, experts[i].tokens);
      // Those that few chose are filled up to 256 tokens, and others are left alone.
      EXPECT_EQ(experts[i].added, std::max<int64_t>(0, 256 - experts[i].tokens)) << name;
    }
    EXPECT_EQ(sum, 3 * kTokens) << name;
  }
  EXPECT_GT(most, 256) << "no expert was left alone: seed " << kModelSeed;
}

TEST_F(Experts, AllTokensForEachWhereAskedFor) {
  use(config(2), kWindows, kLength);
  const QuantizeReport routed = quantize(job_of("a.h5", "int8_sq"), {});
  QuantizeOptions options = job_of("b.h5", "int8_sq");
  options.moe_calib = "all";
  const QuantizeReport all = quantize(options, {});
  EXPECT_TRUE(warnings_about(all, "chosen by few").empty());
  ASSERT_EQ(all.experts.size(), routed.experts.size());
  for (size_t i = 0; i < all.experts.size(); ++i) {
    EXPECT_EQ(all.experts[i].tokens, routed.experts[i].tokens);
    EXPECT_EQ(all.experts[i].added, kTokens - all.experts[i].tokens);
  }
  const std::vector<std::string> different =
      different_tensors(*open_weight_source(all.output), *open_weight_source(routed.output));
  EXPECT_FALSE(different.empty());
  for (const std::string& name : different) EXPECT_THAT(name, HasSubstr(".experts."));
}

TEST_F(Experts, OneThatNobodyChoseIsNamedAndCalibratedAllTheSame) {
  use_with_lonely_expert();
  for (const char* qformat : {"fp8", "int8_sq", "int4_awq"}) {
    SCOPED_TRACE(qformat);
    const QuantizeReport report = quantize(job_of(std::string(qformat) + ".h5", qformat), {});
    const auto layers = by_layer(report);
    ASSERT_EQ(layers.size(), 2U);
    for (const auto& [name, experts] : layers) {
      EXPECT_EQ(experts.at(5).tokens, 0);
      EXPECT_EQ(experts.at(5).added, 256);
      // "model.layers.1.mlp.experts" → "model.layers.1:"
      const std::string block = name.substr(0, name.find(".mlp")) + ":";
      const auto warnings = warnings_about(report, block);
      ASSERT_EQ(warnings.size(), 1U) << block;
      EXPECT_THAT(warnings[0], HasSubstr("no token chose expert 5:"));
    }
    EXPECT_EQ(warnings_about(report, "no token chose").size(), 2U);
    const auto source = open_weight_source(report.output);
    int lonely = 0;
    for (const LayerReport& layer : report.layers) {
      if (layer.name.find(".experts.5.") == std::string::npos) continue;
      ++lonely;
      ASSERT_TRUE(layer.sqnr_db.has_value()) << layer.name;
      EXPECT_GT(*layer.sqnr_db, 5) << layer.name;
      const CompressedWeight weight = source->compressed(layer.name + ".weight");
      EXPECT_EQ(weight.input_scale > 0, qformat != std::string("int4_awq")) << layer.name;
      std::vector<float> values(static_cast<size_t>(weight.out_features * weight.in_features));
      dequantize_rows(weight, 0, weight.out_features, values);
      EXPECT_TRUE(std::isfinite(absmax(values))) << layer.name;
      EXPECT_GT(absmax(values), 0) << layer.name;
    }
    EXPECT_EQ(lonely, 2 * 3);
  }
}

TEST_F(Experts, RoutersStayUnlessNamed) {
  for (const char* name : {"Mixtral", "DeepSeek"}) {
    SCOPED_TRACE(name);
    use_config(name);
    std::vector<std::string> routers;
    for (const BlockGraph& block : graph_.blocks) {
      for (const Op& op : block.ops) {
        if (block.experts && op.kind == OpKind::kLinear && op.linear.wide) {
          routers.push_back(block.full_name(op));
        }
      }
    }
    ASSERT_FALSE(routers.empty());
    const auto formats = [&](const QuantizeOptions& options) {
      const QuantizeReport report = quantize(options, {});
      const auto source = open_weight_source(report.output);
      std::map<std::string, std::string> found;
      for (const LayerReport& layer : report.layers) {
        EXPECT_EQ(source->is_compressed(layer.name + ".weight"), layer.qformat != "bf16");
        found[layer.name] = layer.qformat;
      }
      return found;
    };
    QuantizeOptions options = job_of("a.h5", "int8_sq");
    options.force = true;
    auto found = formats(options);
    for (const std::string& router : routers) EXPECT_EQ(found.at(router), "bf16") << router;
    options.overrides = {{"^" + routers[0] + "$", "int8_wo"}};
    found = formats(options);
    EXPECT_EQ(found.at(routers[0]), "int8_wo");
    for (size_t i = 1; i < routers.size(); ++i) EXPECT_EQ(found.at(routers[i]), "bf16");
    fs::remove_all(path("model"));
  }
}

class ExpertResume : public Experts {
 protected:
  ExpertResume() { use(config(3, 4), 2, 24); }

  QuantizeOptions job_with_folder() const {
    QuantizeOptions options = job_of("out.h5", "int4_awq");
    options.work_dir = path("work");
    return options;
  }

  // Layer 0 is piece 0; layer 1 is piece 1, its experts 2 … 5; layer 2 is 6, its experts 7 … 10.
  void interrupt_after(int piece) const {
    const std::string done = path("work/layer-0000" + std::to_string(piece) + ".json");
    Callbacks callbacks;
    callbacks.cancelled = [=] { return fs::exists(done); };
    EXPECT_EQ(failure_of(job_with_folder(), callbacks).code, ErrorCode::kInterrupted);
    ASSERT_TRUE(fs::exists(done));
    EXPECT_FALSE(fs::exists(path("out.h5")));
  }
};

TEST_F(ExpertResume, GivesTheBytesAndReportsOfARunInOneGo) {
  const QuantizeReport whole = quantize(job_of("whole.h5", "int4_awq"), {});
  ASSERT_EQ(whole.experts.size(), 8U);
  for (const int piece : {1, 3, 8}) {
    SCOPED_TRACE(piece);
    interrupt_after(piece);
    QuantizeOptions options = job_with_folder();
    options.resume = true;
    options.threads = 3;
    const QuantizeReport report = quantize(options, {});
    EXPECT_EQ(report.sha256, whole.sha256);
    EXPECT_EQ(report.warnings, whole.warnings);
    ASSERT_EQ(report.experts.size(), whole.experts.size());
    for (size_t i = 0; i < whole.experts.size(); ++i) {
      EXPECT_EQ(report.experts[i].name, whole.experts[i].name);
      EXPECT_EQ(report.experts[i].tokens, whole.experts[i].tokens);
      EXPECT_EQ(report.experts[i].added, whole.experts[i].added);
    }
    ASSERT_EQ(report.layers.size(), whole.layers.size());
    for (size_t i = 0; i < whole.layers.size(); ++i) {
      EXPECT_EQ(report.layers[i].name, whole.layers[i].name);
      EXPECT_EQ(report.layers[i].sqnr_db, whole.layers[i].sqnr_db);
    }
    EXPECT_FALSE(fs::exists(path("work")));
    fs::remove(path("out.h5"));
  }
}

TEST_F(ExpertResume, FinishedExpertsAreNotMadeAgain) {
  interrupt_after(3);
  const auto before = fs::last_write_time(path("work/layer-00002.h5"));
  Callbacks callbacks;
  callbacks.cancelled = [&] { return fs::exists(path("work/layer-00005.json")); };
  QuantizeOptions options = job_with_folder();
  options.resume = true;
  EXPECT_EQ(failure_of(options, callbacks).code, ErrorCode::kInterrupted);
  EXPECT_EQ(fs::last_write_time(path("work/layer-00002.h5")), before);
}

TEST_F(ExpertResume, OfAJobWithOtherTokensForExpertsIsRefused) {
  interrupt_after(2);
  QuantizeOptions options = job_with_folder();
  options.resume = true;
  options.moe_calib = "all";
  const Failure failure = failure_of(options);
  EXPECT_EQ(failure.code, ErrorCode::kUsage);
  EXPECT_THAT(failure.message, HasSubstr("another job"));
}

}  // namespace
}  // namespace pare::testing
