#include "formats/gguf_source.h"

#include <algorithm>
#include <mutex>

#include "core/sha256.h"
#include "formats/decoded_parts.h"
#include "formats/gguf_config.h"
#include "formats/gguf_file.h"
#include "formats/gguf_rows.h"
#include "formats/gguf_tokenizer.h"
#include "formats/input_paths.h"
#include "pare/error.h"

namespace pare {
namespace {

using Kind = GgufPart::Kind;

// The tokenizer that lies in the file's folder; empty where there is none, or a file was given.
std::map<std::string, std::string> tokenizer_beside(const std::string& path) {
  constexpr size_t kMaxTextBytes = size_t{256} << 20;
  std::map<std::string, std::string> files;
  if (input_kind(path) != PathKind::kFolder) return files;
  for (const char* name : {"tokenizer.json", "tokenizer.model", "tokenizer_config.json",
                           "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"}) {
    const std::string file = path + "/" + name;
    if (input_file_exists(file)) files[name] = read_text_file(file, kMaxTextBytes);
  }
  const bool complete = files.contains("tokenizer.json") || files.contains("tokenizer.model");
  return complete ? files : std::map<std::string, std::string>();
}

struct Entry {
  GgufRows rows;
  bool compressed = false;
};

class GgufSource final : public WeightSource {
 public:
  GgufSource(std::string path, const std::string& file)
      : path_(std::move(path)), file_(file), architecture_(gguf_architecture(file_)) {
    config_json_ = gguf_config_json(file_, architecture_);
    text_files_ = tokenizer_beside(path_);
    if (text_files_.empty()) text_files_ = gguf_tokenizer_files(file_);
    for (const GgufTensor& tensor : file_.tensors()) add(tensor);
    for (const auto& [name, entry] : entries_) names_.push_back(name);
    name_format();
  }

  const std::string& path() const override { return path_; }
  const std::string& config_json() const override { return config_json_; }
  const std::map<std::string, std::string>& text_files() const override { return text_files_; }
  const std::vector<std::string>& names() const override { return names_; }
  bool contains(const std::string& name) const override { return entries_.contains(name); }
  bool is_compressed(const std::string& name) const override {
    const auto found = entries_.find(name);
    return found != entries_.end() && found->second.compressed;
  }

  TensorView dense(const std::string& name) const override {
    const Shape& shape = find_dense(name).shape;
    TensorView view = dense_part(name, 0, element_count(shape));
    view.shape = shape;
    return view;
  }

  TensorView dense_part(const std::string& name, int64_t first, int64_t count) const override {
    const GgufRows& rows = find_dense(name);
    check_part(name, first, count, element_count(rows.shape));
    const size_t size = dtype_size(rows.dtype());
    const auto bytes = static_cast<size_t>(count) * size;
    if (rows.is_mapped()) {
      return {
          rows.dtype(), {count}, rows.bytes().subspan(static_cast<size_t>(first) * size, bytes)};
    }
    return {rows.dtype(),
            {count},
            parts_.get(name, {first, count}, bytes,
                       [&](std::span<std::byte> out) { decode_gguf(rows, name, first, out); })};
  }

  void read(const std::string& name, int64_t first, std::span<std::byte> out) const override {
    const GgufRows& rows = find_dense(name);
    const auto count = static_cast<int64_t>(out.size() / dtype_size(rows.dtype()));
    check_part(name, first, count, element_count(rows.shape));
    if (rows.is_mapped()) {
      std::ranges::copy(dense_part(name, first, count).bytes, out.begin());
      release_part(name, first, count);
    } else {
      decode_gguf(rows, name, first, out);
      file_.release(rows.bytes());
    }
  }

  DType dtype(const std::string& name) const override { return find_dense(name).dtype(); }

  CompressedWeight compressed(const std::string& name) const override {
    const Entry& entry = find(name);
    if (!entry.compressed) malformed(name, "is not stored compressed");
    return gguf_weight(entry.rows, name);
  }

  Shape shape(const std::string& name) const override { return find(name).rows.shape; }
  std::string file_of(const std::string& name) const override {
    find(name);
    return file_.path();
  }

  int64_t stored_bytes() const override {
    int64_t total = 0;
    for (const std::string& name : names_) total += stored_bytes(name);
    return total;
  }
  int64_t stored_bytes(const std::string& name) const override {
    return static_cast<int64_t>(find(name).rows.bytes().size());
  }

  void release(const std::vector<std::string>& names) const override {
    for (const std::string& name : names) {
      parts_.release(name);
      file_.release(find(name).rows.bytes());
    }
  }

  void release_part(const std::string& name, int64_t first, int64_t count) const override {
    if (find_dense(name).is_mapped()) {
      file_.release(dense_part(name, first, count).bytes);
    } else {
      parts_.release(name, {first, count});
    }
  }

  std::string sha256() const override {
    std::call_once(hashed_, [this] { sha256_ = compute_sha256(); });
    return sha256_;
  }

  const std::string& recipe_json() const override { return recipe_json_; }

 private:
  [[noreturn]] void malformed(const std::string& name, const std::string& what) const {
    throw Error(ErrorCode::kInputMalformed, file_.path() + ": tensor \"" + name + "\" " + what);
  }

  void add(const GgufTensor& tensor) {
    if (tensor.name == "rope_freqs.weight") return;  // config.json has what it says.
    const std::optional<GgufParameter> parameter = gguf_parameter(architecture_, tensor.name);
    if (!parameter) {
      malformed(tensor.name, std::string("is none of architecture ") + architecture_.name);
    }
    if (tensor.type->decode == nullptr) {
      malformed(tensor.name, std::string("has type ") + tensor.type->name + ", which is not read");
    }
    GgufRows rows{.tensor = &tensor, .shape = tensor.shape, .file = file_.path()};
    const GgufPart* part = parameter->part;
    const bool norm =
        part == nullptr ? tensor.name == "output_norm.weight" : part->kind == Kind::kNorm;
    if (norm && architecture_.norm_offset != 0) {
      if (tensor.type->id != kGgmlF32) {
        malformed(tensor.name, std::string("has type ") + tensor.type->name + ", expected F32");
      }
      rows.offset = architecture_.norm_offset;
    }
    if (part == nullptr || part->kind == Kind::kNorm || part->kind == Kind::kRouter) {
      entries_[parameter->name] = {std::move(rows)};
      return;
    }
    if (part->kind == Kind::kExperts) {
      add_experts(tensor, parameter->name);
      return;
    }
    if (architecture_.interleaved && (part->kind == Kind::kQuery || part->kind == Kind::kKey)) {
      rows.head_dim = head_dim(tensor);
    }
    const bool compressed = has_gguf_codes(rows);
    entries_[parameter->name] = {std::move(rows), compressed};
  }

  void add_experts(const GgufTensor& tensor, const std::string& name) {
    if (tensor.shape.size() != 3) {
      malformed(tensor.name,
                "has shape " + shape_text(tensor.shape) + ", expected [experts, out, in]");
    }
    constexpr int64_t kMostExperts = 65536;
    if (tensor.shape[0] > kMostExperts) malformed(tensor.name, "has too many experts");
    for (int64_t expert = 0; expert < tensor.shape[0]; ++expert) {
      GgufRows rows{.tensor = &tensor,
                    .first_row = expert * tensor.shape[1],
                    .shape = {tensor.shape[1], tensor.shape[2]},
                    .file = file_.path()};
      const bool compressed = has_gguf_codes(rows);
      entries_[expert_parameter(name, expert)] = {std::move(rows), compressed};
    }
  }

  // Matrices that are decoded are FP32 here, which says nothing of what they are in the file.
  void name_format() {
    std::map<std::string, int64_t> elements;
    for (const auto& [name, entry] : entries_) {
      const GgmlType& type = *entry.rows.tensor->type;
      if (entry.rows.shape.size() < 2 || entry.compressed) continue;
      elements[type.block > 1 ? type.name : ""] += element_count(entry.rows.shape);
    }
    for (const auto& [name, entry] : entries_) {
      if (entry.compressed) elements[""] += element_count(entry.rows.shape);
    }
    const auto most = std::max_element(elements.begin(), elements.end(),
                                       [](auto& a, auto& b) { return a.second < b.second; });
    if (most == elements.end() || most->first.empty()) return;
    recipe_json_ = std::string(R"({"qformat": "gguf )") + most->first + R"("})";
  }

  // Of the rows of q and k.
  int64_t head_dim(const GgufTensor& tensor) const {
    const std::string prefix = std::string(architecture_.name) + ".";
    const auto heads = file_.find_integer(prefix + "attention.head_count");
    const auto width = file_.find_integer(prefix + "embedding_length");
    const int64_t dim =
        file_.find_integer(prefix + "attention.key_length").value_or(*width / *heads);
    const bool fits =
        tensor.shape.size() == 2 || (tensor.shape.size() == 1 && tensor.type->block == 1);
    if (!fits || dim < 2 || dim % 2 != 0 || tensor.shape[0] % dim != 0) {
      malformed(tensor.name, "has shape " + shape_text(tensor.shape) +
                                 ", expected heads of an even number of rows, " +
                                 std::to_string(dim));
    }
    return dim;
  }

  const Entry& find(const std::string& name) const {
    const auto found = entries_.find(name);
    if (found == entries_.end()) {
      throw Error(ErrorCode::kInputMalformed, path_ + ": there is no tensor \"" + name + "\"");
    }
    return found->second;
  }

  const GgufRows& find_dense(const std::string& name) const {
    const Entry& entry = find(name);
    if (entry.compressed) malformed(name, "is stored compressed");
    return entry.rows;
  }

  std::string compute_sha256() const {
    Sha256 hash;
    hash.update("config " + sha256_hex(config_json_) + "\n");
    for (const GgufTensor& tensor : file_.tensors()) {
      hash.update(tensor.name + " " + tensor.type->name + " " + shape_text(tensor.shape) + " " +
                  sha256_hex(tensor.bytes) + "\n");
      file_.release(tensor.bytes);
    }
    return hash.finish();
  }

  std::string path_;
  GgufFile file_;
  const GgufArchitecture& architecture_;
  std::string config_json_;
  std::string recipe_json_;
  std::map<std::string, std::string> text_files_;
  std::map<std::string, Entry> entries_;
  std::vector<std::string> names_;
  mutable DecodedParts parts_;
  mutable std::once_flag hashed_;
  mutable std::string sha256_;
};

std::vector<std::string> gguf_names(const std::string& folder) {
  std::vector<std::string> found;
  for (const std::string& name : input_folder_names(folder)) {
    if (name.ends_with(".gguf")) found.push_back(name);
  }
  return found;
}

}  // namespace

bool is_gguf_folder(const std::string& path) {
  const std::vector<std::string> names = input_folder_names(path);
  const auto ends = [&](const char* ending) {
    return std::any_of(names.begin(), names.end(),
                       [&](const std::string& name) { return name.ends_with(ending); });
  };
  return ends(".gguf") && !ends(".safetensors") && !ends(".h5.index.json");
}

std::unique_ptr<WeightSource> open_gguf(const std::string& path) {
  if (input_kind(path) != PathKind::kFolder) return std::make_unique<GgufSource>(path, path);
  const std::vector<std::string> names = gguf_names(path);
  if (names.size() != 1) {
    throw Error(ErrorCode::kInputMalformed,
                path + ": holds " + std::to_string(names.size()) +
                    " GGUF files, expected one; give the file that is meant");
  }
  const std::string slash = path.ends_with('/') ? "" : "/";
  return std::make_unique<GgufSource>(path, path + slash + names[0]);
}

}  // namespace pare
