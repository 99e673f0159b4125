// Splits that cannot be done, folders that are damaged, and what the engine would refuse in them.
#include "engines/tensorrt_llm_export.h"
#include "model/block_parameters.h"
#include "tests/engines/tensorrt_llm_fixture.h"
#include "tests/support/model_configs.h"

namespace pare::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr const char* kQkv = "transformer.layers.0.attention.qkv";

/// As of a job that gives all linears this scheme.
void check_split(const ModelGraph& graph, const LinearScheme& scheme, int64_t tp_size,
                 int64_t pp_size) {
  LinearSurvey survey;
  survey.model.graph = graph;
  for_each_block(graph, [&](const BlockGraph& block) {
    for (const Op& op : block.ops) {
      if (op.kind != OpKind::kLinear || op.linear.keep) continue;
      SurveyedLinear linear;
      linear.module = block.full_name(op);
      linear.scheme = scheme;
      survey.quantized.push_back(std::move(linear));
    }
  });
  require_tensorrt_llm(survey, {.tp_size = tp_size, .pp_size = pp_size});
}

class TensorRtLlmHostile : public TensorRtLlmTest {
 protected:
  static Failure split_failure(const ModelGraph& graph, const LinearScheme& scheme,
                               const Ranks& ranks) {
    try {
      check_split(graph, scheme, ranks.tp_size, ranks.pp_size);
    } catch (const Error& error) {
      return {error.code(), error.what()};
    }
    ADD_FAILURE() << "the split is possible";
    return {};
  }

  std::string fp8() const { return checkpoint({"fp8", "FP8"}); }

  /// Of a fresh export with a change: what reading it fails with. The check finds it too.
  Failure failure_after(const std::string& source, const Ranks& ranks,
                        const std::function<void(const std::string& folder)>& change) const {
    const std::string folder = path("changed");
    std::filesystem::remove_all(folder);
    exported(source, ranks, "changed");
    change(folder);
    EXPECT_FALSE(refusals(folder).empty());
    return open_failure(folder);
  }
};

TEST_F(TensorRtLlmHostile, SplitsAreRefusedBeforeAnythingIsRead) {
  use(llama());
  const LinearScheme fp8{WeightFormat::kFp8E4m3, ActivationFormat::kFp8Static, kPerTensor};
  LinearScheme int4{WeightFormat::kInt4, ActivationFormat::kBf16, 16};
  check_split(graph_, fp8, 5, 3);
  check_split(graph_, int4, 5, 1);
  struct Case {
    LinearScheme scheme;
    Ranks ranks;
    const char* words;
  };
  LinearScheme wide = int4;
  wide.group_size = 64;
  for (const Case& one :
       std::vector<Case>{{fp8, {3, 1}, "10 attention heads cannot be split between 3 ranks"},
                         {fp8, {1, 4}, "3 layers are too few for pp_size 4"},
                         {fp8, {0, 1}, "tp_size 0"},
                         {wide, {5, 1}, "o_proj\": 160 columns between 5 ranks are 32 each"},
                         {int4, {20, 1}, "attention heads"}}) {
    const Failure failure = split_failure(graph_, one.scheme, one.ranks);
    EXPECT_EQ(failure.code, ErrorCode::kUsage);
    EXPECT_THAT(failure.message, HasSubstr(one.words));
  }
  // What no number of ranks can do.
  for (const auto& [scheme, words] : std::vector<std::pair<LinearScheme, const char*>>{
           {{WeightFormat::kNvfp4, ActivationFormat::kNvfp4, kNvfp4Group}, "NVFP4"},
           {{WeightFormat::kMxfp4, ActivationFormat::kBf16, kMxfp4Group}, "MXFP4"},
           {{WeightFormat::kInt4, ActivationFormat::kBf16, 16, 1, false}, "--asym"},
           {{WeightFormat::kInt4, ActivationFormat::kBf16, kPerChannel}, "--awq_block_size"},
           {{WeightFormat::kFp8E4m3, ActivationFormat::kFp8Block, 128, 128}, "in blocks"}}) {
    const Failure failure = split_failure(graph_, scheme, {1, 1});
    EXPECT_EQ(failure.code, ErrorCode::kInputMalformed);
    EXPECT_THAT(failure.message, HasSubstr(words));
  }
}

TEST_F(TensorRtLlmHostile, TheShapeOfTheReferenceModel) {
  // 640 channels, 10 heads over 5, an MLP of 1792.
  json config = llama();
  config.update({{"hidden_size", 640}, {"intermediate_size", 1792}, {"head_dim", 64}});
  config["num_hidden_layers"] = 1;
  use(config, 1, 8);
  const LinearScheme bf16;
  LinearScheme int4{WeightFormat::kInt4, ActivationFormat::kBf16, 128};
  check_split(graph_, bf16, 2, 1);
  const Failure five = split_failure(graph_, bf16, {5, 1});
  EXPECT_THAT(five.message, HasSubstr("1792 channels of the MLP cannot be split between 5 ranks"));
  const Failure two = split_failure(graph_, int4, {2, 1});
  EXPECT_THAT(two.message, HasSubstr("o_proj\": 640 columns between 2 ranks are 320 each"));
  int4.group_size = 64;
  check_split(graph_, int4, 2, 1);
}

TEST_F(TensorRtLlmHostile, FormatsForDecodersOfOneKindAlone) {
  const LinearScheme rowwise{WeightFormat::kFp8E4m3, ActivationFormat::kFp8Dynamic, kPerChannel};
  const LinearScheme dynamic{WeightFormat::kInt8, ActivationFormat::kInt8Dynamic, kPerChannel};
  const LinearScheme still{WeightFormat::kInt8, ActivationFormat::kInt8Static, kPerChannel};
  use_config("TFive");
  EXPECT_THAT(split_failure(graph_, rowwise, {}).message, HasSubstr("FP8_PER_CHANNEL"));
  EXPECT_THAT(split_failure(graph_, dynamic, {}).message, HasSubstr("PER_TOKEN_PLUGIN"));
  check_split(graph_, still, 1, 1);
  use_config("Mixtral");
  EXPECT_THAT(split_failure(graph_, still, {}).message, HasSubstr("experts"));
  use_config("StarCoderTwo");
  EXPECT_THAT(split_failure(graph_, rowwise, {}).message, HasSubstr("Starcoder2"));
}

TEST_F(TensorRtLlmHostile, OptionsOfAnotherForm) {
  use(llama());
  ExportOptions options;
  options.checkpoint = path("model");
  options.format = "dense";
  options.output = path("dense");
  options.tp_size = 2;
  try {
    export_to(options, {});
    ADD_FAILURE() << "dense is not split";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    EXPECT_THAT(error.what(), HasSubstr("tp_size"));
  }
  EXPECT_EQ(export_failure(path("model"), {3, 1}).code, ErrorCode::kUsage);
}

TEST_F(TensorRtLlmHostile, WhatSharesATensorIsQuantizedAlike) {
  use(llama());
  QuantizeOptions options = job_of("q.h5", "fp8");
  options.exclude = {"layers\\.1\\.self_attn\\.k_proj"};
  const Failure failure = export_failure(quantize(options, {}).output);
  EXPECT_EQ(failure.code, ErrorCode::kInputMalformed);
  EXPECT_THAT(failure.message, HasSubstr("model.layers.1.self_attn.k_proj"));
  options = job_of("kv.h5", "fp8");
  options.kv_cache = "fp8";
  options.kv_affine = true;
  EXPECT_THAT(export_failure(quantize(options, {}).output).message, HasSubstr("--kv-affine"));
}

TEST_F(TensorRtLlmHostile, MissingFilesAndDamagedConfigurations) {
  use(llama());
  const std::string source = fp8();
  struct Case {
    const char* words;
    std::function<void(const std::string&)> change;
    ErrorCode code = ErrorCode::kInputMalformed;
  };
  const auto set = [](const char* key, const json& value) {
    return [=](const std::string& folder) {
      edit_json(folder + "/config.json",
                [&](json& config) { config[json::json_pointer(key)] = value; });
    };
  };
  for (const Case& one : std::vector<Case>{
           {"rank1.safetensors is not there",
            [](const std::string& folder) {
              std::filesystem::remove(folder + "/rank1.safetensors");
            },
            ErrorCode::kInputMissing},
           {"world_size 5", set("/mapping/world_size", 5)},
           {"tp_size", set("/mapping/tp_size", "two")},
           {"pp_size", set("/mapping/pp_size", -1)},
           {"moe_ep_size", set("/mapping/moe_ep_size", 2)},
           {"architecture \"NoSuchModel\"", set("/architecture", "NoSuchModel")},
           {"dtype", set("/dtype", "int4")},
           {"num_hidden_layers", set("/num_hidden_layers", 0)},
           {"\"num_hidden_layers\" is 4097", set("/num_hidden_layers", 4097)},
           {"divide", set("/num_key_value_heads", 3)},
           {"quant_algo \"FP7\"", set("/quantization/quant_algo", "FP7")},
           {"kv_cache_quant_algo", set("/quantization/kv_cache_quant_algo", "NVFP4")},
           {"exclude_modules", set("/quantization/exclude_modules", json::array({1}))},
           {"quant_cfg.json", set("/quantization/quant_algo", "MIXED_PRECISION"),
            ErrorCode::kInputMissing},
           {"has shape", set("/intermediate_size", 170)},
           {"transformer.vocab_embedding.weight", set("/vocab_size", 300)},
           {"is F8_E4M3", set("/quantization/quant_algo", nullptr)},
           {"attention.qkv.weight\" is F8_E4M3",
            set("/quantization/quant_algo", "W8A8_SQ_PER_CHANNEL")},
           {"use_parallel_embedding", set("/use_parallel_embedding", 1)},
           {"config.json",
            [](const std::string& folder) {
              write_file(folder + "/config.json", "{\"architecture\": \"Llama");
            }},
           {"repeats",
            [](const std::string& folder) {
              write_file(folder + "/config.json", "{\"architecture\": 1, \"architecture\": 2}");
            }},
           {"rank1.safetensors", [](const std::string& folder) {
              write_file(folder + "/rank1.safetensors", "not safetensors");
            }}}) {
    SCOPED_TRACE(one.words);
    const Failure failure = failure_after(source, {2, 1}, one.change);
    EXPECT_EQ(failure.code, one.code);
    if (one.words != std::string("repeats")) {
      EXPECT_THAT(failure.message, HasSubstr(one.words));
    }
    EXPECT_THAT(failure.message, HasSubstr(path("changed")));
  }
}

TEST_F(TensorRtLlmHostile, TensorsThatDoNotFitTogether) {
  use(llama());
  struct Case {
    const char* words;
    std::function<void(const std::string&)> change;
  };
  const std::string qkv = kQkv;
  const std::string dense = "transformer.layers.0.attention.dense";
  const std::vector<Case> cases = {
      {"qkv.weights_scaling_factor\" is not there",
       [&](const std::string& folder) {
         rename_tensor(folder + "/rank1.safetensors", qkv + ".weights_scaling_factor",
                       qkv + ".weights_scaling_fact0r");
       }},
      {"ln_f.weight\" is not there",
       [](const std::string& folder) {
         rename_tensor(folder + "/rank0.safetensors", "transformer.ln_f.weight",
                       "transformer.ln_g.weight");
       }},
      {"another scale than an earlier rank",
       [&](const std::string& folder) {
         set_number(folder + "/rank1.safetensors", dense + ".weights_scaling_factor", 7);
       }},
      {"is not the same on all ranks",
       [&](const std::string& folder) {
         set_number(folder + "/rank1.safetensors", qkv + ".activation_scaling_factor", 7);
       }},
      {"qkv.weight\" repeats rows",
       [&](const std::string& folder) {
         // The last rows of rank 0 are of a head that rank 1 has too.
         edit_tensor(folder + "/rank0.safetensors", qkv + ".weight",
                     [](char* bytes, size_t size) { bytes[size - 1] ^= 1; });
       }},
      {"post_layernorm.weight\" repeats rows",
       [](const std::string& folder) {
         edit_tensor(folder + "/rank1.safetensors", "transformer.layers.2.post_layernorm.weight",
                     [](char* bytes, size_t) { bytes[0] ^= 1; });
       }},
      {"scale",
       [&](const std::string& folder) {
         for (const char* rank : {"/rank0.safetensors", "/rank1.safetensors"}) {
           set_number(folder + rank, qkv + ".weights_scaling_factor", 0);
         }
       }},
      {"scale", [&](const std::string& folder) {
         for (const char* rank : {"/rank0.safetensors", "/rank1.safetensors"}) {
           set_number(folder + rank, dense + ".weights_scaling_factor", HUGE_VALF);
         }
       }}};
  const std::string source = fp8();
  for (const Case& one : cases) {
    SCOPED_TRACE(one.words);
    const Failure failure = failure_after(source, {2, 1}, one.change);
    EXPECT_EQ(failure.code, ErrorCode::kInputMalformed);
    EXPECT_THAT(failure.message, HasSubstr(one.words));
    EXPECT_THAT(failure.message, HasSubstr(path("changed/rank")));
  }
}

TEST_F(TensorRtLlmHostile, TheCheckNamesEverythingAtOnce) {
  use(llama());
  exported(fp8(), {2, 2});
  EngineFindings fine;
  check_tensorrt_llm(path("engine"), {.tp_size = 2}, fine);
  EXPECT_TRUE(fine.refusals.empty());
  EXPECT_TRUE(fine.remarks.empty());
  EXPECT_EQ(fine.quantized_linears, 3 * 5);
  EXPECT_EQ(refusals(path("engine"), 4).size(), 1U);
  const std::string qkv = kQkv;
  set_number(path("engine/rank0.safetensors"), qkv + ".weights_scaling_factor", 0);
  std::filesystem::remove(path("engine/rank3.safetensors"));
  write_file(path("engine/rank4.safetensors"), "one too many");
  edit_tensor(path("engine/rank2.safetensors"), "transformer.ln_f.weight",
              [](char* bytes, size_t) { bytes[0] ^= 1; });
  rename_tensor(path("engine/rank1.safetensors"), "transformer.layers.1.mlp.fc.weight",
                "transformer.layers.1.mlp.fd.weight");
  std::string all;
  for (const CheckFinding& finding : refusals(path("engine"))) {
    all += finding.subject + ": " + finding.message + "\n";
  }
  for (const char* words :
       {"rank0.safetensors: transformer.layers.0.attention.qkv.weights_scaling_factor: has a scale",
        "rank1.safetensors: transformer.layers.0.attention.qkv.weights_scaling_factor: is not that",
        "rank3.safetensors: world_size is 4", "rank4.safetensors: is there",
        "rank1.safetensors: transformer.layers.1.mlp.fc.weight: is not there",
        "rank1.safetensors: transformer.layers.1.mlp.fd.weight: is none"}) {
    EXPECT_THAT(all, HasSubstr(words));
  }
}

TEST_F(TensorRtLlmHostile, HalvesThatDoNotBelongTogether) {
  use_config("TFive");
  exported(path("model"));
  EXPECT_THAT(open_failure(path("engine/encoder")).message, HasSubstr("half a model"));
  std::filesystem::remove_all(path("engine/decoder"));
  std::filesystem::copy(path("engine/encoder"), path("engine/decoder"));
  EXPECT_THAT(open_failure(path("engine")).message, HasSubstr("encoder"));
}

}  // namespace
}  // namespace pare::testing
