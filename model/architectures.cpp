#include "model/architectures.h"

#include <algorithm>
#include <array>
#include <set>

#include "model/architectures/config_reader.h"
#include "model/architectures/families.h"
#include "model/block_parameters.h"
#include "pare/error.h"

namespace pare {
namespace {

struct Architecture {
  const char* name;
  const char* model_type;
  const char* remark;
  ModelGraph (*describe)(const ConfigReader&);
};

constexpr std::array kArchitectures = std::to_array<Architecture>({
    {"LlamaForCausalLM", "llama", "Llama 2 and 3.x, and what has its form", describe_llama},
    {"DeciLMForCausalLM", "nemotron-nas", "Llama-Nemotron: layers pared down one by one",
     describe_nemotron_nas},
    {"MistralForCausalLM", "mistral", "Mistral, with or without sliding window", describe_mistral},
    {"MixtralForCausalLM", "mixtral", "Mixtral: experts", describe_mixtral},
    {"Qwen2ForCausalLM", "qwen2", "Qwen2 and 2.5", describe_qwen2},
    {"Qwen3ForCausalLM", "qwen3", "Qwen3", describe_qwen3},
    {"Qwen3MoeForCausalLM", "qwen3_moe", "Qwen3 with experts", describe_qwen3_moe},
    {"DeepseekV3ForCausalLM", "deepseek_v3", "DeepSeek-V3 and R1: latent attention, experts",
     describe_deepseek_v3},
    {"FalconForCausalLM", "falcon", "Falcon 7B, 40B, 180B and RW", describe_falcon},
    {"RWForCausalLM", "RefinedWebModel", "Falcon under its first name", describe_falcon},
    {"RWForCausalLM", "RefinedWeb", "Falcon 40B under its first name", describe_falcon},
    {"MptForCausalLM", "mpt", "MPT", describe_mpt},
    {"MPTForCausalLM", "mpt", "MPT under its first name", describe_mpt},
    {"GPTBigCodeForCausalLM", "gpt_bigcode", "StarCoder, SantaCoder", describe_gpt_bigcode},
    {"Starcoder2ForCausalLM", "starcoder2", "StarCoder2", describe_starcoder2},
    {"GPT2LMHeadModel", "gpt2", "GPT-2", describe_gpt2},
    {"OPTForCausalLM", "opt", "OPT", describe_opt},
    {"GPTNeoXForCausalLM", "gpt_neox", "GPT-NeoX, Pythia", describe_gpt_neox},
    {"BloomForCausalLM", "bloom", "BLOOM", describe_bloom},
    {"Phi3ForCausalLM", "phi3", "Phi-3, Phi-3.5, Phi-4", describe_phi3},
    {"Gemma2ForCausalLM", "gemma2", "Gemma 2", describe_gemma2},
    {"Gemma3ForCausalLM", "gemma3_text", "Gemma 3, text", describe_gemma3},
    {"Gemma3ForConditionalGeneration", "gemma3", "Gemma 3, its text part", describe_gemma3},
    {"GlmForCausalLM", "glm", "GLM-4 9B (ChatGLM)", describe_glm},
    {"Glm4ForCausalLM", "glm4", "GLM-4-0414", describe_glm4},
    {"NemotronForCausalLM", "nemotron", "Nemotron-4, Minitron", describe_nemotron},
    {"Olmo2ForCausalLM", "olmo2", "OLMo 2", describe_olmo2},
    {"GptOssForCausalLM", "gpt_oss", "gpt-oss: experts, attention sinks", describe_gpt_oss},
    {"MambaForCausalLM", "mamba", "Mamba", describe_mamba},
    {"FalconMambaForCausalLM", "falcon_mamba", "Falcon-Mamba", describe_falcon_mamba},
    {"Mamba2ForCausalLM", "mamba2", "Mamba-2, Codestral Mamba", describe_mamba2},
    {"JambaForCausalLM", "jamba", "Jamba: Mamba, attention and experts", describe_jamba},
    {"T5ForConditionalGeneration", "t5", "T5, Flan-T5: encoder and decoder", describe_t5},
    {"MT5ForConditionalGeneration", "mt5", "mT5: encoder and decoder", describe_mt5},
    {"BartForConditionalGeneration", "bart", "BART: encoder and decoder", describe_bart},
    {"MBartForConditionalGeneration", "mbart", "mBART: encoder and decoder", describe_mbart},
    {"FSMTForConditionalGeneration", "fsmt", "FairSeq's translation models", describe_fsmt},
});

const Architecture& find_architecture(const ConfigReader& config) {
  std::string wanted = config.text("model_type", "");
  const nlohmann::json names = config.json().value("architectures", nlohmann::json::array());
  if (names.is_array() && !names.empty() && names[0].is_string()) {
    wanted = names[0].get<std::string>();
  }
  for (const Architecture& known : kArchitectures) {
    if (wanted == known.name || wanted == known.model_type) return known;
  }
  if (config.has("auto_map")) {
    config.fail("architecture \"" + wanted +
                "\" needs Python code of its author (\"auto_map\"); "
                "pare does not run it");
  }
  std::string list;
  for (const Architecture& known : kArchitectures) {
    if (list.find(known.name) == std::string::npos) list += std::string(" ") + known.name;
  }
  config.fail("architecture \"" + wanted + "\" is not supported; known:" + list);
}

// Dense linears may be stored the other way around; a compressed one is always [out, in].
Shape expected_shape(const Parameter& parameter, const WeightSource& source) {
  if (!parameter.transposed || !source.is_compressed(parameter.name)) return parameter.shape;
  return {parameter.shape[1], parameter.shape[0]};
}

void check_parameter(const WeightSource& source, const Parameter& parameter) {
  if (!source.contains(parameter.name)) {
    if (parameter.optional) return;
    throw Error(ErrorCode::kInputMalformed,
                source.path() + ": tensor \"" + parameter.name +
                    "\" is missing; config.json implies it with shape " +
                    shape_text(parameter.shape));
  }
  const Shape expected = expected_shape(parameter, source);
  const Shape found = source.shape(parameter.name);
  if (found != expected) {
    throw Error(ErrorCode::kInputMalformed,
                source.file_of(parameter.name) + ": tensor \"" + parameter.name + "\" has shape " +
                    shape_text(found) + ", config.json implies " + shape_text(expected));
  }
}

}  // namespace

ModelGraph describe_model(const std::string& config_json, const std::string& origin) {
  const nlohmann::json json = nlohmann::json::parse(config_json, nullptr, false);
  if (!json.is_object()) {
    throw Error(ErrorCode::kInputMalformed, origin + ": is not a JSON object");
  }
  const ConfigReader config(json, origin);
  const Architecture& architecture = find_architecture(config);
  if (config.has("quantization_config")) {
    config.fail("the model is quantized already (\"quantization_config\"); give the original");
  }
  // Llama-Nemotron in Llama's clothes.
  ModelGraph graph =
      config.has("block_configs") ? describe_nemotron_nas(config) : architecture.describe(config);
  graph.architecture = architecture.name;
  return graph;
}

std::vector<std::string> check_tensors(const ModelGraph& graph, const WeightSource& source) {
  std::set<std::string> used;
  const auto check = [&](const std::vector<Parameter>& parameters) {
    for (const Parameter& parameter : parameters) {
      check_parameter(source, parameter);
      used.insert(parameter.name);
    }
  };
  check(outer_parameters(graph));
  for_each_block(graph, [&](const BlockGraph& block) { check(block_parameters(block)); });
  std::vector<std::string> unused;
  for (const std::string& name : source.names()) {
    if (!used.contains(name)) unused.push_back(name);
  }
  return unused;
}

std::vector<ArchitectureInfo> known_architectures() {
  std::vector<ArchitectureInfo> known;
  for (const Architecture& one : kArchitectures) {
    known.push_back({one.name, one.model_type, one.remark});
  }
  return known;
}

std::string to_json(std::span<const ArchitectureInfo> architectures) {
  nlohmann::json list = nlohmann::json::array();
  for (const ArchitectureInfo& one : architectures) {
    list.push_back({{"name", one.name}, {"model_type", one.model_type}, {"remark", one.remark}});
  }
  return nlohmann::json{{"schema", "pare.architectures/1"}, {"architectures", list}}.dump(2);
}

}  // namespace pare
