#include "formats/checkpoint_reader.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>
#include <set>
#include <tuple>

#include "core/sha256.h"
#include "formats/checkpoint_entries.h"
#include "formats/hdf5_walk.h"
#include "formats/input_paths.h"
#include "formats/json_check.h"
#include "formats/mapped_file.h"
#include "formats/shard_index.h"
#include "pare/error.h"

namespace pare {
namespace {

[[noreturn]] void malformed(const std::string& path, const std::string& what) {
  throw Error(ErrorCode::kInputMalformed, path + ": " + what);
}

/// One checked file.
struct Shard {
  MappedFile file;
  Hdf5Contents contents;

  explicit Shard(const std::string& path) : file(path), contents(walk_hdf5(file)) {
    const std::string& format = text_attribute(contents.root, "pare_format", path);
    if (format != kCheckpointFormat) {
      malformed(path, "pare_format is \"" + format + "\", expected \"" + kCheckpointFormat + "\"");
    }
    const int64_t version = number_attribute(contents.root, "pare_format_version", path);
    if (version < kOldestCheckpointVersion || version > kCheckpointVersion) {
      malformed(path, "checkpoint format version " + std::to_string(version) +
                          ", this program reads versions " +
                          std::to_string(kOldestCheckpointVersion) + " to " +
                          std::to_string(kCheckpointVersion));
    }
    uint64_t total = 0;
    for (const StoredDataset& dataset : contents.tensors) total += dataset.size;
    const int64_t claimed = number_attribute(contents.root, "total_bytes", path);
    if (claimed < 0 || static_cast<uint64_t>(claimed) != total) {
      malformed(path, "total_bytes is " + std::to_string(claimed) + ", the tensors have " +
                          std::to_string(total));
    }
  }

  std::span<const std::byte> bytes(const StoredDataset& dataset) const {
    return file.bytes().subspan(dataset.offset, dataset.size);
  }
};

template <typename Element>
std::vector<Element> copy_of(std::span<const std::byte> bytes) {
  std::vector<Element> result(bytes.size() / sizeof(Element));
  if (!bytes.empty()) std::memcpy(result.data(), bytes.data(), bytes.size());
  return result;
}

class StoredCheckpoint final : public CheckpointSource {
 public:
  explicit StoredCheckpoint(const std::string& path) : path_(path) {
    std::string index;
    if (input_kind(path) == PathKind::kFolder) {
      index = find_index(path);
      if (index.empty()) malformed(path, "holds no index of shards (NAME.h5.index.json)");
    } else if (path.ends_with(kIndexSuffix)) {
      index = path;
    }
    if (index.empty()) {
      shards_.push_back(std::make_unique<Shard>(path));
    } else {
      open_shards(index);
    }
    for (size_t number = 0; number < shards_.size(); ++number) add_entries(number);
    for (const auto& [name, entry] : entries_) names_.push_back(name);
    read_root(*shards_[0]);
    stored_order_ = names_;
    std::sort(stored_order_.begin(), stored_order_.end(),
              [this](const auto& a, const auto& b) { return place(a) < place(b); });
  }

  const std::string& path() const override { return path_; }
  const std::string& config_json() const override { return header_.config_json; }
  const std::map<std::string, std::string>& text_files() const override {
    return header_.text_files;
  }
  const std::vector<std::string>& names() const override { return names_; }
  bool contains(const std::string& name) const override { return entries_.contains(name); }
  bool is_compressed(const std::string& name) const override {
    const auto found = entries_.find(name);
    return found != entries_.end() && found->second.entry.layout != nullptr;
  }

  TensorView dense(const std::string& name) const override {
    const Placed& placed = find(name);
    if (placed.entry.layout != nullptr) {
      malformed(shard(placed).file.path(), "tensor \"" + name + "\" is stored compressed");
    }
    return {placed.entry.dtype, placed.entry.shape, shard(placed).bytes(*placed.entry.data)};
  }

  CompressedWeight compressed(const std::string& name) const override {
    const Placed& placed = find_compressed(name);
    const CheckpointEntry& entry = placed.entry;
    const Shard& from = shard(placed);
    CompressedWeight weight = entry.weight;
    weight.codes = copy_of<uint8_t>(from.bytes(*entry.data));
    if (entry.scale != nullptr) {
      weight.scale = decode_scales(from.bytes(*entry.scale), entry.layout->scale_dtype);
    }
    if (entry.global_scale != nullptr) {
      weight.global_scale = copy_of<float>(from.bytes(*entry.global_scale))[0];
    }
    if (entry.zero_point != nullptr) {
      weight.zero_point = copy_of<uint8_t>(from.bytes(*entry.zero_point));
    }
    if (entry.input_scale != nullptr) {
      weight.input_scale = copy_of<float>(from.bytes(*entry.input_scale))[0];
    }
    if (entry.pre_quant_scale != nullptr) {
      weight.pre_quant_scale = copy_of<float>(from.bytes(*entry.pre_quant_scale));
    }
    if (entry.mask_index != nullptr) {
      weight.mask_index = copy_of<uint8_t>(from.bytes(*entry.mask_index));
    }
    try {
      validate(weight, name);
    } catch (const Error& error) {
      throw Error(error.code(), from.file.path() + ": " + error.what());
    }
    return weight;
  }

  Shape shape(const std::string& name) const override { return find(name).entry.shape; }
  std::string file_of(const std::string& name) const override {
    return shard(find(name)).file.path();
  }

  int64_t stored_bytes() const override {
    int64_t total = 0;
    for (const std::string& name : names_) total += stored_bytes(name);
    return total;
  }

  int64_t stored_bytes(const std::string& name) const override {
    uint64_t total = 0;
    for (const StoredDataset* part : find(name).entry.parts()) total += part->size;
    return static_cast<int64_t>(total);
  }

  void release(const std::vector<std::string>& names) const override {
    for (const std::string& name : names) {
      const Placed& placed = find(name);
      for (const StoredDataset* part : placed.entry.parts()) {
        shard(placed).file.release(shard(placed).bytes(*part));
      }
    }
  }

  std::string sha256() const override {
    std::call_once(hashed_, [this] { sha256_ = compute_sha256(); });
    return sha256_;
  }

  const std::string& recipe_json() const override { return header_.recipe_json; }

  const CheckpointHeader& header() const override { return header_; }
  const std::string& tool_version() const override { return tool_version_; }
  int64_t format_version() const override { return format_version_; }
  const std::vector<std::string>& stored_order() const override { return stored_order_; }

  std::string stored_dtype(const std::string& name) const override {
    const CheckpointEntry& entry = find(name).entry;
    return entry.layout == nullptr ? std::string(dtype_name(entry.dtype)) : entry.layout->dtype;
  }

  CompressedWeight outline(const std::string& name) const override {
    return find_compressed(name).entry.weight;
  }
  bool has_pre_quant_scale(const std::string& name) const override {
    return find_compressed(name).entry.pre_quant_scale != nullptr;
  }

  /// See pare::verify_hashes().
  int64_t verify() const {
    uint64_t total = 0;
    for (const auto& checked : shards_) {
      for (const auto* group : {&checked->contents.tensors, &checked->contents.meta}) {
        for (const StoredDataset& dataset : *group) {
          check_sha256(*checked, dataset);
          total += dataset.size;
        }
      }
    }
    for (const ShardPlan& plan : plans_) {
      if (sha256_file(plan.path) != plan.sha256) {
        malformed(plan.path, "its SHA-256 differs from the one in the index");
      }
    }
    return static_cast<int64_t>(total);
  }

 private:
  struct Placed {
    size_t shard = 0;
    CheckpointEntry entry;
  };

  void open_shards(const std::string& index) {
    std::map<std::string, size_t> weight_map;
    plans_ = read_index(index, weight_map);
    for (const ShardPlan& plan : plans_) {
      if (!input_file_exists(plan.path)) {
        throw Error(ErrorCode::kInputMissing,
                    plan.path + ": this shard is named by " + index + " and is not there");
      }
      const auto bytes = static_cast<int64_t>(MappedFile(plan.path).bytes().size());
      if (bytes != plan.bytes) {
        malformed(plan.path, std::to_string(bytes) + " bytes, the index expects " +
                                 std::to_string(plan.bytes) + " (file truncated?)");
      }
      shards_.push_back(std::make_unique<Shard>(plan.path));
    }
    check_weight_map(index, weight_map);
  }

  void check_weight_map(const std::string& index,
                        const std::map<std::string, size_t>& weight_map) const {
    std::set<std::pair<std::string, size_t>> held;
    for (size_t number = 0; number < shards_.size(); ++number) {
      for (const StoredDataset& dataset : shards_[number]->contents.tensors) {
        const auto listed = weight_map.find(dataset.name);
        if (listed == weight_map.end() || listed->second != number) {
          malformed(shards_[number]->file.path(),
                    "tensor \"" + dataset.name + "\" is not where " + index + " says");
        }
        held.emplace(dataset.name, number);
      }
    }
    for (const auto& [name, number] : weight_map) {
      if (!held.contains({name, number})) {
        malformed(shards_[number]->file.path(),
                  "tensor \"" + name + "\" is not in this shard, but " + index + " says so");
      }
    }
  }

  void add_entries(size_t number) {
    const Shard& from = *shards_[number];
    for (auto& [name, entry] : interpret_datasets(from.file.path(), from.contents.tensors)) {
      entries_[name] = {number, std::move(entry)};
    }
  }

  void read_root(const Shard& first) {
    const std::string& file = first.file.path();
    format_version_ = number_attribute(first.contents.root, "pare_format_version", file);
    std::array<std::string_view, kHeaderTexts.size()> texts;
    for (size_t i = 0; i < texts.size(); ++i) {
      texts[i] = text_attribute(first.contents.root, kHeaderTexts[i], file);
    }
    check_json(texts[1], file + ": config_json");
    if (header_sha256(texts) != text_attribute(first.contents.root, "header_sha256", file)) {
      malformed(file, "the texts of the root differ from header_sha256 (damaged file?)");
    }
    header_.architecture = texts[0];
    header_.config_json = texts[1];
    header_.recipe_json = texts[2];
    tool_version_ = texts[3];
    header_.calibration_sha256 = texts[4];
    header_.source_sha256 = texts[5];
    for (const StoredDataset& dataset : first.contents.meta) {
      const std::span<const std::byte> bytes = first.bytes(dataset);
      check_sha256(first, dataset);  // All of it is read here anyway.
      if (dataset.type != StoredType::kU8 || dataset.shape.size() != 1) {
        malformed(file, "text \"" + dataset.name + "\" is not a list of bytes");
      }
      header_.text_files[dataset.name] = {reinterpret_cast<const char*>(bytes.data()),
                                          bytes.size()};
    }
  }

  /// Reads the whole payload against the hash that the file states; the system may forget it then.
  static const std::string& check_sha256(const Shard& from, const StoredDataset& dataset) {
    const std::string shown = from.file.path() + ": tensor \"" + dataset.name + "\"";
    const std::string& expected = text_attribute(dataset.attributes, "sha256", shown);
    const std::string found = sha256_hex(from.bytes(dataset));
    from.file.release(from.bytes(dataset));
    if (found != expected) {
      throw Error(ErrorCode::kInputMalformed, shown + ": its bytes have SHA-256 " + found +
                                                  ", expected " + expected + " (damaged file?)");
    }
    return expected;
  }

  const Placed& find(const std::string& name) const {
    const auto found = entries_.find(name);
    if (found == entries_.end()) malformed(path_, "there is no tensor \"" + name + "\"");
    return found->second;
  }
  const Placed& find_compressed(const std::string& name) const {
    const Placed& placed = find(name);
    if (placed.entry.layout == nullptr) {
      malformed(shard(placed).file.path(), "tensor \"" + name + "\" is not stored compressed");
    }
    return placed;
  }
  const Shard& shard(const Placed& placed) const { return *shards_[placed.shard]; }

  /// Where a tensor begins. One of no bytes has no place of its own: its name decides.
  std::tuple<size_t, uint64_t, std::string> place(const std::string& name) const {
    const Placed& placed = entries_.at(name);
    return {placed.shard, placed.entry.data->offset, name};
  }

  /// What decides how the codes of a compressed weight multiply, which their bytes do not say.
  static std::string arithmetic_of(const StoredDataset& part, const std::string& shown) {
    if (!part.attributes.contains("scheme")) return "";
    std::string text;
    for (const char* name : {"scheme", "packing", "activation"}) {
      text += " " + text_attribute(part.attributes, name, shown);
    }
    for (const char* name : {"group_size", "symmetric"}) {
      text += " " + std::to_string(number_attribute(part.attributes, name, shown));
    }
    if (part.attributes.contains("block_rows")) {
      text += " " + std::to_string(number_attribute(part.attributes, "block_rows", shown));
    }
    if (part.attributes.contains("mask_encoding")) {
      text += " " + text_attribute(part.attributes, "mask_encoding", shown);
    }
    return text;
  }

  /// Over the hashes that the file states, each of which is recomputed on the way: the digest names
  /// what was evaluated, so that it must not be that of another payload.
  std::string compute_sha256() const {
    Sha256 hash;
    hash.update("config " + sha256_hex(header_.config_json) + "\n");
    for (const auto& [name, placed] : entries_) {
      for (const StoredDataset* part : placed.entry.parts()) {
        const std::string shown = shard(placed).file.path() + ": tensor \"" + part->name + "\"";
        hash.update(part->name + " " + text_attribute(part->attributes, "dtype", shown) + " " +
                    shape_text(part->shape) + " " + check_sha256(shard(placed), *part) +
                    arithmetic_of(*part, shown) + "\n");
      }
    }
    return hash.finish();
  }

  std::string path_;
  std::vector<ShardPlan> plans_;  ///< Empty for a single file.
  std::vector<std::unique_ptr<Shard>> shards_;
  std::map<std::string, Placed> entries_;
  std::vector<std::string> names_;
  std::vector<std::string> stored_order_;
  CheckpointHeader header_;
  std::string tool_version_;
  int64_t format_version_ = 0;
  mutable std::once_flag hashed_;
  mutable std::string sha256_;
};

}  // namespace

std::unique_ptr<CheckpointSource> open_checkpoint(const std::string& path) {
  return std::make_unique<StoredCheckpoint>(path);
}

int64_t verify_hashes(const std::string& path) { return StoredCheckpoint(path).verify(); }

bool is_checkpoint_folder(const std::string& path) {
  return input_kind(path) == PathKind::kFolder && !find_index(path).empty();
}

}  // namespace pare
