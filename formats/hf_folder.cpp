#include "formats/hf_folder.h"

#include <array>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "core/sha256.h"
#include "formats/input_paths.h"
#include "formats/json_check.h"
#include "formats/quantized_source.h"
#include "formats/safetensors.h"
#include "pare/error.h"

namespace pare {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr size_t kMaxTextBytes = size_t{256} << 20;
// Those of tokenizers in docs/checkpoint.md; SentencePiece models are binary.
constexpr std::array<const char*, 10> kTextFiles{
    "tokenizer.json",          "tokenizer.model",   "spiece.model",
    "tokenizer_config.json",   "vocab.json",        "merges.txt",
    "special_tokens_map.json", "added_tokens.json", "generation_config.json",
    "chat_template.jinja"};

[[noreturn]] void malformed(const std::string& path, const std::string& what) {
  throw Error(ErrorCode::kInputMalformed, path + ": " + what);
}

/// A shard is a plain file name: an index must not reach outside its folder.
void check_shard_name(const std::string& index, const std::string& name) {
  if (name.empty() || name == "." || name == ".." ||
      name.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos) {
    malformed(index, "shard name \"" + name + "\" is not a plain file name");
  }
}

// Python writes Infinity and NaN as words that JSON does not have; newer files name them in an
// object, and so does what comes out of here.
std::string name_non_finite(const std::string& text) {
  std::string result;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (in_string && text[i] == '\\' && i + 1 < text.size()) {
      result += text[i++];
    } else if (text[i] == '"') {
      in_string = !in_string;
    } else if (!in_string) {
      const std::string_view rest = std::string_view(text).substr(i);
      bool found = false;
      for (const std::string_view word : {"Infinity", "-Infinity", "NaN"}) {
        if (!rest.starts_with(word)) continue;
        result += "{\"__float__\": \"" + std::string(word) + "\"}";
        i += word.size() - 1;
        found = true;
        break;
      }
      if (found) continue;
    }
    result += text[i];
  }
  return result;
}

class HfFolder final : public WeightSource {
 public:
  explicit HfFolder(const std::string& path) : path_(path) {
    read_config();
    text_files_ = read_model_texts(path_);
    const fs::path single = fs::path(path_) / "model.safetensors";
    const fs::path index = fs::path(path_) / "model.safetensors.index.json";
    if (input_file_exists(single.string())) {
      files_.push_back(SafetensorsFile::open(single.string()));
      for (const std::string& name : files_[0].names()) file_of_[name] = 0;
    } else if (input_file_exists(index.string())) {
      open_shards(index.string());
    } else {
      refuse_other_weights();
      throw Error(ErrorCode::kInputMissing,
                  path_ +
                      ": neither model.safetensors nor model.safetensors.index.json is there "
                      "(other weight formats have to be converted to safetensors first)");
    }
    for (const auto& [name, file] : file_of_) names_.push_back(name);
  }

  const std::string& path() const override { return path_; }
  const std::string& config_json() const override { return config_json_; }
  const std::map<std::string, std::string>& text_files() const override { return text_files_; }
  const std::vector<std::string>& names() const override { return names_; }
  bool contains(const std::string& name) const override { return file_of_.contains(name); }
  bool is_compressed(const std::string& /*name*/) const override { return false; }

  TensorView dense(const std::string& name) const override { return file(name).get(name); }
  DType dtype(const std::string& name) const override { return file(name).get(name).dtype; }

  void read(const std::string& name, int64_t first, std::span<std::byte> out) const override {
    WeightSource::read(name, first, out);
    const auto count = static_cast<int64_t>(out.size() / dtype_size(dtype(name)));
    release_part(name, first, count);
  }

  CompressedWeight compressed(const std::string& name) const override {
    malformed(file(name).path(), "tensor \"" + name + "\" is not stored compressed");
  }

  Shape shape(const std::string& name) const override { return file(name).get(name).shape; }
  std::string file_of(const std::string& name) const override { return file(name).path(); }

  int64_t stored_bytes() const override {
    int64_t total = 0;
    for (const std::string& name : names_) total += stored_bytes(name);
    return total;
  }

  int64_t stored_bytes(const std::string& name) const override {
    return static_cast<int64_t>(file(name).get(name).bytes.size());
  }

  void release(const std::vector<std::string>& names) const override {
    for (const std::string& name : names) file(name).release(name);
  }

  void release_part(const std::string& name, int64_t first, int64_t count) const override {
    file(name).release(dense_part(name, first, count).bytes);
  }

  std::string sha256() const override {
    std::call_once(hashed_, [this] { sha256_ = compute_sha256(); });
    return sha256_;
  }

  const std::string& recipe_json() const override { return recipe_json_; }

 private:
  void read_config() {
    const fs::path file = fs::path(path_) / "config.json";
    if (!input_file_exists(file.string())) {
      throw Error(ErrorCode::kInputMissing, path_ + ": config.json is not there");
    }
    config_json_ = name_non_finite(read_text_file(file.string(), kMaxTextBytes));
    check_json(config_json_, file.string());
  }

  /// Pickled and other weights are common enough to be named: pickle runs the author's code.
  void refuse_other_weights() const {
    constexpr std::array<const char*, 8> kEndings{".bin",  ".bin.index.json", ".pt",   ".pth",
                                                  ".ckpt", ".msgpack",        ".onnx", ".gguf"};
    for (const std::string& name : input_folder_names(path_)) {
      for (const char* ending : kEndings) {
        if (!name.ends_with(ending)) continue;
        malformed((fs::path(path_) / name).string(),
                  "weights are read from safetensors only; save the model again as safetensors "
                  "(save_pretrained with safe_serialization)");
      }
    }
  }

  void open_shards(const std::string& index) {
    const std::string text = read_text_file(index, kMaxTextBytes);
    check_json(text, index);
    const Json json = Json::parse(text);
    const auto map = json.find("weight_map");
    if (map == json.end() || !map->is_object() || map->empty()) {
      malformed(index, "\"weight_map\" is missing or empty");
    }
    std::set<std::string> shards;
    for (const auto& [name, shard] : map->items()) {
      if (!shard.is_string()) malformed(index, "tensor \"" + name + "\": shard is not a string");
      check_shard_name(index, shard.get_ref<const std::string&>());
      shards.insert(shard.get<std::string>());
    }
    std::map<std::string, size_t> number_of;
    for (const std::string& shard : shards) {
      const fs::path file = fs::path(path_) / shard;
      if (!input_file_exists(file.string())) {
        throw Error(ErrorCode::kInputMissing,
                    file.string() + ": this shard is named by " + index + " and is not there");
      }
      number_of[shard] = files_.size();
      files_.push_back(SafetensorsFile::open(file.string()));
    }
    for (const auto& [name, shard] : map->items()) {
      const size_t number = number_of[shard.get<std::string>()];
      if (!files_[number].contains(name)) {
        malformed(files_[number].path(),
                  "tensor \"" + name + "\" is not in this shard, but " + index + " says so");
      }
      file_of_[name] = number;
    }
    add_unlisted(index, *map);
  }

  /// Tensors that a shard holds and the index forgot are part of the model too: leaving them out
  /// would be silent.
  void add_unlisted(const std::string& index, const Json& map) {
    for (size_t number = 0; number < files_.size(); ++number) {
      for (const std::string& name : files_[number].names()) {
        if (map.contains(name)) continue;
        if (!file_of_.emplace(name, number).second) {
          malformed(files_[number].path(), "tensor \"" + name + "\" is in " +
                                               files_[file_of_[name]].path() + " too, and " +
                                               index + " does not say which one counts");
        }
      }
    }
  }

  const SafetensorsFile& file(const std::string& name) const {
    const auto found = file_of_.find(name);
    if (found == file_of_.end()) malformed(path_, "there is no tensor \"" + name + "\"");
    return files_[found->second];
  }

  std::string compute_sha256() const {
    Sha256 hash;
    hash.update("config " + sha256_hex(config_json_) + "\n");
    for (const std::string& name : names_) {
      const TensorView& view = file(name).get(name);
      hash.update(name + " " + std::string(dtype_name(view.dtype)) + " " + shape_text(view.shape) +
                  " " + sha256_hex(view.bytes) + "\n");
      file(name).release(name);
    }
    return hash.finish();
  }

  std::string path_;
  std::string config_json_;
  std::string recipe_json_;
  std::map<std::string, std::string> text_files_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, size_t> file_of_;
  std::vector<std::string> names_;
  mutable std::once_flag hashed_;
  mutable std::string sha256_;
};

}  // namespace

std::map<std::string, std::string> read_model_texts(const std::string& folder) {
  std::map<std::string, std::string> texts;
  for (const char* name : kTextFiles) {
    const std::string file = (fs::path(folder) / name).string();
    if (input_file_exists(file)) texts[name] = read_text_file(file, kMaxTextBytes);
  }
  return texts;
}

std::unique_ptr<WeightSource> open_hf_folder(const std::string& path) {
  return decode_quantized(std::make_unique<HfFolder>(path));
}

std::unique_ptr<WeightSource> open_stored_folder(const std::string& path) {
  return std::make_unique<HfFolder>(path);
}

}  // namespace pare
