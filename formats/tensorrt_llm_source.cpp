#include "formats/tensorrt_llm_source.h"

#include <algorithm>
#include <cstring>

#include "formats/decoding_source.h"
#include "formats/tensorrt_llm_places.h"
#include "formats/tensorrt_llm_weight.h"
#include "pare/error.h"

namespace pare {
namespace {

using Json = nlohmann::ordered_json;

// A tensor that is made when the folder is opened.
struct Added {
  DType dtype = DType::kF32;
  Shape shape;
  std::vector<std::byte> bytes;
};

std::vector<std::byte> bytes_of(std::span<const std::byte> bytes) {
  return {bytes.begin(), bytes.end()};
}

class TrtSource final : public DecodingSource {
 public:
  TrtSource(std::shared_ptr<const TrtFolder> folder, std::shared_ptr<const RankFiles> files,
            std::map<std::string, TrtPlaced> placed)
      : DecodingSource(std::move(files)), folder_(std::move(folder)), placed_(std::move(placed)) {
    drop_tied_head();
    for (const TrtPart& part : folder_->parts) {
      for (const TrtCache& cache : part.layout.caches) add_cache(part, cache);
    }
    std::vector<std::string> names;
    for (const auto& [name, tensor] : placed_) names.push_back(name);
    for (const auto& [name, tensor] : added_) names.push_back(name);
    std::sort(names.begin(), names.end());
    set_names(std::move(names));
  }

  bool contains(const std::string& name) const override {
    return placed_.contains(name) || added_.contains(name);
  }
  bool is_compressed(const std::string& name) const override {
    const auto found = placed_.find(name);
    return found != placed_.end() && found->second.scheme.algo != TrtAlgo::kNone;
  }
  DType dtype(const std::string& name) const override {
    if (const auto found = added_.find(name); found != added_.end()) return found->second.dtype;
    return dense_tensor(name).dtype;
  }
  Shape shape(const std::string& name) const override {
    if (const auto found = added_.find(name); found != added_.end()) return found->second.shape;
    return placed(name).shape;
  }
  std::string file_of(const std::string& name) const override {
    if (added_.contains(name)) return path();
    return path_of(placed(name).places.at(0));
  }
  using DecodingSource::stored_bytes;
  int64_t stored_bytes(const std::string& name) const override;
  CompressedWeight compressed(const std::string& name) const override {
    const TrtPlaced& tensor = placed(name);
    if (tensor.scheme.algo == TrtAlgo::kNone) {
      malformed(tensor.places.at(0).file, name, "is not stored compressed");
    }
    return read_trt_weight(*folder_, tensor, name);
  }

 protected:
  bool decodes(const std::string& /*name*/) const override { return true; }
  void decode(const std::string& name, int64_t first, std::span<std::byte> out) const override;

 private:
  const TrtPlaced& placed(const std::string& name) const {
    const auto found = placed_.find(name);
    if (found != placed_.end()) return found->second;
    throw Error(ErrorCode::kInputMalformed, path() + ": there is no tensor \"" + name + "\"");
  }
  const TrtPlaced& dense_tensor(const std::string& name) const {
    const TrtPlaced& tensor = placed(name);
    if (tensor.scheme.algo == TrtAlgo::kNone) return tensor;
    throw Error(ErrorCode::kInputMalformed,
                path_of(tensor.places.at(0)) + ": tensor \"" + name + "\" is stored compressed");
  }
  std::string path_of(const TrtPlace& place) const {
    return folder_->files[place.file].file.path();
  }
  TensorView view(size_t file, const std::string& tensor) const {
    return folder_->files[file].file.get(tensor);
  }
  [[noreturn]] void malformed(size_t file, const std::string& tensor,
                              const std::string& what) const {
    throw Error(ErrorCode::kInputMalformed,
                folder_->files[file].file.path() + ": tensor \"" + tensor + "\" " + what);
  }

  void drop_tied_head();
  void add_cache(const TrtPart& part, const TrtCache& cache);
  float cache_scale(const TrtPart& part, const TrtCache& cache) const;

  std::shared_ptr<const TrtFolder> folder_;
  std::map<std::string, TrtPlaced> placed_;
  std::map<std::string, Added> added_;
};

// A head that is the embedding again is none of the model's tensors.
void TrtSource::drop_tied_head() {
  const TrtFamily& family = *folder_->parts.back().config.family;
  const Json config = Json::parse(config_json());
  const auto tied = config.find("tie_word_embeddings");
  const auto head = placed_.find(family.head);
  if (head == placed_.end() || *family.head == '\0') return;
  if (tied == config.end() ? !family.tied : *tied != true) return;
  const TrtPlaced& own = head->second;
  const TrtPlaced& embedding = placed(family.embedding);
  if (own.dtype != embedding.dtype) return;
  constexpr int64_t kRows = 1024;
  const size_t row_bytes = static_cast<size_t>(own.columns) * dtype_size(own.dtype);
  for (int64_t row = 0; row < own.rows; row += kRows) {
    const int64_t end = std::min(own.rows, row + kRows);
    std::vector<std::byte> a(static_cast<size_t>(end - row) * row_bytes);
    std::vector<std::byte> b(a.size());
    gather_rows(*folder_, own, row, end, a);
    gather_rows(*folder_, embedding, row, end, b);
    if (a != b) return;
  }
  placed_.erase(head);
}

float TrtSource::cache_scale(const TrtPart& part, const TrtCache& cache) const {
  float scale = 0;
  for (int64_t rank = 0; rank < part.config.sizes.tp_size; ++rank) {
    const size_t file = part.file_of(cache.pp_rank, rank);
    const auto read = [&](const char* kind) {
      const std::string name = cache.target + "." + kind + "_cache_scaling_factor";
      if (!folder_->files[file].file.contains(name)) malformed(file, name, "is not there");
      return read_numbers(folder_->files[file].file, name, 1)[0];
    };
    const bool common =
        folder_->files[file].file.contains(cache.target + ".kv_cache_scaling_factor");
    const float found = common ? read("kv") : std::max(read("k"), read("v"));
    if (rank > 0 && found != scale) {
      malformed(file, cache.target + ".kv_cache_scaling_factor", "is not that of rank 0");
    }
    scale = found;
  }
  return scale;
}

void TrtSource::add_cache(const TrtPart& part, const TrtCache& cache) {
  if (part.config.quantization.cache.empty() || part.label == "encoder/") return;
  const float scale = cache_scale(part, cache);
  const std::vector<std::byte> bytes = bytes_of(std::as_bytes(std::span(&scale, 1)));
  added_[cache.source + ".k_scale"] = {DType::kF32, {1}, bytes};
  added_[cache.source + ".v_scale"] = {DType::kF32, {1}, bytes};
  const std::string_view text = part.config.quantization.cache == "FP8" ? "float8_e4m3fn" : "int8";
  added_[cache.source + ".kv_cache_dtype"] = {
      DType::kU8, {static_cast<int64_t>(text.size())}, bytes_of(std::as_bytes(std::span(text)))};
}

int64_t TrtSource::stored_bytes(const std::string& name) const {
  if (const auto found = added_.find(name); found != added_.end()) {
    return static_cast<int64_t>(found->second.bytes.size());
  }
  const TrtPlaced& tensor = placed(name);
  int64_t total = 0;
  for (const TrtPlace& place : tensor.places) {
    const TensorView view = this->view(place.file, place.tensor);
    int64_t bytes = static_cast<int64_t>(view.bytes.size());
    int64_t rows = view.shape.empty() ? 1 : element_count(view.shape) / view.shape.back();
    if (view.shape.size() == 1) rows = view.shape[0];
    if (tensor.scheme.algo != TrtAlgo::kNone) {
      const TrtSuffixes suffixes = trt_suffixes(tensor.scheme.algo, place.column > 0);
      const std::string scale = tensor.linear->target + suffixes.scale;
      bytes += static_cast<int64_t>(this->view(place.file, scale).bytes.size());
      if (trt_algo_info(tensor.scheme.algo).weight == WeightFormat::kInt4) rows *= 2;
    }
    total += bytes * place.count / std::max<int64_t>(1, rows);
  }
  return total;
}

void TrtSource::decode(const std::string& name, int64_t first, std::span<std::byte> out) const {
  if (const auto found = added_.find(name); found != added_.end()) {
    const size_t begin = static_cast<size_t>(first) * dtype_size(found->second.dtype);
    std::copy_n(found->second.bytes.begin() + static_cast<std::ptrdiff_t>(begin), out.size(),
                out.begin());
    return;
  }
  const TrtPlaced& tensor = dense_tensor(name);
  const size_t element = dtype_size(tensor.dtype);
  const int64_t count = static_cast<int64_t>(out.size() / element);
  if (!tensor.turned) {
    const int64_t begin = first / tensor.columns;
    const int64_t end = (first + count + tensor.columns - 1) / tensor.columns;
    const size_t skip = static_cast<size_t>(first - begin * tensor.columns) * element;
    const size_t bytes = static_cast<size_t>((end - begin) * tensor.columns) * element;
    if (bytes == out.size()) return gather_rows(*folder_, tensor, begin, end, out);
    std::vector<std::byte> rows(bytes);
    gather_rows(*folder_, tensor, begin, end, rows);
    std::copy_n(rows.begin() + static_cast<std::ptrdiff_t>(skip), out.size(), out.begin());
    return;
  }
  std::vector<std::byte> all(static_cast<size_t>(tensor.rows * tensor.columns) * element);
  gather_rows(*folder_, tensor, 0, tensor.rows, all);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t column = (first + i) / tensor.rows;
    const int64_t row = (first + i) % tensor.rows;
    const auto from = static_cast<size_t>(row * tensor.columns + column) * element;
    std::copy_n(all.begin() + static_cast<std::ptrdiff_t>(from), element,
                out.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(i) * element));
  }
}

// What config.json does not say, of the first layer.
TrtFacts facts_of(const TrtFolder& folder) {
  const TrtPart& part = folder.parts.back();
  const SafetensorsFile& first = folder.files[part.file_of(0, 0)].file;
  const SafetensorsFile& last = folder.files[part.file_of(part.config.sizes.pp_size - 1, 0)].file;
  const std::string layer = part.config.family->target_layers + std::string("0.");
  TrtFacts facts;
  facts.qkv_bias = first.contains(layer + "attention.qkv.bias");
  facts.mlp_bias = first.contains(layer + "mlp.fc.bias");
  facts.tied = !last.contains("lm_head.weight");
  return facts;
}

}  // namespace

std::unique_ptr<WeightSource> open_tensorrt_llm(const std::string& path) {
  auto folder = std::make_shared<TrtFolder>(open_trt_folder(path));
  std::string config = folder->source_config;
  if (config.empty()) {
    const TrtConfig* encoder = folder->parts.size() == 2 ? &folder->parts[0].config : nullptr;
    config = make_source_config(folder->parts.back().config, encoder, facts_of(*folder)).dump(2);
  }
  std::map<std::string, TrtPlaced> placed = place_tensors(*folder);
  auto files = std::make_shared<RankFiles>(
      path, std::move(config),
      std::shared_ptr<const std::vector<RankFile>>(folder, &folder->files));
  return std::make_unique<TrtSource>(std::move(folder), std::move(files), std::move(placed));
}

}  // namespace pare
