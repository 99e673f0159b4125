#include "tests/support/shaped_model.h"

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <vector>

#include "core/dtype.h"
#include "tests/support/program.h"

namespace pare::testing {
namespace {

using Scales = std::vector<float>;

Scales outliers(int64_t length, float size) {
  Scales scales(static_cast<size_t>(length), 1.0F);
  for (size_t i = 5; i < scales.size(); i += 16) scales[i] = size;
  return scales;
}

class Maker {
 public:
  Maker(const ModelShape& shape, uint32_t seed) : shape_(shape), random_(seed) {}

  ModelTensors make() {
    tensors_["model.embed_tokens.weight"] = matrix(shape_.vocabulary, shape_.hidden, 1.0F, {}, {});
    for (int64_t layer = 0; layer < shape_.layers; ++layer) {
      add_block("model.layers." + std::to_string(layer) + ".");
    }
    tensors_["model.norm.weight"] = norm(Scales(static_cast<size_t>(shape_.hidden), 1.0F));
    if (!shape_.tied) {
      tensors_["lm_head.weight"] =
          matrix(shape_.vocabulary, shape_.hidden, deviation(shape_.hidden), {}, {});
    }
    return std::move(tensors_);
  }

 private:
  static float deviation(int64_t in) { return 1.0F / std::sqrt(static_cast<float>(in)); }

  void add_block(const std::string& prefix) {
    const int64_t query = shape_.heads * shape_.head_dim;
    const int64_t key = shape_.kv_heads * shape_.head_dim;
    const Scales stream = outliers(shape_.hidden, shape_.outlier);
    const Scales value = outliers(key, shape_.outlier);
    const Scales up = outliers(shape_.feed_forward, shape_.outlier);
    // What the heads of a group of queries read is one row of v.
    Scales context;
    for (int64_t head = 0; head < shape_.heads; ++head) {
      const int64_t first = head / (shape_.heads / shape_.kv_heads) * shape_.head_dim;
      for (int64_t i = 0; i < shape_.head_dim; ++i) {
        context.push_back(value[static_cast<size_t>(first + i)]);
      }
    }
    tensors_[prefix + "input_layernorm.weight"] = norm(stream);
    tensors_[prefix + "post_attention_layernorm.weight"] = norm(stream);
    add_linear(prefix + "self_attn.q_proj", query, shape_.hidden, {}, stream);
    add_linear(prefix + "self_attn.k_proj", key, shape_.hidden, {}, stream);
    add_linear(prefix + "self_attn.v_proj", key, shape_.hidden, value, stream);
    add_linear(prefix + "self_attn.o_proj", shape_.hidden, query, {}, context);
    add_linear(prefix + "mlp.gate_proj", shape_.feed_forward, shape_.hidden, {}, stream);
    add_linear(prefix + "mlp.up_proj", shape_.feed_forward, shape_.hidden, up, stream);
    add_linear(prefix + "mlp.down_proj", shape_.hidden, shape_.feed_forward, {}, up);
  }

  void add_linear(const std::string& name, int64_t out, int64_t in, const Scales& rows,
                  const Scales& inputs) {
    tensors_[name + ".weight"] = matrix(out, in, deviation(in), rows, inputs);
    if (shape_.biased) tensors_[name + ".bias"] = vector(out, 0.2F, 0.0F, rows);
  }

  // Rows times `rows`, columns divided by `inputs`; empty: ones.
  Bf16Tensor matrix(int64_t out, int64_t in, float size, const Scales& rows, const Scales& inputs) {
    Bf16Tensor tensor{{out, in}, {}};
    for (int64_t row = 0; row < out; ++row) {
      for (int64_t i = 0; i < in; ++i) {
        float value = size * normal_(random_);
        if (!rows.empty()) value *= rows[static_cast<size_t>(row)];
        if (!inputs.empty()) value /= inputs[static_cast<size_t>(i)];
        tensor.bits.push_back(f32_to_bf16(value));
      }
    }
    return tensor;
  }

  Bf16Tensor vector(int64_t length, float size, float middle, const Scales& scales) {
    Bf16Tensor tensor{{length}, {}};
    for (int64_t i = 0; i < length; ++i) {
      float value = middle + size * normal_(random_);
      if (!scales.empty()) value *= scales[static_cast<size_t>(i)];
      tensor.bits.push_back(f32_to_bf16(value));
    }
    return tensor;
  }

  Bf16Tensor norm(const Scales& scales) {
    return vector(static_cast<int64_t>(scales.size()), 0.1F, 1.0F, scales);
  }

  const ModelShape& shape_;
  std::mt19937 random_;
  std::normal_distribution<float> normal_;
  ModelTensors tensors_;
};

}  // namespace

ModelTensors make_tensors(const ModelShape& shape, uint32_t seed) {
  return Maker(shape, seed).make();
}

void write_model(const std::string& folder, const ModelShape& shape, const ModelTensors& tensors) {
  std::filesystem::create_directories(folder);
  write_safetensors(folder + "/model.safetensors", tensors);
  const nlohmann::json config = {{"architectures", {"LlamaForCausalLM"}},
                                 {"model_type", "llama"},
                                 {"vocab_size", shape.vocabulary},
                                 {"hidden_size", shape.hidden},
                                 {"intermediate_size", shape.feed_forward},
                                 {"num_hidden_layers", shape.layers},
                                 {"num_attention_heads", shape.heads},
                                 {"num_key_value_heads", shape.kv_heads},
                                 {"head_dim", shape.head_dim},
                                 {"hidden_act", "silu"},
                                 {"rms_norm_eps", 1e-5},
                                 {"rope_theta", 10000.0},
                                 {"max_position_embeddings", 512},
                                 {"tie_word_embeddings", shape.tied},
                                 {"attention_bias", shape.biased},
                                 {"mlp_bias", shape.biased},
                                 {"bos_token_id", 0},
                                 {"torch_dtype", "bfloat16"}};
  write_file(folder + "/config.json", config.dump(2));
}

}  // namespace pare::testing
