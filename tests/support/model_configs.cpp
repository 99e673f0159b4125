#include "tests/support/model_configs.h"

#include <nlohmann/json.hpp>
#include <stdexcept>

namespace pare::testing {
namespace {

using Json = nlohmann::json;
using Configs = std::vector<NamedConfig>;

Json named(const char* architecture, const char* type) {
  return {{"architectures", Json::array({architecture})},
          {"model_type", type},
          {"vocab_size", 101},
          {"tie_word_embeddings", false}};
}

// `base` with some keys set.
Json with(Json base, const Json& changes) {
  base.update(changes);
  return base;
}

// Six heads of ten channels over three key heads, which is not the hidden size.
Json llama_like(const char* architecture, const char* type) {
  return with(named(architecture, type), {{"hidden_size", 40},
                                          {"intermediate_size", 52},
                                          {"num_hidden_layers", 2},
                                          {"num_attention_heads", 6},
                                          {"num_key_value_heads", 3},
                                          {"head_dim", 10},
                                          {"max_position_embeddings", 64},
                                          {"rms_norm_eps", 1e-5},
                                          {"rope_theta", 500.0}});
}

void add_llamas(Configs& all) {
  const auto add = [&](const char* name, const Json& json) { all.push_back({name, json.dump()}); };
  const Json llama = llama_like("LlamaForCausalLM", "llama");
  add("LlamaBiased", with(llama, {{"num_attention_heads", 5},
                                  {"num_key_value_heads", 1},
                                  {"head_dim", nullptr},
                                  {"attention_bias", true},
                                  {"mlp_bias", true}}));
  add("LlamaThreeTied", with(llama, {{"tie_word_embeddings", true},
                                     {"rope_scaling",
                                      {{"rope_type", "llama3"},
                                       {"factor", 8.0},
                                       {"low_freq_factor", 1.0},
                                       {"high_freq_factor", 4.0},
                                       {"original_max_position_embeddings", 16}}}}));
  add("LlamaDynamic", with(llama, {{"hidden_act", "gelu"},
                                   {"max_position_embeddings", 16},
                                   {"rope_scaling", {{"type", "dynamic"}, {"factor", 2.0}}}}));
  const Json mistral = llama_like("MistralForCausalLM", "mistral");
  add("Mistral", with(mistral, {{"sliding_window", 5},
                                {"num_attention_heads", 3},
                                {"num_key_value_heads", 1},
                                {"head_dim", 14}}));
  const Json qwen = llama_like("Qwen2ForCausalLM", "qwen2");
  add("QwenTwoSlidingFromLayer", with(qwen, {{"num_hidden_layers", 3},
                                             {"use_sliding_window", true},
                                             {"sliding_window", 5},
                                             {"max_window_layers", 1}}));
  add("QwenTwoLayerTypes",
      with(qwen,
           {{"use_sliding_window", true},
            {"sliding_window", 3},
            {"layer_types", {"sliding_attention", "full_attention"}},
            {"rope_scaling",
             {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 16}}}}));
  const Json qwen3 = llama_like("Qwen3ForCausalLM", "qwen3");
  add("QwenThree", with(qwen3, {{"attention_bias", true}, {"num_key_value_heads", 1}}));
  add("LlamaNemotron",
      with(llama_like("DeciLMForCausalLM", "nemotron-nas"),
           {{"num_hidden_layers", 5},
            {"block_configs",
             {{{"attention", {{"n_heads_in_group", 2}}}, {"ffn", {{"intermediate_size", 28}}}},
              {{"attention", {{"no_op", true}}}, {"ffn", {{"ffn_mult", 0.5}}}},
              {{"attention", {{"replace_with_linear", true}}}, {"ffn", {{"no_op", true}}}},
              {{"attention", {{"no_op", true}}}, {"ffn", {{"no_op", true}}}},
              {{"attention", {{"n_heads_in_group", 6}}},
               {"ffn", {{"replace_with_linear", true}}}}}}}));
}

void add_mixtures(Configs& all) {
  const auto add = [&](const char* name, const Json& json) { all.push_back({name, json.dump()}); };
  add("Mixtral",
      with(llama_like("MixtralForCausalLM", "mixtral"),
           {{"num_local_experts", 5}, {"num_experts_per_tok", 2}, {"sliding_window", nullptr}}));
  const Json qwen = with(llama_like("Qwen3MoeForCausalLM", "qwen3_moe"),
                         {{"num_experts_per_tok", 3}, {"moe_intermediate_size", 28}});
  add("QwenThreeMoe", with(qwen, {{"num_experts", 6},
                                  {"decoder_sparse_step", 2},
                                  {"num_hidden_layers", 4},
                                  {"attention_bias", true}}));
  add("QwenThreeMoeMixed", with(qwen, {{"num_local_experts", 4},
                                       {"mlp_only_layers", Json::array({0})},
                                       {"norm_topk_prob", true},
                                       {"use_sliding_window", true},
                                       {"sliding_window", 5}}));
  const Json deepseek =
      with(named("DeepseekV3ForCausalLM", "deepseek_v3"), {{"hidden_size", 40},
                                                           {"intermediate_size", 52},
                                                           {"num_hidden_layers", 3},
                                                           {"num_attention_heads", 3},
                                                           {"q_lora_rank", 24},
                                                           {"kv_lora_rank", 20},
                                                           {"qk_nope_head_dim", 6},
                                                           {"qk_rope_head_dim", 4},
                                                           {"v_head_dim", 10},
                                                           {"n_routed_experts", 8},
                                                           {"num_experts_per_tok", 3},
                                                           {"n_group", 4},
                                                           {"topk_group", 2},
                                                           {"first_k_dense_replace", 1},
                                                           {"n_shared_experts", 2},
                                                           {"moe_intermediate_size", 20},
                                                           {"rope_theta", 500.0},
                                                           {"max_position_embeddings", 64}});
  add("DeepSeek", with(deepseek, {{"rope_scaling",
                                   {{"type", "yarn"},
                                    {"factor", 4.0},
                                    {"original_max_position_embeddings", 16},
                                    {"beta_fast", 4},
                                    {"beta_slow", 1},
                                    {"mscale", 0.7},
                                    {"mscale_all_dim", 1.0}}}}));
  add("DeepSeekPlainQueries", with(deepseek, {{"q_lora_rank", nullptr},
                                              {"rope_interleave", false},
                                              {"attention_bias", true},
                                              {"norm_topk_prob", false},
                                              {"n_group", 1},
                                              {"topk_group", 1},
                                              {"num_hidden_layers", 2}}));
  add("GptOss", with(llama_like("GptOssForCausalLM", "gpt_oss"),
                     {{"num_local_experts", 5},
                      {"num_experts_per_tok", 2},
                      {"num_hidden_layers", 3},
                      {"sliding_window", 5},
                      {"rope_scaling",
                       {{"rope_type", "yarn"},
                        {"factor", 4.0},
                        {"beta_fast", 4.0},
                        {"beta_slow", 1.0},
                        {"truncate", false},
                        {"original_max_position_embeddings", 16}}}}));
}

void add_falcons(Configs& all) {
  const auto add = [&](const char* name, const Json& json) { all.push_back({name, json.dump()}); };
  const Json falcon = with(named("FalconForCausalLM", "falcon"), {{"hidden_size", 40},
                                                                  {"num_hidden_layers", 2},
                                                                  {"num_attention_heads", 5},
                                                                  {"ffn_hidden_size", 52},
                                                                  {"max_position_embeddings", 64}});
  const Json grouped = {{"hidden_size", 36},
                        {"num_attention_heads", 6},
                        {"new_decoder_architecture", true},
                        {"num_kv_heads", 3}};
  add("FalconOneKeyHead", with(falcon, {{"multi_query", true}, {"parallel_attn", true}}));
  add("FalconGrouped", with(falcon, grouped));
  add("FalconGroupedOneNorm", with(with(falcon, grouped), {{"num_ln_in_parallel_attn", 1}}));
  add("FalconAlibi", with(falcon, {{"multi_query", false},
                                   {"parallel_attn", false},
                                   {"alibi", true},
                                   {"bias", true},
                                   {"tie_word_embeddings", true}}));
  add("FalconSerialRotary", with(falcon, {{"parallel_attn", false}, {"bias", true}}));
  const Json older = {{"hidden_size", 36}, {"n_layer", 2}, {"n_head", 6}};
  add("RefinedWebModel", with(named("RWForCausalLM", "RefinedWebModel"), older));
  add("RefinedWeb", with(with(named("RWForCausalLM", "RefinedWeb"), older), {{"n_head_kv", 2}}));
}

void add_gpts(Configs& all) {
  const auto add = [&](const char* name, const Json& json) { all.push_back({name, json.dump()}); };
  const Json size = {{"n_embd", 40}, {"n_head", 5}, {"n_layer", 2}, {"n_positions", 64}};
  const Json gpt2 = with(named("GPT2LMHeadModel", "gpt2"), size);
  add("GptTwoByLayer", with(gpt2, {{"scale_attn_by_inverse_layer_idx", true}, {"n_inner", 52}}));
  add("GptTwoUnscaled", with(gpt2, {{"scale_attn_weights", false},
                                    {"n_inner", nullptr},
                                    {"activation_function", "quick_gelu"},
                                    {"tie_word_embeddings", true}}));
  const Json bigcode = with(named("GPTBigCodeForCausalLM", "gpt_bigcode"), size);
  add("BigCodeOneKeyHead", with(bigcode, {{"n_inner", 52}}));
  add("BigCodeManyKeyHeads", with(bigcode, {{"multi_query", false}}));
  const Json neox =
      with(named("GPTNeoXForCausalLM", "gpt_neox"), {{"hidden_size", 40},
                                                     {"intermediate_size", 52},
                                                     {"num_hidden_layers", 2},
                                                     {"num_attention_heads", 5},
                                                     {"max_position_embeddings", 64}});
  add("NeoXParallel", with(neox, {{"rotary_pct", 0.5}}));
  add("NeoXSerial", with(neox, {{"use_parallel_residual", false}, {"attention_bias", false}}));
  const Json starcoder = with(llama_like("Starcoder2ForCausalLM", "starcoder2"),
                              {{"sliding_window", 5}, {"norm_epsilon", 1e-5}});
  add("StarCoderTwo", starcoder);
  add("StarCoderTwoPlain", with(starcoder, {{"use_bias", false}, {"sliding_window", nullptr}}));
  const Json mpt = with(named("MptForCausalLM", "mpt"), {{"d_model", 40},
                                                         {"n_heads", 5},
                                                         {"n_layers", 2},
                                                         {"expansion_ratio", 3},
                                                         {"max_seq_len", 64}});
  add("MptClipped",
      with(mpt,
           {{"attn_config", {{"clip_qkv", 0.5}, {"softmax_scale", 0.3}, {"alibi_bias_max", 6}}}}));
  add("MptFirstName", with(mpt, {{"architectures", Json::array({"MPTForCausalLM"})}}));
  const Json bloom = with(named("BloomForCausalLM", "bloom"),
                          {{"hidden_size", 40}, {"n_head", 5}, {"n_layer", 2}});
  add("BloomAfterNorm", with(bloom, {{"apply_residual_connection_post_layernorm", true}}));
  add("BloomOldNames", with(named("BloomForCausalLM", "bloom"), {{"n_embed", 36},
                                                                 {"num_attention_heads", 6},
                                                                 {"num_hidden_layers", 2},
                                                                 {"seq_length", 64}}));
  const Json opt = with(named("OPTForCausalLM", "opt"), {{"hidden_size", 40},
                                                         {"ffn_dim", 52},
                                                         {"num_hidden_layers", 2},
                                                         {"num_attention_heads", 5},
                                                         {"max_position_embeddings", 64},
                                                         {"tie_word_embeddings", true}});
  add("Opt", opt);
  add("OptNormsBehindNarrow",
      with(opt, {{"do_layer_norm_before", false}, {"word_embed_proj_dim", 24}}));
  add("OptPlainNorms", with(opt, {{"layer_norm_elementwise_affine", false},
                                  {"enable_bias", false},
                                  {"_remove_final_layer_norm", true}}));
}

void add_newer(Configs& all) {
  const auto add = [&](const char* name, const Json& json) { all.push_back({name, json.dump()}); };
  const Json phi = llama_like("Phi3ForCausalLM", "phi3");
  add("Phi", with(phi, {{"partial_rotary_factor", 0.6}}));
  add("PhiLong", with(phi, {{"head_dim", nullptr},
                            {"num_attention_heads", 5},
                            {"num_key_value_heads", 1},
                            {"sliding_window", 5},
                            {"original_max_position_embeddings", 16},
                            {"rope_scaling",
                             {{"type", "longrope"},
                              {"short_factor", {1.0, 1.1, 1.2, 1.3}},
                              {"long_factor", {1.5, 2.0, 3.0, 4.0}}}}}));
  const Json gemma = {{"num_attention_heads", 3},    {"num_key_value_heads", 1},
                      {"query_pre_attn_scalar", 12}, {"sliding_window", 5},
                      {"num_hidden_layers", 3},      {"tie_word_embeddings", true}};
  add("GemmaTwo", with(with(llama_like("Gemma2ForCausalLM", "gemma2"), gemma),
                       {{"attn_logit_softcapping", 5.0}, {"final_logit_softcapping", 8.0}}));
  const Json gemma3 = with(llama_like("Gemma3ForCausalLM", "gemma3_text"), gemma);
  add("GemmaThree", with(gemma3, {{"sliding_window_pattern", 2},
                                  {"rope_local_base_freq", 100.0},
                                  {"rope_scaling", {{"rope_type", "linear"}, {"factor", 8.0}}}}));
  Json text =
      with(gemma3, {{"layer_types", {"full_attention", "sliding_attention", "sliding_attention"}},
                    {"rope_parameters",
                     {{"full_attention", {{"rope_theta", 900.0}, {"rope_type", "default"}}},
                      {"sliding_attention", {{"rope_theta", 90.0}, {"rope_type", "default"}}}}}});
  add("GemmaThreeTextPart", {{"architectures", Json::array({"Gemma3ForConditionalGeneration"})},
                             {"model_type", "gemma3"},
                             {"text_config", text}});
  const Json glm = {{"num_attention_heads", 3}, {"num_key_value_heads", 1}, {"head_dim", 12}};
  add("Glm", with(llama_like("GlmForCausalLM", "glm"), glm));
  add("GlmFour", with(with(llama_like("Glm4ForCausalLM", "glm4"), glm),
                      {{"attention_bias", false}, {"partial_rotary_factor", 1.0}}));
  add("OlmoTwo", llama_like("Olmo2ForCausalLM", "olmo2"));
  add("OlmoTwoBiased", with(llama_like("Olmo2ForCausalLM", "olmo2"),
                            {{"attention_bias", true}, {"tie_word_embeddings", true}}));
  const Json nemotron = with(llama_like("NemotronForCausalLM", "nemotron"), {{"head_dim", 12}});
  add("Nemotron", nemotron);
  add("NemotronBiased", with(nemotron, {{"attention_bias", true}, {"mlp_bias", true}}));
}

void add_state_space(Configs& all) {
  const auto add = [&](const char* name, const Json& json) { all.push_back({name, json.dump()}); };
  const Json size = {{"hidden_size", 40}, {"num_hidden_layers", 2}, {"state_size", 5}};
  const Json mamba = with(named("MambaForCausalLM", "mamba"), size);
  add("MambaBiased", with(mamba, {{"use_bias", true},
                                  {"time_step_rank", 3},
                                  {"intermediate_size", 52},
                                  {"conv_kernel", 3}}));
  add("MambaPlain", with(mamba, {{"use_conv_bias", false}, {"expand", 1.5}, {"conv_kernel", 1}}));
  add("FalconMamba", with(with(named("FalconMambaForCausalLM", "falcon_mamba"), size),
                          {{"time_step_rank", "auto"}, {"intermediate_size", 52}}));
  const Json mamba2 = with(with(named("Mamba2ForCausalLM", "mamba2"), size),
                           {{"expand", 1.5}, {"num_heads", 6}, {"head_dim", 10}, {"n_groups", 3}});
  add("MambaTwoLimited", with(mamba2, {{"time_step_limit", {0.05, 0.3}}, {"use_bias", true}}));
  add("MambaTwo", with(mamba2, {{"time_step_limit", {0.0, {{"__float__", "Infinity"}}}},
                                {"use_conv_bias", false},
                                {"n_groups", 1}}));
  const Json jamba = with(llama_like("JambaForCausalLM", "jamba"), {{"num_hidden_layers", 4},
                                                                    {"attn_layer_period", 3},
                                                                    {"attn_layer_offset", 1},
                                                                    {"expert_layer_period", 2},
                                                                    {"expert_layer_offset", 0},
                                                                    {"num_experts", 3},
                                                                    {"num_experts_per_tok", 2},
                                                                    {"mamba_d_state", 5},
                                                                    {"mamba_d_conv", 3},
                                                                    {"mamba_dt_rank", 3},
                                                                    {"mamba_expand", 1.5}});
  add("Jamba", with(jamba, {{"mamba_proj_bias", true}}));
  add("JambaWithoutExperts", with(jamba, {{"num_experts", 1},
                                          {"num_experts_per_tok", 1},
                                          {"mamba_conv_bias", false},
                                          {"num_hidden_layers", 2}}));
}

void add_encoder_decoders(Configs& all) {
  const auto add = [&](const char* name, const Json& json) { all.push_back({name, json.dump()}); };
  const Json size = {{"d_model", 40},
                     {"d_ff", 52},
                     {"d_kv", 6},
                     {"num_heads", 3},
                     {"num_layers", 3},
                     {"num_decoder_layers", 2},
                     {"relative_attention_num_buckets", 8},
                     {"relative_attention_max_distance", 12}};
  const Json t5 = with(named("T5ForConditionalGeneration", "t5"), size);
  add("TFive", with(t5, {{"tie_word_embeddings", true}}));
  add("TFiveGated",
      with(t5, {{"feed_forward_proj", "gated-gelu"}, {"num_decoder_layers", nullptr}}));
  add("MTFive", with(named("MT5ForConditionalGeneration", "mt5"), size));
  const Json bart = {{"d_model", 40},
                     {"encoder_layers", 1},
                     {"decoder_layers", 2},
                     {"encoder_attention_heads", 5},
                     {"decoder_attention_heads", 4},
                     {"encoder_ffn_dim", 52},
                     {"decoder_ffn_dim", 28},
                     {"max_position_embeddings", 64},
                     {"tie_word_embeddings", true}};
  add("Bart", with(named("BartForConditionalGeneration", "bart"), bart));
  add("MBart", with(with(named("MBartForConditionalGeneration", "mbart"), bart),
                    {{"scale_embedding", true}, {"tie_word_embeddings", false}}));
  add("Fsmt", with(with(named("FSMTForConditionalGeneration", "fsmt"), bart),
                   {{"src_vocab_size", 97}, {"tgt_vocab_size", 103}, {"pad_token_id", 1}}));
}

}  // namespace

std::vector<NamedConfig> model_configs() {
  std::vector<NamedConfig> all;
  add_llamas(all);
  add_mixtures(all);
  add_falcons(all);
  add_gpts(all);
  add_newer(all);
  add_state_space(all);
  add_encoder_decoders(all);
  return all;
}

NamedConfig model_config(const std::string& name) {
  for (const NamedConfig& config : model_configs()) {
    if (config.name == name) return config;
  }
  throw std::out_of_range(name);
}

}  // namespace pare::testing
