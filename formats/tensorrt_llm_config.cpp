#include "formats/tensorrt_llm_config.h"

#include <algorithm>
#include <array>

#include "formats/input_paths.h"
#include "formats/json_check.h"
#include "formats/mapped_file.h"
#include "pare/error.h"

namespace pare {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostBytes = size_t{256} << 20;
constexpr int64_t kMostLayers = 4096;
constexpr int64_t kMostExperts = 4096;
constexpr int64_t kMostHeads = 65536;
constexpr int64_t kMostSize = int64_t{1} << 27;
constexpr int64_t kMostExpertsOfAll = int64_t{1} << 18;

constexpr std::array<TrtAlgoInfo, 8> kAlgos = {{
    {TrtAlgo::kNone, "", WeightFormat::kBf16, ActivationFormat::kBf16, kPerTensor, true},
    {TrtAlgo::kFp8, "FP8", WeightFormat::kFp8E4m3, ActivationFormat::kFp8Static, kPerTensor, true},
    {TrtAlgo::kFp8Rowwise, "FP8_PER_CHANNEL_PER_TOKEN", WeightFormat::kFp8E4m3,
     ActivationFormat::kFp8Dynamic, kPerChannel, false},
    {TrtAlgo::kInt8Static, "W8A8_SQ_PER_CHANNEL", WeightFormat::kInt8,
     ActivationFormat::kInt8Static, kPerChannel, true},
    {TrtAlgo::kInt8PerToken, "W8A8_SQ_PER_CHANNEL_PER_TOKEN_PLUGIN", WeightFormat::kInt8,
     ActivationFormat::kInt8Dynamic, kPerChannel, false},
    {TrtAlgo::kInt8WeightOnly, "W8A16", WeightFormat::kInt8, ActivationFormat::kBf16, kPerChannel,
     false},
    {TrtAlgo::kInt4, "W4A16_AWQ", WeightFormat::kInt4, ActivationFormat::kBf16, 1, true},
    {TrtAlgo::kInt4Fp8, "W4A8_AWQ", WeightFormat::kInt4, ActivationFormat::kFp8Static, 1, true},
}};

std::string quoted(const char* key) { return "\"" + std::string(key) + "\""; }

/// One object of a file, whose keys are read with checks.
class Reader {
 public:
  Reader(const Json& json, std::string subject) : json_(json), subject_(std::move(subject)) {}

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::kInputMalformed, subject_ + ": " + what);
  }
  bool has(const char* key) const {
    const auto found = json_.find(key);
    return found != json_.end() && !found->is_null();
  }
  const Json& at(const char* key) const { return *json_.find(key); }

  int64_t count(const char* key, int64_t most = kMostSize) const {
    if (!has(key)) fail(quoted(key) + " is not there");
    const Json& value = at(key);
    if (!value.is_number_unsigned() || value.get<uint64_t>() < 1 ||
        value.get<uint64_t>() > static_cast<uint64_t>(most)) {
      fail(quoted(key) + " is " + value.dump() + ", expected a number from 1 to " +
           std::to_string(most));
    }
    return value.get<int64_t>();
  }
  int64_t count_or(const char* key, int64_t otherwise, int64_t most = kMostSize) const {
    return has(key) ? count(key, most) : otherwise;
  }
  std::string text(const char* key) const {
    if (!has(key)) return "";
    if (!at(key).is_string()) {
      fail(quoted(key) + " is " + at(key).dump() + ", expected a string");
    }
    return at(key).get<std::string>();
  }
  bool flag(const char* key, bool otherwise) const {
    if (!has(key)) return otherwise;
    if (!at(key).is_boolean()) {
      fail(quoted(key) + " is " + at(key).dump() + ", expected true or false");
    }
    return at(key).get<bool>();
  }
  Reader object(const char* key) const {
    if (!has(key) || !at(key).is_object()) fail(quoted(key) + " is not an object");
    return {at(key), subject_ + ": " + key};
  }
  const Json& json() const { return json_; }

 private:
  const Json& json_;
  std::string subject_;
};

Json read_json(const std::string& path) {
  if (!input_file_exists(path)) {
    throw Error(ErrorCode::kInputMissing, path + " is not there");
  }
  const std::string text = read_text_file(path, kMostBytes);
  check_json(text, path);
  return Json::parse(text);
}

// As Python's fnmatch: * is any text, ? any letter.
bool matches(std::string_view pattern, std::string_view text) {
  size_t at = 0;
  size_t i = 0;
  size_t star = std::string_view::npos;
  size_t after = 0;
  while (i < text.size()) {
    if (at < pattern.size() && pattern[at] == '*') {
      star = at++;
      after = i;
    } else if (at < pattern.size() && (pattern[at] == '?' || pattern[at] == text[i])) {
      ++at;
      ++i;
    } else if (star != std::string_view::npos) {
      at = star + 1;
      i = ++after;
    } else {
      return false;
    }
  }
  while (at < pattern.size() && pattern[at] == '*') ++at;
  return at == pattern.size();
}

TrtScheme read_scheme(const Reader& reader) {
  const std::string name = reader.text("quant_algo");
  const auto found =
      std::ranges::find_if(kAlgos, [&](const TrtAlgoInfo& info) { return name == info.name; });
  if (found == kAlgos.end()) {
    std::string known;
    for (const TrtAlgoInfo& info : kAlgos) {
      if (*info.name != '\0') known += std::string(known.empty() ? "" : ", ") + info.name;
    }
    reader.fail("quant_algo \"" + name + "\" is not read; known: " + known);
  }
  TrtScheme scheme{found->algo, found->group_size};
  if (found->group_size > 0) {
    scheme.group_size = reader.count_or("group_size", 128);
    if (reader.flag("has_zero_point", false)) reader.fail("has_zero_point is not read");
  }
  return scheme;
}

TrtQuantization read_quantization(const Reader& config, const std::string& path) {
  TrtQuantization quantization;
  if (!config.has("quantization")) return quantization;
  const Reader reader = config.object("quantization");
  quantization.cache = reader.text("kv_cache_quant_algo");
  if (!quantization.cache.empty() && quantization.cache != "FP8" && quantization.cache != "INT8") {
    reader.fail("kv_cache_quant_algo \"" + quantization.cache + "\" is not read; FP8 and INT8 are");
  }
  if (reader.has("exclude_modules")) {
    const Json& list = reader.at("exclude_modules");
    if (!list.is_array()) reader.fail("exclude_modules is not a list");
    for (const Json& name : list) {
      if (!name.is_string()) reader.fail("exclude_modules has " + name.dump() + ", not a name");
      quantization.exclude.push_back(name.get<std::string>());
    }
  }
  if (reader.text("quant_algo") != "MIXED_PRECISION") {
    quantization.scheme = read_scheme(reader);
    return quantization;
  }
  quantization.mixed = true;
  const std::string beside = path.substr(0, path.rfind('/') + 1) + "quant_cfg.json";
  const Json json = read_json(beside);
  const Reader layers = Reader(json, beside).object("quantized_layers");
  for (const auto& [name, entry] : layers.json().items()) {
    quantization.layers[name] = read_scheme(layers.object(name.c_str()));
  }
  return quantization;
}

TrtSizes read_sizes(const Reader& config, const TrtFamily& family, int64_t model_kv_heads) {
  TrtSizes sizes;
  sizes.layers = config.count("num_hidden_layers", kMostLayers);
  sizes.hidden = config.count("hidden_size");
  sizes.heads = config.count("num_attention_heads", kMostHeads);
  sizes.written_kv_heads = config.count_or("num_key_value_heads", sizes.heads, kMostHeads);
  sizes.kv_heads = model_kv_heads > 0 ? model_kv_heads : sizes.written_kv_heads;
  if (sizes.heads % sizes.written_kv_heads != 0 || sizes.written_kv_heads % sizes.kv_heads != 0) {
    config.fail("num_attention_heads " + std::to_string(sizes.heads) + ", num_key_value_heads " +
                std::to_string(sizes.written_kv_heads) + " and the model's " +
                std::to_string(sizes.kv_heads) + " KV heads do not divide each other");
  }
  if (!config.has("head_size") && sizes.hidden % sizes.heads != 0) {
    config.fail("\"head_size\" is not there");
  }
  sizes.head_dim =
      config.count_or("head_size", std::max<int64_t>(1, sizes.hidden / sizes.heads), kMostHeads);
  sizes.intermediate = config.has("ffn_hidden_size")
                           ? config.count("ffn_hidden_size")
                           : config.count_or("intermediate_size", 4 * sizes.hidden);
  sizes.vocab = config.count("vocab_size");
  if (*family.positions != '\0') sizes.positions = config.count("max_position_embeddings");
  if (config.has("moe")) {
    const Reader moe = config.object("moe");
    if (moe.has("num_experts") && moe.at("num_experts") != 0) {
      sizes.experts = moe.count("num_experts", kMostExperts);
      if (sizes.experts * sizes.layers > kMostExpertsOfAll) moe.fail("too many experts");
    }
  }
  const auto is = [&](TrtKind kind) {
    return std::ranges::any_of(family.modules,
                               [&](const TrtModule& module) { return module.kind == kind; });
  };
  if (is(TrtKind::kExpertUp) != (sizes.experts > 0)) {
    config.fail(std::string("architecture \"") + family.target + "\" with " +
                std::to_string(sizes.experts) + " experts is not read");
  }
  if (is(TrtKind::kRelativeBias)) {
    sizes.buckets = config.count("num_buckets");
    sizes.gated = config.has("mlp_type") && config.at("mlp_type") != 0;
  }
  return sizes;
}

void read_mapping(const Reader& config, TrtSizes& sizes) {
  if (!config.has("mapping")) return;
  const Reader mapping = config.object("mapping");
  sizes.tp_size = mapping.count_or("tp_size", 1, 4096);
  sizes.pp_size = mapping.count_or("pp_size", 1, 4096);
  for (const char* key : {"cp_size", "moe_ep_size"}) {
    if (mapping.has(key) && mapping.at(key) != 1 && mapping.at(key) != -1) {
      mapping.fail(std::string(key) + " " + mapping.at(key).dump() + " is not read, 1 is");
    }
  }
  const int64_t world = mapping.count_or("world_size", 1);
  if (world != sizes.tp_size * sizes.pp_size) {
    mapping.fail("world_size " + std::to_string(world) + " is not tp_size " +
                 std::to_string(sizes.tp_size) + " × pp_size " + std::to_string(sizes.pp_size));
  }
}

TrtForm read_embedding_form(const Reader& config) {
  if (!config.flag("use_parallel_embedding", false)) return TrtForm::kWhole;
  if (!config.has("embedding_sharding_dim")) return TrtForm::kPadded;
  const Json& dim = config.at("embedding_sharding_dim");
  if (dim != 0 && dim != 1) config.fail("embedding_sharding_dim is neither 0 nor 1");
  return dim == 0 ? TrtForm::kPadded : TrtForm::kColumns;
}

}  // namespace

const TrtAlgoInfo& trt_algo_info(TrtAlgo algo) { return kAlgos.at(static_cast<size_t>(algo)); }

std::optional<TrtAlgo> find_trt_algo(const LinearScheme& scheme) {
  for (const TrtAlgoInfo& info : kAlgos) {
    if (info.weight != scheme.weight || info.activation != scheme.activation) continue;
    const bool same_groups =
        info.group_size > 0 ? scheme.group_size > 0 : info.group_size == scheme.group_size;
    if (info.algo == TrtAlgo::kNone ||
        (same_groups && scheme.symmetric && scheme.block_rows == 1)) {
      return info.algo;
    }
  }
  return std::nullopt;
}

TrtScheme TrtQuantization::algo_of(const std::string& module) const {
  const auto names = [&](const std::string& pattern) { return matches(pattern, module); };
  if (mixed) {
    const auto found = std::ranges::find_if(layers, [&](const auto& one) {
      return names(one.first) || module.starts_with(one.first + ".");
    });
    return found == layers.end() ? TrtScheme{} : found->second;
  }
  return std::ranges::any_of(exclude, names) ? TrtScheme{} : scheme;
}

bool is_trt_folder(const std::string& folder) {
  const std::string path = folder + "/config.json";
  if (input_file_exists(path)) {
    if (input_file_exists(folder + "/rank0.safetensors")) return true;
    const Json json = Json::parse(read_text_file(path, kMostBytes), nullptr, false);
    return json.is_object() && json.contains("architecture") && json.contains("mapping");
  }
  return input_file_exists(folder + "/encoder/config.json") &&
         input_file_exists(folder + "/decoder/config.json");
}

TrtConfig read_trt_config(const std::string& path, int64_t model_kv_heads) {
  TrtConfig config;
  config.path = path;
  config.json = read_json(path);
  const Reader reader(config.json, path);
  config.family = find_trt_target(config.json);
  if (config.family == nullptr) {
    reader.fail("architecture \"" + reader.text("architecture") +
                "\" of TensorRT-LLM is not known; known: " + known_trt_families());
  }
  const std::string dtype = reader.text("dtype");
  if (dtype != "bfloat16" && dtype != "float16" && dtype != "float32") {
    reader.fail("dtype \"" + dtype + "\" is not read; bfloat16, float16 and float32 are");
  }
  config.sizes = read_sizes(reader, *config.family, model_kv_heads);
  read_mapping(reader, config.sizes);
  config.quantization = read_quantization(reader, path);
  config.sizes.embedding = read_embedding_form(reader);
  if (config.sizes.embedding == TrtForm::kColumns &&
      config.sizes.hidden % config.sizes.tp_size != 0) {
    reader.fail("hidden_size is no multiple of tp_size, which embedding_sharding_dim 1 needs");
  }
  if (const std::string fault = trt_split_fault(config.sizes); !fault.empty()) reader.fail(fault);
  return config;
}

}  // namespace pare
