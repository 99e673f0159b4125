#include "tests/pipeline/architecture_fixture.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <random>

#include "formats/safetensors_writer.h"
#include "model/block_parameters.h"
#include "pipeline/compressed_block.h"
#include "tests/support/model_configs.h"

namespace pare::testing {
namespace {

// "a.b" as a regular expression that matches nothing else.
std::string exactly(const std::string& name) {
  std::string pattern = "^";
  for (const char letter : name) {
    if (letter == '.') pattern += '\\';
    pattern += letter;
  }
  return pattern + "$";
}

Shape rows_of_all(const Shape& one, int64_t parts, int64_t experts) {
  Shape shape = one;
  shape[0] *= parts;
  shape.insert(shape.begin(), experts);
  return shape;
}

void fuse(const BlockGraph& block, const std::vector<FusedExperts>& parts, MemorySource& source) {
  MemoryTensor fused;
  for (int64_t expert = 0; expert < block.experts->count; ++expert) {
    for (const FusedExperts& part : parts) {
      const std::string name = expert_block(block, expert).prefix + part.parameter;
      const std::vector<float>& values = source.values(name);
      fused.values.insert(fused.values.end(), values.begin(), values.end());
      fused.shape = rows_of_all(source.shape(name), part.parts, block.experts->count);
      source.erase(name);
    }
  }
  source.set(block.prefix + parts[0].stored, std::move(fused));
}

std::vector<double> log_softmax(const float* logits, int64_t count) {
  std::vector<double> result(logits, logits + count);
  const double largest = *std::max_element(result.begin(), result.end());
  double sum = 0;
  for (const double value : result) sum += std::exp(value - largest);
  for (double& value : result) value -= largest + std::log(sum);
  return result;
}

bool same(const CompressedWeight& one, const CompressedWeight& other) {
  return one.codes == other.codes && one.scale == other.scale &&
         one.mask_index == other.mask_index && one.zero_point == other.zero_point &&
         one.input_scale == other.input_scale && one.pre_quant_scale == other.pre_quant_scale &&
         one.format == other.format && one.activation == other.activation;
}

}  // namespace

void write_folder(const std::string& folder, const MemorySource& source) {
  std::filesystem::create_directories(folder);
  write_file(folder + "/config.json", source.config_json());
  std::map<std::string, std::vector<std::byte>> bytes;
  std::map<std::string, TensorView> views;
  for (const std::string& name : source.names()) {
    bytes[name] = encode_values(source.values(name), DType::kBf16);
    views[name] = {DType::kBf16, source.shape(name), bytes[name]};
  }
  write_safetensors(folder + "/model.safetensors", views, {}, /*force=*/true);
}

MemorySource without_prefix(const MemorySource& source, const std::string& prefix) {
  MemorySource renamed(source.config_json());
  for (const std::string& name : source.names()) {
    renamed.set(name.starts_with(prefix) ? name.substr(prefix.size()) : name,
                {source.shape(name), source.values(name)});
  }
  return renamed;
}

MemorySource with_fused_experts(const MemorySource& source) {
  MemorySource fused = source;
  const ModelGraph graph = graph_of(nlohmann::json::parse(source.config_json()));
  for (const BlockGraph& block : graph.blocks) {
    if (!block.experts) continue;
    std::map<std::string, std::vector<FusedExperts>> parts;
    for (const FusedExperts& part : block.experts->fused) parts[part.stored].push_back(part);
    for (auto& [stored, all] : parts) {
      std::sort(all.begin(), all.end(),
                [](const auto& one, const auto& other) { return one.part < other.part; });
      fuse(block, all, fused);
    }
  }
  return fused;
}

double mean_divergence(const std::vector<std::vector<float>>& expected,
                       const std::vector<std::vector<float>>& found, int64_t vocabulary) {
  double sum = 0;
  double tokens = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    for (size_t at = 0; at < expected[i].size(); at += static_cast<size_t>(vocabulary)) {
      const std::vector<double> p = log_softmax(expected[i].data() + at, vocabulary);
      const std::vector<double> q = log_softmax(found.at(i).data() + at, vocabulary);
      for (size_t j = 0; j < p.size(); ++j) sum += std::exp(p[j]) * (p[j] - q[j]);
      tokens += 1;
    }
  }
  return sum / tokens;
}

std::vector<std::string> different_tensors(const WeightSource& one, const WeightSource& other) {
  std::vector<std::string> different;
  std::set_symmetric_difference(one.names().begin(), one.names().end(), other.names().begin(),
                                other.names().end(), std::back_inserter(different));
  for (const std::string& name : one.names()) {
    if (!other.contains(name)) continue;
    bool equal = one.is_compressed(name) == other.is_compressed(name);
    if (equal && one.is_compressed(name)) {
      equal = same(one.compressed(name), other.compressed(name));
    } else if (equal) {
      equal = one.shape(name) == other.shape(name) && one.dtype(name) == other.dtype(name) &&
              std::ranges::equal(one.dense(name).bytes, other.dense(name).bytes);
    }
    if (!equal) different.push_back(name);
  }
  return different;
}

void ArchitectureTest::use(const MemorySource& source, int64_t windows, int64_t length) {
  write_folder(path("model"), source);
  graph_ = open_model_files(path("model")).graph;
  const int64_t vocabulary = std::min(graph_.vocab_size, graph_.embedding.vocab_size);
  write_ids(windows, length, vocabulary);
  if (!graph_.encoder) return;
  std::mt19937 random(kModelSeed);
  const auto ids = [&](int64_t count, int64_t below) {
    nlohmann::json array = nlohmann::json::array();
    for (int64_t i = 0; i < count; ++i) {
      array.push_back(random() % static_cast<uint32_t>(below));
    }
    return array;
  };
  std::string lines;
  for (int64_t i = 0; i < windows; ++i) {
    // Pairs of different lengths, so that there is padding to leave out.
    const nlohmann::json pair = {
        {"input_ids", ids(length - i % 5, graph_.encoder->embedding.vocab_size)},
        {"labels", ids(length - 2 - i % 3, vocabulary)}};
    lines += pair.dump() + "\n";
  }
  write_file(path("calib.jsonl"), lines);
}

void ArchitectureTest::use_config(const std::string& name, int64_t windows, int64_t length) {
  use(nlohmann::json::parse(model_config(name).json), windows, length);
}

QuantizeOptions ArchitectureTest::job_of(const std::string& output, const std::string& qformat,
                                         const std::string& sparsity) const {
  QuantizeOptions options = job(output, qformat, sparsity);
  if (graph_.encoder) options.calibration = path("calib.jsonl");
  options.awq_block_size = 16;
  if (sparsity == "none") return options;
  for_each_block(graph_, [&](const BlockGraph& block) {
    for (const Op& op : block.ops) {
      if (op.kind != OpKind::kLinear || op.linear.keep || block.in_features(op) % 4 == 0) continue;
      options.exclude.push_back(exactly(block.full_name(op)));
    }
  });
  return options;
}

std::vector<std::vector<float>> ArchitectureTest::logits_of(const ModelFiles& model,
                                                            Precision precision) const {
  const auto sequences = random_sequences(model.graph, {23, 9}, kModelSeed + 1);
  return run_sequences(model.graph, *model.source, sequences, precision);
}

std::vector<std::vector<float>> ArchitectureTest::logits_of(const std::string& model,
                                                            Precision precision,
                                                            const std::string& lora,
                                                            LoraUse lora_use) const {
  return logits_of(open_model_files(model, lora, lora_use), precision);
}

double ArchitectureTest::distance(const std::vector<std::vector<float>>& found,
                                  const std::vector<std::vector<float>>& expected) {
  std::vector<float> all_found;
  std::vector<float> all_expected;
  for (const auto& one : found) all_found.insert(all_found.end(), one.begin(), one.end());
  for (const auto& one : expected) {
    all_expected.insert(all_expected.end(), one.begin(), one.end());
  }
  if (all_found.size() != all_expected.size()) throw std::length_error("logits of other tokens");
  return relative_error(all_found, all_expected);
}

}  // namespace pare::testing
