// State-space models: Mamba (MambaForCausalLM), Falcon-Mamba (FalconMambaForCausalLM), Mamba-2
// (Mamba2ForCausalLM), and Jamba (JambaForCausalLM), which mixes them with attention and experts.
#include "model/architectures/experts.h"
#include "model/architectures/families.h"
#include "model/architectures/llama_block.h"

namespace pare {
namespace {

// The mixer of Mamba: projections in and out, a convolution, a scan whose step and matrices depend
// on the token (Gu & Dao, 2023, arXiv:2312.00752).
struct MambaMixer {
  int64_t inner = 0;
  int64_t rank = 0;
  ScanSpec scan;
  ConvolutionSpec convolution;
  bool projection_bias = false;
  Activation activation = Activation::kSilu;
  bool norms = false;  ///< On dt, B and C: with weights where they are named.
  NormSpec norm;
  std::string prefix = "mixer.";
};

Value mamba_mixer(BlockBuilder& b, Value x, const MambaMixer& spec) {
  const auto name = [&](const char* part) { return spec.prefix + part; };
  const Value both = b.linear(x, name("in_proj"), 2 * spec.inner, {.bias = spec.projection_bias});
  const Value gate = b.slice(both, spec.inner, spec.inner);
  const Value filtered =
      b.convolution(b.slice(both, 0, spec.inner), name("conv1d"), spec.convolution);
  const Value u = b.activation(filtered, spec.activation);
  const int64_t n = spec.scan.state_size;
  const Value low = b.linear(u, name("x_proj"), spec.rank + 2 * n, {.keep = true});
  Value dt = b.slice(low, 0, spec.rank);
  Value in = b.slice(low, spec.rank, n);
  Value out = b.slice(low, spec.rank + n, n);
  if (spec.norms) {
    dt = b.norm(dt, name("dt_layernorm"), spec.norm);
    in = b.norm(in, name("b_layernorm"), spec.norm);
    out = b.norm(out, name("c_layernorm"), spec.norm);
  }
  dt = b.linear(dt, name("dt_proj"), spec.inner, {.bias = true, .keep = true});
  const Value y = b.selective_scan(u, dt, in, out, spec.prefix, spec.scan);
  return b.linear(b.gated(spec.activation, gate, y), name("out_proj"), b.width(x),
                  {.bias = spec.projection_bias});
}

// "auto" stands for a sixteenth of the width.
int64_t read_rank(const ConfigReader& config, const char* key, int64_t hidden) {
  const auto found = config.json().find(key);
  if (found == config.json().end() || found->is_null() || *found == "auto") {
    return (hidden + 15) / 16;
  }
  return config.positive(key);
}

ModelGraph state_space_frame(const ConfigReader& config, const TransformerShape& shape,
                             const NormSpec& norm, bool tied) {
  ModelGraph model =
      make_frame(config, shape, {"backbone.embeddings.weight", "backbone.norm_f", "lm_head.weight"},
                 norm, tied);
  model.max_positions = 0;
  return model;
}

TransformerShape read_state_space_shape(const ConfigReader& config) {
  TransformerShape shape;
  shape.hidden = config.positive("hidden_size");
  shape.vocab = config.positive("vocab_size");
  shape.layers = config.positive("num_hidden_layers");
  check_layers(config, shape.layers);
  return shape;
}

NormSpec read_norm(const ConfigReader& config) {
  return {.epsilon = static_cast<float>(config.number("layer_norm_epsilon", 1e-5))};
}

ConvolutionSpec read_convolution(const ConfigReader& config) {
  return {.kernel = config.positive("conv_kernel", 4),
          .bias = config.boolean("use_conv_bias", true)};
}

int64_t inner_size(const ConfigReader& config, int64_t hidden) {
  return config.multiple("expand", 2, hidden);
}

ModelGraph describe_either_mamba(const ConfigReader& config, bool norms) {
  const TransformerShape shape = read_state_space_shape(config);
  const NormSpec norm = read_norm(config);
  MambaMixer mixer;
  mixer.inner = config.has("intermediate_size") ? config.positive("intermediate_size")
                                                : inner_size(config, shape.hidden);
  mixer.rank = read_rank(config, "time_step_rank", shape.hidden);
  mixer.scan.state_size = config.positive("state_size", 16);
  mixer.convolution = read_convolution(config);
  mixer.projection_bias = config.boolean("use_bias", false);
  mixer.activation = read_activation(config, "hidden_act", "silu");
  mixer.norms = norms;
  mixer.norm = {.weight = false,
                .epsilon = static_cast<float>(config.number("mixer_rms_eps", 1e-6))};
  ModelGraph model = state_space_frame(config, shape, norm, true);
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    BlockBuilder b("backbone.layers." + std::to_string(layer) + ".", shape.hidden);
    const Value x = b.norm(b.input(), "norm", norm);
    model.blocks.push_back(b.finish(b.add(b.input(), mamba_mixer(b, x, mixer))));
  }
  return model;
}

// The upper end of "time_step_limit"; 0: none.
void read_step_limit(const ConfigReader& config, ScanSpec& scan) {
  const nlohmann::json limit = config.json().value("time_step_limit", nlohmann::json::array());
  if (!limit.is_array() || limit.size() != 2) return;
  const auto number = [](const nlohmann::json& value) {
    return value.is_number() ? value.get<double>() : 0.0;  // infinity is written as something else
  };
  constexpr double kNone = 1e30;
  scan.step_min = static_cast<float>(number(limit[0]));
  const double most = number(limit[1]);
  scan.step_max = static_cast<float>(most > 0 && most < kNone ? most : kNone);
}

}  // namespace

ModelGraph describe_mamba(const ConfigReader& config) {
  return describe_either_mamba(config, false);
}

ModelGraph describe_falcon_mamba(const ConfigReader& config) {
  return describe_either_mamba(config, true);
}

ModelGraph describe_mamba2(const ConfigReader& config) {
  const TransformerShape shape = read_state_space_shape(config);
  const NormSpec norm = read_norm(config);
  ScanSpec scan;
  scan.state_size = config.positive("state_size", 128);
  scan.heads = config.positive("num_heads", 128);
  scan.head_dim = config.positive("head_dim", 64);
  scan.groups = config.positive("n_groups", 8);
  read_step_limit(config, scan);
  const int64_t inner = inner_size(config, shape.hidden);
  if (scan.heads * scan.head_dim != inner || scan.heads % scan.groups != 0) {
    config.fail("num_heads (" + std::to_string(scan.heads) + ") × head_dim (" +
                std::to_string(scan.head_dim) + ") must be expand × hidden_size (" +
                std::to_string(inner) + "), and n_groups (" + std::to_string(scan.groups) +
                ") must divide num_heads");
  }
  const ConvolutionSpec convolution = read_convolution(config);
  const LinearSpec projection{.bias = config.boolean("use_bias", false)};
  const Activation activation = read_activation(config, "hidden_act", "silu");
  const int64_t matrix = scan.groups * scan.state_size;
  ModelGraph model = state_space_frame(config, shape, norm, false);
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    BlockBuilder b("backbone.layers." + std::to_string(layer) + ".", shape.hidden);
    const Value x = b.norm(b.input(), "norm", norm);
    const int64_t filtered_width = inner + 2 * matrix;
    const Value all = b.linear(x, "mixer.in_proj", inner + filtered_width + scan.heads, projection);
    const Value gate = b.slice(all, 0, inner);
    const Value dt = b.slice(all, inner + filtered_width, scan.heads);
    const Value filtered = b.activation(
        b.convolution(b.slice(all, inner, filtered_width), "mixer.conv1d", convolution),
        activation);
    const Value u = b.slice(filtered, 0, inner);
    const Value in = b.slice(filtered, inner, matrix);
    const Value out = b.slice(filtered, inner + matrix, matrix);
    const Value y = b.state_space_scan(u, dt, in, out, "mixer.", scan);
    const Value normed = b.norm(b.gated(Activation::kSilu, gate, y), "mixer.norm", norm);
    const Value mixed = b.linear(normed, "mixer.out_proj", shape.hidden, projection);
    model.blocks.push_back(b.finish(b.add(b.input(), mixed)));
  }
  return model;
}

ModelGraph describe_jamba(const ConfigReader& config) {
  const TransformerShape shape = read_shape(config);
  const NormSpec norm{.epsilon = static_cast<float>(config.number("rms_norm_eps", 1e-6))};
  const Activation activation = read_activation(config, "hidden_act", "silu");
  ModelGraph model = make_frame(
      config, shape, {"model.embed_tokens.weight", "model.final_layernorm", "lm_head.weight"}, norm,
      false);
  LlamaAttention attention;
  attention.rotates = false;
  attention.attention = causal_attention(shape);
  MambaMixer mixer;
  mixer.inner = config.multiple("mamba_expand", 2, shape.hidden);
  mixer.rank = read_rank(config, "mamba_dt_rank", shape.hidden);
  mixer.scan.state_size = config.positive("mamba_d_state", 16);
  mixer.convolution = {.kernel = config.positive("mamba_d_conv", 4),
                       .bias = config.boolean("mamba_conv_bias", true)};
  mixer.projection_bias = config.boolean("mamba_proj_bias", false);
  mixer.activation = activation;
  mixer.norms = true;
  mixer.norm = norm;
  mixer.prefix = "mamba.";
  ExpertsSpec experts;
  read_experts(config, "num_experts", 16, "num_experts_per_tok", 2, experts);
  experts.expert_prefix = "feed_forward.experts.";
  experts.expert = gated_expert(shape.hidden, shape.intermediate, activation,
                                {"gate_proj", "up_proj", "down_proj"});
  experts.fused =
      fused_gated_experts("feed_forward.experts.", {"gate_proj", "up_proj", "down_proj"});
  const int64_t attention_period = config.positive("attn_layer_period", 8);
  const int64_t attention_offset = config.non_negative("attn_layer_offset", 4);
  const int64_t expert_period = config.positive("expert_layer_period", 2);
  const int64_t expert_offset = config.non_negative("expert_layer_offset", 1);
  const GatedMlpNames plain{"feed_forward.gate_proj", "feed_forward.up_proj",
                            "feed_forward.down_proj"};
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    BlockBuilder b(llama_prefix(layer), shape.hidden);
    const Value x = b.norm(b.input(), "input_layernorm", norm);
    const bool attends = layer % attention_period == attention_offset;
    const Value mixed = attends ? llama_attention(b, x, attention) : mamba_mixer(b, x, mixer);
    const Value middle = b.add(b.input(), mixed);
    const Value y = b.norm(middle, "pre_ff_layernorm", norm);
    if (experts.count > 1 && layer % expert_period == expert_offset) {
      const Value logits =
          b.linear(y, "feed_forward.router", experts.count, {.keep = true, .wide = true});
      model.blocks.push_back(b.finish(b.add(middle, b.experts(y, logits, experts))));
    } else {
      const Value mlp = gated_mlp(b, y, shape.intermediate, activation, false, plain);
      model.blocks.push_back(b.finish(b.add(middle, mlp)));
    }
  }
  return model;
}

}  // namespace pare
