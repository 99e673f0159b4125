#include "tests/eval/any_model.h"

#include <bit>
#include <filesystem>
#include <fstream>
#include <random>

#include "tests/support/random_model.h"
#include "tests/support/tiny_model.h"

namespace pare::testing {

nlohmann::json any_config(const std::string& name, const nlohmann::json& changes) {
  nlohmann::json config = nlohmann::json::parse(model_config(name).json);
  config.update(changes);
  return config;
}

void write_any_model(const std::string& folder, const nlohmann::json& config, uint32_t seed,
                     const std::string& damaged) {
  const MemorySource source = random_model(config, seed);
  std::map<std::string, Bf16Tensor> tensors;
  for (const std::string& name : source.names()) {
    Bf16Tensor& tensor = tensors[name];
    tensor.shape = source.shape(name);
    for (const float value : source.values(name)) {
      tensor.bits.push_back(static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16U));
    }
  }
  if (!damaged.empty()) tensors.at(damaged).bits[0] = 0x7fc0;
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/config.json") << config.dump();
  write_safetensors(folder + "/model.safetensors", tensors);
}

std::vector<IdPair> random_pairs(size_t count, int64_t longest, int32_t vocabulary, uint32_t seed) {
  std::mt19937 random(seed);
  const auto ids = [&] {
    std::vector<int32_t> made(1 + random() % static_cast<uint32_t>(longest));
    for (int32_t& id : made)
      id = static_cast<int32_t>(random() % static_cast<uint32_t>(vocabulary));
    return made;
  };
  std::vector<IdPair> pairs(count);
  for (IdPair& pair : pairs) pair = {ids(), ids()};
  return pairs;
}

void write_pairs(const std::string& path, const std::vector<IdPair>& pairs) {
  std::string text;
  for (const IdPair& pair : pairs) {
    text += nlohmann::json{{"source", pair.source}, {"target", pair.target}}.dump() + "\n";
  }
  std::ofstream(path) << text;
}

}  // namespace pare::testing
