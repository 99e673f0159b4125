#include "tests/support/tiny_model.h"

#include <bit>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>

#include "tests/support/program.h"

namespace pare::testing {
namespace {

using Tensors = std::map<std::string, Bf16Tensor>;

constexpr int64_t kHidden = 64;
constexpr int64_t kFeedForward = 96;
constexpr int64_t kVocabulary = 4096;
constexpr int64_t kLayers = 2;

Bf16Tensor normal(std::vector<int64_t> shape, float deviation, std::mt19937& random) {
  Bf16Tensor tensor{std::move(shape), {}};
  int64_t count = 1;
  for (const int64_t length : tensor.shape) count *= length;
  std::normal_distribution<float> distribution(0.0F, deviation);
  for (int64_t i = 0; i < count; ++i) {
    tensor.bits.push_back(
        static_cast<uint16_t>(std::bit_cast<uint32_t>(distribution(random)) >> 16U));
  }
  return tensor;
}

Bf16Tensor ones(int64_t length) {
  return {{length}, std::vector<uint16_t>(static_cast<size_t>(length), 0x3f80)};
}

}  // namespace

void write_safetensors(const std::string& path, const Tensors& tensors) {
  nlohmann::json header;
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    const size_t begin = data.size();
    const size_t bytes = tensor.bits.size() * sizeof(uint16_t);
    data.resize(begin + bytes);
    std::memcpy(data.data() + begin, tensor.bits.data(), bytes);
    header[name] = {
        {"dtype", "BF16"}, {"shape", tensor.shape}, {"data_offsets", {begin, begin + bytes}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  std::string prefix(sizeof(length), '\0');
  std::memcpy(prefix.data(), &length, sizeof(length));
  write_file(path, prefix + text + data);
}

void write_tiny_llama(const std::string& folder, const std::string& tokenizer, uint32_t seed) {
  std::filesystem::create_directories(folder);
  std::mt19937 random(seed);
  Tensors first;
  Tensors second;
  first["model.embed_tokens.weight"] = normal({kVocabulary, kHidden}, 0.5F, random);
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    Tensors& shard = layer == 0 ? first : second;
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    const auto linear = [&](const std::string& name, int64_t out, int64_t in) {
      shard[prefix + name + ".weight"] = normal({out, in}, 0.1F, random);
    };
    linear("self_attn.q_proj", kHidden, kHidden);
    linear("self_attn.k_proj", kHidden / 2, kHidden);
    linear("self_attn.v_proj", kHidden / 2, kHidden);
    linear("self_attn.o_proj", kHidden, kHidden);
    linear("mlp.gate_proj", kFeedForward, kHidden);
    linear("mlp.up_proj", kFeedForward, kHidden);
    linear("mlp.down_proj", kHidden, kFeedForward);
    shard[prefix + "input_layernorm.weight"] = ones(kHidden);
    shard[prefix + "post_attention_layernorm.weight"] = ones(kHidden);
  }
  second["model.norm.weight"] = ones(kHidden);
  second["lm_head.weight"] = normal({kVocabulary, kHidden}, 0.1F, random);

  nlohmann::json index;
  const auto write_shard = [&](const std::string& name, const Tensors& tensors) {
    write_safetensors(folder + "/" + name, tensors);
    for (const auto& [tensor, value] : tensors) index["weight_map"][tensor] = name;
  };
  write_shard("model-00001-of-00002.safetensors", first);
  write_shard("model-00002-of-00002.safetensors", second);
  write_file(folder + "/model.safetensors.index.json", index.dump(2));
  const nlohmann::json config = {{"architectures", {"LlamaForCausalLM"}},
                                 {"model_type", "llama"},
                                 {"vocab_size", kVocabulary},
                                 {"hidden_size", kHidden},
                                 {"intermediate_size", kFeedForward},
                                 {"num_hidden_layers", kLayers},
                                 {"num_attention_heads", 4},
                                 {"num_key_value_heads", 2},
                                 {"head_dim", 16},
                                 {"hidden_act", "silu"},
                                 {"rms_norm_eps", 1e-5},
                                 {"rope_theta", 10000.0},
                                 {"max_position_embeddings", 512},
                                 {"tie_word_embeddings", false},
                                 {"bos_token_id", 0},
                                 {"eos_token_id", 1},
                                 {"torch_dtype", "bfloat16"}};
  write_file(folder + "/config.json", config.dump(2));
  std::filesystem::copy_file(tokenizer, folder + "/tokenizer.json");
}

void poke_tensor(const std::string& path, const std::string& tensor, uint16_t bits) {
  std::string file = read_file(path);
  uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof(length));
  const auto header = nlohmann::json::parse(file.substr(sizeof(length), length));
  const auto begin = header.at(tensor).at("data_offsets").at(0).get<size_t>();
  std::memcpy(file.data() + sizeof(length) + length + begin, &bits, sizeof(bits));
  write_file(path, file);
}

}  // namespace pare::testing
