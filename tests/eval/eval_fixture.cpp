#include "tests/eval/eval_fixture.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "formats/checkpoint_writer.h"
#include "formats/weight_source.h"
#include "pare/error.h"
#include "tests/support/tiny_model.h"

namespace pare::testing {
namespace {

CompressedWeight round_to_int8(const TensorView& view, const std::string& name) {
  const std::vector<float> values = to_f32(view, name);
  CompressedWeight weight;
  weight.format = WeightFormat::kInt8;
  weight.activation = ActivationFormat::kInt8Dynamic;
  weight.out_features = view.shape[0];
  weight.in_features = view.shape[1];
  weight.group_size = kPerChannel;
  for (int64_t row = 0; row < weight.out_features; ++row) {
    const auto begin = values.begin() + row * weight.in_features;
    float largest = 1e-6F;
    for (int64_t i = 0; i < weight.in_features; ++i)
      largest = std::max(largest, std::abs(begin[i]));
    weight.scale.push_back(largest / 127.0F);
    for (int64_t i = 0; i < weight.in_features; ++i) {
      const float code = std::nearbyint(begin[i] / weight.scale.back());
      weight.codes.push_back(static_cast<uint8_t>(static_cast<int8_t>(code)));
    }
  }
  return weight;
}

}  // namespace

void fill_tensor(const std::string& path, const std::string& tensor, uint16_t bits) {
  std::string file = read_file(path);
  uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof(length));
  const auto header = nlohmann::json::parse(file.substr(sizeof(length), length));
  const auto offsets = header.at(tensor).at("data_offsets").get<std::vector<size_t>>();
  for (size_t at = offsets[0]; at < offsets[1]; at += sizeof(bits)) {
    std::memcpy(file.data() + sizeof(length) + length + at, &bits, sizeof(bits));
  }
  write_file(path, file);
}

void write_int8_checkpoint(const std::string& folder, const std::string& path,
                           const std::string& recipe_json, float input_scale) {
  const auto source = open_weight_source(folder);
  CheckpointHeader header;
  header.architecture = "LlamaForCausalLM";
  header.config_json = source->config_json();
  header.recipe_json = recipe_json;
  header.source_sha256 = source->sha256();
  header.text_files = source->text_files();
  CheckpointWriter writer(path, header, /*force=*/false);
  for (const std::string& name : source->names()) {
    if (name.find("_proj.") == std::string::npos) {
      writer.write_dense(name, source->dense(name));
    } else {
      CompressedWeight weight = round_to_int8(source->dense(name), name);
      if (input_scale > 0) weight.activation = ActivationFormat::kInt8Static;
      if (input_scale < 0) weight.activation = ActivationFormat::kBf16;
      weight.input_scale = std::max(0.0F, input_scale);
      writer.write_compressed(name, weight);
    }
  }
  writer.finish();
}

EvalTest::EvalTest() { ids_ = make_ids("text.ids", 12 * 32 + 5, 99); }

std::string EvalTest::make_model(const std::string& name, uint32_t seed) {
  write_tiny_llama(path(name), PARE_SOURCE_DIR "/demo/model/tokenizer.json", seed);
  return path(name);
}

std::string EvalTest::make_ids(const std::string& name, int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::string text = "0";
  for (int64_t i = 1; i < count; ++i) {
    text += " " + std::to_string(2 + random() % (kTinyVocabulary - 2));
  }
  write_file(path(name), text);
  return path(name);
}

EvaluateOptions EvalTest::options(const std::string& baseline,
                                  const std::vector<std::string>& candidates) const {
  EvaluateOptions result;
  result.baseline = baseline;
  result.candidates = candidates;
  result.text = ids_;
  result.ctx = 32;
  result.threads = 2;
  return result;
}

Failure failure_of(const EvaluateOptions& options, const Callbacks& callbacks) {
  try {
    evaluate(options, callbacks);
  } catch (const Error& error) {
    return {static_cast<int>(error.code()), error.what()};
  }
  ADD_FAILURE() << "evaluate() did not fail";
  return {};
}

}  // namespace pare::testing
