// The functions that describe a model from its config.json: one for each architecture, one file for
// each family. model/architectures.cpp lists them.
#pragma once

#include "model/architectures/config_reader.h"
#include "model/block_graph.h"

namespace pare {

ModelGraph describe_bart(const ConfigReader& config);
ModelGraph describe_bloom(const ConfigReader& config);
ModelGraph describe_deepseek_v3(const ConfigReader& config);
ModelGraph describe_falcon(const ConfigReader& config);
ModelGraph describe_falcon_mamba(const ConfigReader& config);
ModelGraph describe_fsmt(const ConfigReader& config);
ModelGraph describe_gemma2(const ConfigReader& config);
ModelGraph describe_gemma3(const ConfigReader& config);
ModelGraph describe_glm(const ConfigReader& config);
ModelGraph describe_glm4(const ConfigReader& config);
ModelGraph describe_gpt2(const ConfigReader& config);
ModelGraph describe_gpt_bigcode(const ConfigReader& config);
ModelGraph describe_gpt_neox(const ConfigReader& config);
ModelGraph describe_gpt_oss(const ConfigReader& config);
ModelGraph describe_jamba(const ConfigReader& config);
ModelGraph describe_llama(const ConfigReader& config);
ModelGraph describe_mamba(const ConfigReader& config);
ModelGraph describe_mamba2(const ConfigReader& config);
ModelGraph describe_mbart(const ConfigReader& config);
ModelGraph describe_mistral(const ConfigReader& config);
ModelGraph describe_mixtral(const ConfigReader& config);
ModelGraph describe_mpt(const ConfigReader& config);
ModelGraph describe_mt5(const ConfigReader& config);
ModelGraph describe_nemotron(const ConfigReader& config);
ModelGraph describe_nemotron_nas(const ConfigReader& config);
ModelGraph describe_olmo2(const ConfigReader& config);
ModelGraph describe_opt(const ConfigReader& config);
ModelGraph describe_phi3(const ConfigReader& config);
ModelGraph describe_qwen2(const ConfigReader& config);
ModelGraph describe_qwen3(const ConfigReader& config);
ModelGraph describe_qwen3_moe(const ConfigReader& config);
ModelGraph describe_starcoder2(const ConfigReader& config);
ModelGraph describe_t5(const ConfigReader& config);

}  // namespace pare
