// What a job will do is decided, checked and shown before it begins.
#include <algorithm>
#include <filesystem>
#include <functional>

#include "formats/weight_source.h"
#include "tests/pipeline/pipeline_fixture.h"

namespace pare::testing {
namespace {

using ::testing::HasSubstr;

class Plan : public PipelineTest {
 protected:
  Plan() { write({}); }

  Failure failure(const std::function<void(QuantizeOptions&)>& change) const {
    QuantizeOptions options = job("out.h5", "int4_awq");
    change(options);
    const Failure found = failure_of(options);
    EXPECT_FALSE(std::filesystem::exists(path("out.h5")));
    return found;
  }

  std::string format_of(const QuantizeReport& report, const std::string& ending) const {
    for (const LayerReport& layer : report.layers) {
      if (layer.name.ends_with(ending)) return layer.qformat;
    }
    return "no layer " + ending;
  }
};

TEST_F(Plan, ExcludeAndOverrideChooseByName) {
  QuantizeOptions options = job("out.h5", "int4_awq");
  options.overrides = {{"layers\\.0\\.", "int8_sq"}, {"down_proj$", "fp8"}};
  options.exclude = {"layers\\.1\\.self_attn\\.[qk]_proj$"};
  const QuantizeReport report = quantize(options, {});
  EXPECT_EQ(format_of(report, "0.mlp.up_proj"), "int8_sq");
  EXPECT_EQ(format_of(report, "0.mlp.down_proj"), "fp8") << "later overrides win";
  EXPECT_EQ(format_of(report, "1.mlp.down_proj"), "fp8");
  EXPECT_EQ(format_of(report, "1.mlp.up_proj"), "int4_awq");
  EXPECT_EQ(format_of(report, "1.self_attn.q_proj"), "bf16");
  const auto model = open_weight_source(options.model);
  const auto output = open_weight_source(report.output);
  const std::string kept = "model.layers.1.self_attn.k_proj.weight";
  ASSERT_FALSE(output->is_compressed(kept));
  EXPECT_TRUE(std::ranges::equal(output->dense(kept).bytes, model->dense(kept).bytes));
}

TEST_F(Plan, PatternsThatMatchNothingOrAreNoneAreRefused) {
  Failure found = failure([](auto& options) { options.exclude = {"lm_haed"}; });
  EXPECT_EQ(found.code, ErrorCode::kUsage);
  EXPECT_THAT(found.message, AllOf(HasSubstr("lm_haed"), HasSubstr("model.layers.0.")));
  found = failure([](auto& options) { options.overrides = {{"q_porj", "fp8"}}; });
  EXPECT_EQ(found.code, ErrorCode::kUsage);
  EXPECT_THAT(found.message, HasSubstr("q_porj"));
  found = failure([](auto& options) { options.exclude = {"(q_proj"}; });
  EXPECT_EQ(found.code, ErrorCode::kUsage);
  EXPECT_THAT(found.message, HasSubstr("(q_proj"));
  found = failure([](auto& options) { options.overrides = {{"[", "fp8"}}; });
  EXPECT_EQ(found.code, ErrorCode::kUsage);
}

TEST_F(Plan, UnknownNamesAreRefusedWithTheKnownOnes) {
  Failure found = failure([](auto& options) { options.qformat = "int5"; });
  EXPECT_EQ(found.code, ErrorCode::kUsage);
  EXPECT_THAT(found.message, AllOf(HasSubstr("int5"), HasSubstr("int4_awq")));
  found = failure([](auto& options) { options.sparsity = "random"; });
  EXPECT_EQ(found.code, ErrorCode::kUsage);
  EXPECT_THAT(found.message, AllOf(HasSubstr("random"), HasSubstr("sparsegpt")));
  found = failure([](auto& options) { options.overrides = {{"q_proj", "int5"}}; });
  EXPECT_EQ(found.code, ErrorCode::kUsage);
}

TEST_F(Plan, LayersThatSkipSparsityStayDenseInTheirFormat) {
  QuantizeOptions options = job("a.h5", "int8_sq", "wanda");
  options.sparsity_skip = {"down_proj$", "layers.0.self_attn"};
  for (const LayerReport& layer : quantize(options, {}).layers) {
    const bool dense = layer.name.ends_with("down_proj") ||
                       layer.name.find("layers.0.self_attn") != std::string::npos;
    EXPECT_EQ(layer.sparsity, dense ? 0 : 0.5) << layer.name;
    EXPECT_EQ(layer.qformat, "int8_sq");
  }
  options = job("b.h5", "int8_sq", "wanda");
  options.sparsity_skip = {"nobody"};
  const Failure found = failure_of(options);
  EXPECT_EQ(found.code, ErrorCode::kUsage);
  EXPECT_THAT(found.message, AllOf(HasSubstr("nobody"), HasSubstr("matches no linear")));
}

TEST_F(Plan, AMethodThatAFormatDoesNotHaveIsRefusedWithThoseItHas) {
  QuantizeOptions options = job("a.h5", "fp8");
  options.algo = "awq";
  Failure failure = failure_of(options);
  EXPECT_EQ(failure.code, ErrorCode::kUsage);
  EXPECT_THAT(failure.message, AllOf(HasSubstr("awq"), HasSubstr("fp8"), HasSubstr("rtn, gptq")));
  options = job("a.h5", "int4_awq");
  options.algo = "smoothquant";
  EXPECT_THAT(failure_of(options).message, HasSubstr("auto, rtn, awq, gptq"));
  // A layer of another format takes what is best for it.
  options.algo = "gptq";
  options.overrides = {{"down_proj", "fp8"}};
  options.dry_run = true;
  for (const LayerReport& layer : quantize(options, {}).layers) {
    const bool down = layer.name.find("down_proj") != std::string::npos;
    EXPECT_EQ(layer.qformat, down ? "fp8" : "int4_awq") << layer.name;
  }
  options.gptaq_alpha = 1.5;
  EXPECT_THAT(failure_of(options).message, HasSubstr("gptaq_alpha"));
}

TEST_F(Plan, OptionsOutOfRangeAreRefusedByName) {
  const std::vector<std::pair<std::string, std::function<void(QuantizeOptions&)>>> wrong = {
      {"awq_block_size", [](auto& options) { options.awq_block_size = -2; }},
      {"awq_block_size", [](auto& options) { options.awq_block_size = 7; }},
      {"calib_size", [](auto& options) { options.calibration_size = 0; }},
      {"calib_seqlen", [](auto& options) { options.calibration_seqlen = -1; }},
      {"calib_size", [](auto& options) { options.calibration_size = int64_t{1} << 60; }},
      {"calib_seqlen", [](auto& options) { options.calibration_seqlen = int64_t{1} << 40; }},
      {"smooth_strength", [](auto& options) { options.smooth_strength = 1.5; }},
      {"sparsegpt_damping", [](auto& options) { options.sparsegpt_damping = 0; }},
      {"threads", [](auto& options) { options.threads = -1; }},
  };
  for (const auto& [name, change] : wrong) {
    const Failure found = failure(change);
    EXPECT_EQ(found.code, ErrorCode::kUsage) << name;
    EXPECT_THAT(found.message, HasSubstr(name));
  }
}

TEST_F(Plan, NothingToDoIsRefused) {
  const Failure found = failure([](auto& options) { options.exclude = {"."}; });
  EXPECT_EQ(found.code, ErrorCode::kUsage);
  EXPECT_THAT(found.message, HasSubstr("nothing to do"));
}

TEST_F(Plan, MissingCalibrationIsRefusedOnlyWhereItIsNeeded) {
  const auto without = [](const std::string& qformat, const std::string& sparsity) {
    return [=](QuantizeOptions& options) {
      options.calibration.clear();
      options.qformat = qformat;
      options.sparsity = sparsity;
    };
  };
  for (const char* qformat : {"fp8", "int8_sq", "int4_awq"}) {
    const Failure found = failure(without(qformat, "none"));
    EXPECT_EQ(found.code, ErrorCode::kUsage) << qformat;
    EXPECT_THAT(found.message, HasSubstr("--calib"));
  }
  EXPECT_EQ(failure(without("int4_wo", "magnitude")).code, ErrorCode::kUsage);
  EXPECT_EQ(failure(without("full_prec", "wanda")).code, ErrorCode::kUsage);
  for (const auto& [qformat, sparsity] :
       {std::pair{"int4_wo", "none"}, {"int8_wo", "none"}, {"full_prec", "magnitude"}}) {
    QuantizeOptions options = job(std::string(qformat) + ".h5", qformat, sparsity);
    options.calibration.clear();
    EXPECT_EQ(quantize(options, {}).calibration_tokens, 0) << qformat;
  }
}

TEST_F(Plan, TooFewCalibrationTokensAreRefusedWithBothNumbers) {
  const Failure found = failure([](auto& options) { options.calibration_size = 9; });
  EXPECT_EQ(found.code, ErrorCode::kInputMalformed);
  EXPECT_THAT(found.message, AllOf(HasSubstr("192"), HasSubstr("216")));
}

TEST_F(Plan, TwoOfFourRefusesAWidthByNameBeforeCalibration) {
  ModelShape shape;
  shape.feed_forward = 90;
  write(shape);
  const auto sparse = [&](QuantizeOptions& options) {
    options.sparsity = "sparsegpt";
    options.calibration = path("missing.ids");
  };
  Failure found = failure(sparse);
  EXPECT_EQ(found.code, ErrorCode::kInputMalformed);
  EXPECT_THAT(found.message, AllOf(HasSubstr("model.layers.0.mlp.down_proj"), HasSubstr("90"),
                                   HasSubstr("--exclude")));
  QuantizeOptions options = job("out.h5", "int4_awq", "sparsegpt");
  options.exclude = {"down_proj"};
  EXPECT_EQ(quantize(options, {}).layers.size(), 14U);
}

TEST_F(Plan, ADryRunWritesNothingAndKnowsTheBytes) {
  for (const char* sparsity : {"none", "sparsegpt"}) {
    for (const auto& [name, remark] : qformats()) {
      if (name == "full_prec" && sparsity == std::string("none")) continue;
      for (const int64_t group : {0, 32, 40}) {
        for (const bool symmetric : {true, false}) {
          QuantizeOptions options = job("out.h5", name, sparsity);
          options.awq_block_size = group;
          options.symmetric = symmetric;
          options.dry_run = true;
          const std::vector<std::string> before = names();
          const QuantizeReport planned = quantize(options, {});
          EXPECT_EQ(names(), before);
          options.dry_run = false;
          const QuantizeReport real = quantize(options, {});
          const auto output = open_weight_source(real.output);
          const std::string what = name + " " + sparsity + " " + std::to_string(group);
          EXPECT_EQ(planned.bytes, real.bytes) << what;
          EXPECT_EQ(real.bytes, output->stored_bytes()) << what;
          EXPECT_EQ(real.file_bytes, static_cast<int64_t>(std::filesystem::file_size(real.output)))
              << what;
          EXPECT_DOUBLE_EQ(planned.bits_per_weight, real.bits_per_weight) << what;
          ASSERT_EQ(planned.layers.size(), real.layers.size());
          std::filesystem::remove(real.output);
          if (name.substr(0, 4) != "int4") break;
        }
        if (name.substr(0, 4) != "int4") break;
      }
    }
  }
}

TEST_F(Plan, OptionsThatNothingUsesAreSaid) {
  QuantizeOptions options = job("out.h5", "fp8");
  options.dry_run = true;
  options.awq_block_size = QuantizeOptions{}.awq_block_size;
  EXPECT_THAT(quantize(options, {}).warnings, ::testing::IsEmpty());
  options.awq_block_size = 64;
  options.explicit_options = {"awq_block_size", "symmetric"};
  options.smooth_strength = 0.5;
  EXPECT_THAT(quantize(options, {}).warnings,
              ::testing::ElementsAre(HasSubstr("awq_block_size has no effect"),
                                     HasSubstr("symmetric has no effect"),
                                     HasSubstr("smooth_strength has no effect")));
  options.overrides = {{"up_proj", "int4_wo"}, {"down_proj", "int8_sq"}};
  EXPECT_THAT(quantize(options, {}).warnings, ::testing::IsEmpty());
}

TEST_F(Plan, ADryRunFailsAsTheRealRunWould) {
  write_file(path("taken.h5"), "something else");
  std::string far;
  for (int i = 0; i < 2000; ++i) far += "999999 ";
  write_file(path("far.ids"), far);
  const std::vector<std::pair<ErrorCode, std::function<void(QuantizeOptions&)>>> wrong = {
      {ErrorCode::kWriteFailed, [&](auto& options) { options.output = path("taken.h5"); }},
      {ErrorCode::kWriteFailed, [&](auto& options) { options.output = path("no/such/out.h5"); }},
      {ErrorCode::kInputMissing, [&](auto& options) { options.calibration = path("none.txt"); }},
      {ErrorCode::kInputMalformed, [](auto& options) { options.calibration_size = 1000000; }},
      {ErrorCode::kInputMalformed, [&](auto& options) { options.calibration = path("far.ids"); }},
  };
  for (const auto& [code, change] : wrong) {
    const auto dry = [&, &edit = change](QuantizeOptions& options) {
      options.dry_run = true;
      edit(options);
    };
    const Failure planned = failure(dry);
    const Failure real = failure(change);
    EXPECT_EQ(planned.code, code) << planned.message;
    EXPECT_EQ(planned.code, real.code);
    EXPECT_EQ(planned.message, real.message);
  }
}

TEST_F(Plan, ARecipeGivesWhatTheOptionsLeaveOpen) {
  write_file(path("recipe.json"), R"({"qformat": "int4_awq", "awq_block_size": 16, "clip": false,
      "calib": ")" + path("calib.ids") +
                                      R"(", "calib_size": 4, "calib_seqlen": 24,
      "overrides": [["down_proj", "int8_wo"]], "exclude": ["q_proj"]})");
  QuantizeOptions by_recipe;
  by_recipe.model = path("model");
  by_recipe.output = path("recipe.h5");
  by_recipe.recipe = path("recipe.json");
  QuantizeOptions by_hand = job("hand.h5", "int4_awq");
  by_hand.awq_block_size = 16;
  by_hand.clip = false;
  by_hand.calibration_size = 4;
  by_hand.overrides = {{"down_proj", "int8_wo"}};
  by_hand.exclude = {"q_proj"};
  const QuantizeReport report = quantize(by_recipe, {});
  EXPECT_EQ(report.sha256, quantize(by_hand, {}).sha256);
  EXPECT_EQ(format_of(report, "0.mlp.down_proj"), "int8_wo");

  by_recipe.qformat = "int8_sq";
  by_recipe.output = path("other.h5");
  EXPECT_EQ(format_of(quantize(by_recipe, {}), "0.mlp.up_proj"), "int8_sq");

  // An option that is meant to have its default says so.
  by_recipe.qformat = "fp8";
  by_recipe.output = path("explicit.h5");
  by_recipe.explicit_options = {"qformat"};
  EXPECT_EQ(format_of(quantize(by_recipe, {}), "0.mlp.up_proj"), "fp8");

  // A recipe that a checkpoint carries makes the same checkpoint again.
  write_file(path("stored.json"), open_weight_source(report.output)->recipe_json());
  QuantizeOptions again = by_hand;
  again = job("again.h5", "fp8");
  again.recipe = path("stored.json");
  again.calibration_size = QuantizeOptions{}.calibration_size;
  again.calibration_seqlen = QuantizeOptions{}.calibration_seqlen;
  again.awq_block_size = QuantizeOptions{}.awq_block_size;
  EXPECT_EQ(quantize(again, {}).sha256, report.sha256);
}

TEST_F(Plan, ADamagedRecipeIsRefusedByItsKey) {
  const auto with = [&](const std::string& text) {
    write_file(path("recipe.json"), text);
    return failure([&](auto& options) { options.recipe = path("recipe.json"); });
  };
  for (const auto& [text, part] : std::vector<std::pair<std::string, std::string>>{
           {R"({"qfromat": "fp8"})", "qfromat"},
           {R"({"calib_size": "many", "qformat": "fp8"})", "calib_size"},
           {R"({"clip": "no"})", "clip"},
           {R"({"clip": 3})", "clip"},
           {R"({"calib_size": true})", "calib_size"},
           {R"({"calib_size": 2.5})", "calib_size"},
           {R"({"seed": -1})", "seed"},
           {R"({"exclude": "q_proj"})", "exclude"},
           {R"({"overrides": [["q_proj"]]})", "overrides"},
           {R"({"overrides": {"q_proj": "fp8"}})", "overrides"},
           {R"({"qformat": null})", "qformat"},
           {"[1]", "JSON object"},
           {"{\"qformat\":", "JSON object"},
           {"", "JSON object"}}) {
    const Failure found = with(text);
    EXPECT_EQ(found.code, ErrorCode::kInputMalformed) << text << ": " << found.message;
    EXPECT_THAT(found.message, AllOf(HasSubstr("recipe.json"), HasSubstr(part))) << text;
  }
  const Failure found = failure([&](auto& options) { options.recipe = path("missing.json"); });
  EXPECT_EQ(found.code, ErrorCode::kInputMissing);
}

}  // namespace
}  // namespace pare::testing
