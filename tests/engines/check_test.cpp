// What the check of an exported folder names, one damage at a time.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <limits>

#include "formats/safetensors.h"
#include "formats/safetensors_writer.h"
#include "tests/engines/engine_fixture.h"
#include "tests/support/error_text.h"

namespace pare::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

struct StoredCopy {
  DType dtype;
  Shape shape;
  std::vector<std::byte> bytes;
};

class EngineCheck : public EngineTest {
 protected:
  std::string whole(const Scheme& scheme, const std::string& form) {
    return exported(checkpoint(scheme), form).output;
  }

  /// Changes the tensors of path("out").
  template <typename Change>
  void change_tensors(Change change) {
    const std::string file = path("out/model.safetensors");
    std::map<std::string, StoredCopy> copies;
    {
      const SafetensorsFile stored = SafetensorsFile::open(file);
      for (const std::string& name : stored.names()) {
        const TensorView& view = stored.get(name);
        copies[name] = {view.dtype, view.shape, {view.bytes.begin(), view.bytes.end()}};
      }
    }
    change(copies);
    std::map<std::string, TensorView> views;
    for (const auto& [name, copy] : copies) views[name] = {copy.dtype, copy.shape, copy.bytes};
    ::pare::write_safetensors(file, views, {{"format", "pt"}}, /*force=*/true);
  }

  template <typename Change>
  void change_config(Change change, const std::string& name = "config.json") {
    json config = json::parse(read_file(path("out/" + name)));
    change(config);
    write_file(path("out/" + name), config.dump());
  }

  CheckReport report(int64_t tp_size = 1) const {
    return check_folder({.folder = path("out"), .tp_size = tp_size});
  }

  /// One finding at least is about this subject and says this.
  static void expect_refusal(const CheckReport& report, const std::string& subject,
                             const std::string& part) {
    const bool found = std::any_of(report.refusals.begin(), report.refusals.end(),
                                   [&](const CheckFinding& finding) {
                                     return finding.subject.find(subject) != std::string::npos &&
                                            finding.message.find(part) != std::string::npos;
                                   });
    EXPECT_TRUE(found) << "nothing about " << subject << ": " << part << "\n" << to_json(report);
  }
};

TEST_F(EngineCheck, FindsNothingInWhatWasExported) {
  for (const char* form : {"compressed-tensors", "awq", "gptq", "gptq-v2", "modelopt", "dense"}) {
    SCOPED_TRACE(form);
    whole({"int4_awq"}, form);
    const CheckReport found = report();
    EXPECT_TRUE(found.refusals.empty()) << to_json(found);
    EXPECT_EQ(found.quantized_linears, std::string(form) == "dense" ? 0 : 14);
    EXPECT_EQ(json::parse(to_json(found)).at("schema"), "pare.check/1");
  }
}

// Every part of every linear is named by itself, and nothing else is said.
TEST_F(EngineCheck, NamesMissingParts) {
  const std::vector<std::string> linears = {"model.layers.0.self_attn.q_proj",
                                            "model.layers.1.mlp.up_proj"};
  const auto check = [&](const Scheme& scheme, const std::string& form,
                         const std::vector<std::string>& parts) {
    for (const std::string& part : parts) {
      SCOPED_TRACE(form + ": " + part);
      whole(scheme, form);
      change_tensors([&](auto& tensors) {
        for (const std::string& linear : linears) {
          EXPECT_EQ(tensors.erase(linear + "." + part), 1U);
        }
      });
      const CheckReport found = report();
      for (const std::string& linear : linears) expect_refusal(found, linear, "\"" + part + "\"");
      EXPECT_EQ(found.refusals.size(), linears.size()) << to_json(found);
    }
  };
  check({"fp8"}, "compressed-tensors", {"weight", "weight_scale", "input_scale"});
  check({"int4_awq"}, "compressed-tensors", {"weight_packed", "weight_scale", "weight_shape"});
  check({"nvfp4"}, "compressed-tensors", {"weight_global_scale", "input_global_scale"});
  check({"fp8"}, "modelopt", {"weight", "weight_scale", "input_scale"});
  check({"nvfp4"}, "modelopt", {"weight_scale_2"});
  check({"w4a8_awq"}, "modelopt", {"weight_scale_2", "input_scale"});
  check({"int4_awq"}, "awq", {"qweight", "qzeros", "scales"});
  check({"int4_awq"}, "gptq", {"qweight", "qzeros", "scales"});
}

TEST_F(EngineCheck, ReadsWhatModelOptimizerOnceWroteBesideTheConfiguration) {
  whole({"fp8"}, "modelopt");
  change_config([](json& config) { config.erase("quantization_config"); });
  EXPECT_EQ(report().format, "modelopt");
  EXPECT_TRUE(report().refusals.empty()) << to_json(report());
  change_tensors([](auto& tensors) { tensors.erase("model.layers.1.mlp.up_proj.weight_scale"); });
  expect_refusal(report(), "model.layers.1.mlp.up_proj", "weight_scale");
}

// What one finding is about hides no other.
TEST_F(EngineCheck, NamesAllAtOnce) {
  whole({"fp8"}, "compressed-tensors");
  change_tensors([](auto& tensors) {
    tensors.erase("model.layers.1.mlp.up_proj.input_scale");
    tensors.erase("model.norm.weight");
  });
  expect_refusal(report(), "model.layers.1.mlp.up_proj", "input_scale");
  expect_refusal(report(), path("out"), "model.norm.weight");
}

TEST_F(EngineCheck, RefusesCodesWithoutAConfiguration) {
  for (const char* form : {"compressed-tensors", "modelopt"}) {
    whole({"fp8"}, form);
    change_config([](json& config) { config.erase("quantization_config"); });
    std::filesystem::remove(path("out/hf_quant_config.json"));
    const CheckReport found = report();
    EXPECT_EQ(found.format, "dense");
    expect_refusal(found, "model.layers.0.self_attn.q_proj", "no quantization_config");
  }
}

// As the language part of a larger model names them; nothing but the names changes.
TEST_F(EngineCheck, KnowsTensorsByOtherNames) {
  for (const char* form : {"compressed-tensors", "awq", "gptq", "modelopt"}) {
    SCOPED_TRACE(form);
    whole({"int4_awq"}, form);
    const size_t before = report(2).refusals.size();
    const auto rename = [](const std::string& name) { return "language_model." + name; };
    change_tensors([&](auto& tensors) {
      std::map<std::string, StoredCopy> renamed;
      for (auto& [name, copy] : tensors) renamed[rename(name)] = std::move(copy);
      tensors = std::move(renamed);
    });
    change_config([&](json& config) {
      for (json& name : config["quantization_config"]["ignore"]) name = rename(name);
    });
    if (std::filesystem::exists(path("out/hf_quant_config.json"))) {
      change_config(
          [&](json& config) {
            for (json& name : config["quantization"]["exclude_modules"]) name = rename(name);
          },
          "hf_quant_config.json");
    }
    EXPECT_TRUE(report().refusals.empty()) << to_json(report());
    EXPECT_EQ(report(2).refusals.size(), before) << to_json(report(2));
    change_tensors([](auto& tensors) {
      for (auto& [name, copy] : tensors) {
        if (!name.ends_with("up_proj.scales") && !name.ends_with("up_proj.weight_scale")) continue;
        tensors.erase(name);
        return;
      }
    });
    const CheckReport damaged = report();
    ASSERT_EQ(damaged.refusals.size(), 1U) << to_json(damaged);
    expect_refusal(damaged, "language_model.model.layers.0.mlp.up_proj", "scale");
  }
}

// FP8 in blocks as DeepSeek stores it is decoded when it is read; its scales are looked at here.
TEST_F(EngineCheck, LooksAtScalesOfFp8Blocks) {
  const std::string linear = "model.layers.0.mlp.up_proj";
  const auto write_blocks = [&] {
    whole({"fp8_block"}, "compressed-tensors");
    change_tensors([](auto& tensors) {
      std::map<std::string, StoredCopy> renamed;
      for (auto& [name, copy] : tensors) {
        renamed[name.ends_with("weight_scale") ? name + "_inv" : name] = std::move(copy);
      }
      tensors = std::move(renamed);
    });
    change_config([](json& config) {
      config["quantization_config"] = {{"quant_method", "fp8"},
                                       {"fmt", "e4m3"},
                                       {"weight_block_size", {128, 128}},
                                       {"activation_scheme", "dynamic"}};
    });
  };
  write_blocks();
  EXPECT_TRUE(report().refusals.empty()) << to_json(report());
  EXPECT_EQ(report().quantized_linears, 14);
  for (const float bad : {0.0F, -1.0F, std::numeric_limits<float>::quiet_NaN()}) {
    change_tensors([&](auto& tensors) {
      std::memcpy(tensors.at(linear + ".weight_scale_inv").bytes.data(), &bad, sizeof(bad));
    });
    EXPECT_EQ(report().refusals.size(), 1U);
    expect_refusal(report(), linear, "no scale");
  }
  write_blocks();
  change_tensors([&](auto& tensors) { tensors.erase(linear + ".weight_scale_inv"); });
  EXPECT_EQ(report().refusals.size(), 1U) << to_json(report());
  expect_refusal(report(), linear, "weight_scale_inv");
  write_blocks();
  change_config(
      [](json& config) { config["quantization_config"]["modules_to_not_convert"] = {"mlp"}; });
  expect_refusal(report(), linear, "leaves it alone");
}

// Engines may load what pare cannot read: that is no refusal.
TEST_F(EngineCheck, DoesNotJudgeWhatItCannotRead) {
  whole({"fp8"}, "compressed-tensors");
  for (const json& method : {json{{"quant_method", "bitsandbytes"}},
                             json{{"quant_method", "fp8"}, {"activation_scheme", "static"}}}) {
    change_config([&](json& config) { config["quantization_config"] = method; });
    EXPECT_THAT(error_text([&] { report(); }), HasSubstr("not checked"));
  }
  whole({"int4_awq"}, "compressed-tensors");
  change_tensors([](auto& tensors) {
    tensors["model.layers.0.mlp.up_proj.weight_g_idx"] = {
        DType::kI32, {64}, std::vector<std::byte>(256)};
  });
  EXPECT_THAT(error_text([&] { report(); }), HasSubstr("not checked"));
}

TEST_F(EngineCheck, RemarksOnTensorsOfNoModel) {
  whole({"fp8"}, "modelopt");
  EXPECT_TRUE(report().refusals.empty());
  const size_t before = report().remarks.size();
  change_tensors([](auto& tensors) { tensors["model.extra"] = tensors.at("model.norm.weight"); });
  EXPECT_EQ(report().remarks.size(), before + 1);
  std::filesystem::remove(path("out/hf_quant_config.json"));
  EXPECT_TRUE(report().refusals.empty()) << to_json(report());
  EXPECT_EQ(report().remarks.size(), before + 2);
}

TEST_F(EngineCheck, NamesBitsThatDiffer) {
  whole({"int4_awq"}, "gptq");
  change_config([](json& config) { config["quantization_config"]["bits"] = 8; });
  expect_refusal(report(), "model.layers.0", "codes of 4 bits, and quantization_config says 8");
}

TEST_F(EngineCheck, NamesAScaleThatIsNoScale) {
  const std::string linear = "model.layers.0.self_attn.k_proj";
  for (const float bad : {0.0F, -1.0F, std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    whole({"int4_awq"}, "compressed-tensors");
    change_tensors([&](auto& tensors) {
      std::memcpy(tensors.at(linear + ".weight_scale").bytes.data() + 8, &bad, sizeof(bad));
    });
    const CheckReport found = report();
    expect_refusal(found, linear, "weight_scale holds");
    EXPECT_EQ(found.refusals.size(), 1U);  // What is fused with it is not unlike, but unknown.
  }
}

TEST_F(EngineCheck, NamesModulesInNeitherTargetsNorIgnore) {
  whole({"fp8"}, "compressed-tensors");
  change_config([](json& config) { config["quantization_config"]["ignore"] = json::array(); });
  expect_refusal(report(), "lm_head", "has no tensor");
  whole({"int4_awq"}, "awq");
  change_config([](json& config) {
    config["quantization_config"]["modules_to_not_convert"] = {"layers.1.mlp"};
  });
  expect_refusal(report(), "model.layers.1.mlp.gate_proj", "leaves it alone");
  whole({"fp8"}, "modelopt");
  change_config([](json& config) {
    config["quantization_config"]["ignore"] = {"*.0.*", "lm_head"};
  });
  expect_refusal(report(), "model.layers.0.self_attn.q_proj", "leaves it alone");
  expect_refusal(report(), "hf_quant_config.json", "something else");
  whole({"int4_awq"}, "gptq");
  change_config([](json& config) {
    config["quantization_config"]["dynamic"]["-:.*down_proj$"] = json::object();
  });
  expect_refusal(report(), "model.layers.0.mlp.down_proj", "leaves it alone");
}

TEST_F(EngineCheck, NamesShardsThatDiffer) {
  QuantizeOptions options = job("mixed.h5", "int4_awq");
  options.algo = "gptq";
  options.overrides = {{"layers\\.1\\.mlp\\.up_proj", "fp8"}};
  const Failure failure = export_failure(quantize(options, {}).output, "compressed-tensors");
  EXPECT_EQ(failure.code, ErrorCode::kInputMalformed);
  EXPECT_THAT(failure.message, HasSubstr("model.layers.1.mlp.up_proj"));
  EXPECT_THAT(failure.message, HasSubstr("run them as one linear"));
  options.overrides = {{"layers\\.1\\.self_attn\\.v_proj", "full_prec"}};
  options.force = true;
  EXPECT_THAT(export_failure(quantize(options, {}).output, "modelopt").message,
              HasSubstr("not quantized"));
}

TEST_F(EngineCheck, NamesWhatParallelismCannotSplit) {
  whole({"int4_awq"},
        "compressed-tensors");  // four heads, two of keys and values; 96 in groups of 32
  EXPECT_TRUE(report(1).refusals.empty());
  expect_refusal(report(2), "model.layers.1.mlp.down_proj", "96 inputs, which 2 ranks");
  EXPECT_EQ(report(2).refusals.size(), 2U);
  expect_refusal(report(3), "model.layers.0.self_attn", "4 heads, which 3 ranks");
  for (const char* form : {"compressed-tensors", "dense"}) {
    whole({"fp8"}, form);
    EXPECT_TRUE(report(4).refusals.empty()) << to_json(report(4));  // two KV heads, twice
    expect_refusal(report(5), "model.layers.0.mlp.down_proj", "96 inputs, which 5 ranks");
    expect_refusal(report(5), "model.layers.0.mlp.up_proj", "96 outputs, which 5 ranks");
  }
  EXPECT_THROW(report(0), Error);
}

TEST_F(EngineCheck, NamesHeadsThatDiffer) {
  shape_.tied = true;
  write(shape_);
  whole({"int4_awq"}, "compressed-tensors");
  EXPECT_TRUE(report().refusals.empty());
  change_tensors(
      [](auto& tensors) { tensors["lm_head.weight"] = tensors.at("model.embed_tokens.weight"); });
  EXPECT_TRUE(report().refusals.empty());
  change_tensors([](auto& tensors) { tensors["lm_head.weight"].bytes[5] ^= std::byte{1}; });
  expect_refusal(report(), "lm_head", "tie_word_embeddings");
}

TEST_F(EngineCheck, NamesUnknownKeys) {
  whole({"int4_awq"}, "compressed-tensors");
  const std::string before = read_file(path("out/config.json"));
  const auto with = [&](auto change, const std::string& part) {
    write_file(path("out/config.json"), before);
    change_config([&](json& config) { change(config["quantization_config"]); });
    expect_refusal(report(), "config.json", part);
  };
  with([](json& config) { config["config_groups"]["group_0"]["weights"]["scale"] = 1; },
       "\"scale\"");
  with([](json& config) { config["config_groups"]["group_0"]["kernel"] = 1; }, "\"kernel\"");
  with([](json& config) { config["format"] = "marlin-24"; }, "no longer read");
  with([](json& config) { config["sparsity_config"] = {{"format", "dense"}}; }, "sparsity_config");
}

TEST_F(EngineCheck, ConfigurationsOfOtherTypesAreFindings) {
  whole({"int4_awq"}, "awq");
  change_config(
      [](json& config) { config["quantization_config"]["modules_to_not_convert"] = "x"; });
  expect_refusal(report(), "config.json", "modules_to_not_convert");
  change_config([](json& config) { config["quantization_config"]["quant_method"] = 3; });
  EXPECT_FALSE(report().refusals.empty());
}

TEST_F(EngineCheck, NamesDamagedFiles) {
  whole({"fp8"}, "compressed-tensors");
  const std::string file = path("out/model.safetensors");
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 1);
  EXPECT_EQ(report().refusals.size(), 1U);
  EXPECT_THAT(report().refusals[0].message, HasSubstr("model.safetensors"));
  std::filesystem::remove(path("out/config.json"));
  EXPECT_THROW(report(), Error);
  EXPECT_THROW(check_folder({.folder = path("nothing")}), Error);
}

TEST_F(EngineCheck, RemarksOnFilesThatTransformersDoesNotRead) {
  whole({"fp8"}, "compressed-tensors");
  const size_t before = report().remarks.size();
  const std::string file = path("out/model.safetensors");
  std::string bytes = read_file(file);
  const size_t at = bytes.find("\"pt\"");
  ASSERT_NE(at, std::string::npos);
  write_file(file, bytes.replace(at, 4, "\"xx\""));
  EXPECT_EQ(report().remarks.size(), before + 1);
}

}  // namespace
}  // namespace pare::testing
