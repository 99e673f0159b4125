#include "formats/checkpoint_entries.h"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "pare/error.h"

namespace pare {
namespace {

constexpr std::array<std::string_view, 3> kDenseAttributes{"dtype", "logical_shape", "sha256"};
constexpr std::array<std::string_view, 13> kWeightAttributes{
    "scheme",     "group_size", "packing",     "symmetric",       "activation",
    "scale",      "zero_point", "input_scale", "pre_quant_scale", "mask_encoding",
    "mask_index", "block_rows", "global_scale"};

[[noreturn]] void fail(const std::string& shown, const std::string& what) {
  throw Error(ErrorCode::kInputMalformed, shown + ": " + what);
}

template <typename Value>
const Value& attribute(const AttributeMap& attributes, const std::string& name,
                       const std::string& shown, const char* kind) {
  const auto found = attributes.find(name);
  if (found == attributes.end()) fail(shown, "attribute \"" + name + "\" is missing");
  const auto* value = std::get_if<Value>(&found->second);
  if (value == nullptr) fail(shown, "attribute \"" + name + "\" is not " + kind);
  return *value;
}

bool is_sha256(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

/// Joins the datasets of one file.
class Interpreter {
 public:
  Interpreter(const std::string& path, const std::vector<StoredDataset>& datasets) : path_(path) {
    for (const StoredDataset& dataset : datasets) by_name_[dataset.name] = &dataset;
  }

  std::map<std::string, CheckpointEntry> run() {
    std::map<std::string, CheckpointEntry> entries;
    for (const auto& [name, dataset] : by_name_) {
      CheckpointEntry& entry = entries[name];
      entry.data = dataset;
      entry.shape = attribute<std::vector<int64_t>>(dataset->attributes, "logical_shape",
                                                    shown(*dataset), "a list of integers");
      check_common(*dataset);
      if (dataset->attributes.contains("scheme")) {
        read_weight(entry);
      } else {
        read_dense(entry);
      }
    }
    for (const StoredDataset* side : claimed_) {
      if (entries[side->name].layout != nullptr) {
        fail(shown(*side), "is a compressed weight and the scale or mask of another");
      }
      entries.erase(side->name);
    }
    return entries;
  }

 private:
  std::string shown(const StoredDataset& dataset) const {
    return path_ + ": tensor \"" + dataset.name + "\"";
  }

  void check_common(const StoredDataset& dataset) const {
    const bool compressed = dataset.attributes.contains("scheme");
    for (const auto& [key, value] : dataset.attributes) {
      const auto is_key = [&key = key](std::string_view known) { return known == key; };
      if (std::ranges::any_of(kDenseAttributes, is_key)) continue;
      if (compressed && std::ranges::any_of(kWeightAttributes, is_key)) continue;
      // It could change what the numbers mean, as a further scale would.
      fail(shown(dataset), "attribute \"" + key + "\" is not known in format version 2");
    }
    if (!is_sha256(text_attribute(dataset.attributes, "sha256", shown(dataset)))) {
      fail(shown(dataset), "attribute \"sha256\" is not 64 hexadecimal digits");
    }
  }

  void check_stored(const StoredDataset& dataset, StoredType type, const Shape& shape) const {
    if (dataset.type != type || dataset.shape != shape) {
      fail(shown(dataset), std::string("stored as ") + stored_type_name(dataset.type) + " " +
                               shape_text(dataset.shape) + ", expected " + stored_type_name(type) +
                               " " + shape_text(shape));
    }
  }

  void read_dense(CheckpointEntry& entry) const {
    const StoredDataset& data = *entry.data;
    const std::string& text = text_attribute(data.attributes, "dtype", shown(data));
    const auto dtype = dtype_from_name(text);
    if (!dtype) fail(shown(data), "dtype \"" + text + "\" is not known for a dense tensor");
    entry.dtype = *dtype;
    check_stored(data, stored_type(*dtype), entry.shape);
  }

  void read_weight(CheckpointEntry& entry) {
    read_scheme(entry);
    CompressedWeight& weight = entry.weight;
    weight.sparse = entry.data->attributes.contains("mask_encoding");
    if (weight.sparse) {
      const std::string& encoding =
          text_attribute(entry.data->attributes, "mask_encoding", shown(*entry.data));
      if (encoding != kMaskEncoding) {
        fail(shown(*entry.data), "mask_encoding \"" + encoding + "\" is not known");
      }
      if (weight.in_features % 4 != 0) {
        fail(shown(*entry.data),
             "2:4 needs in_features divisible by 4, found " + std::to_string(weight.in_features));
      }
    }
    check_stored(*entry.data, entry.layout->type, code_shape(weight));
    entry.scale = side(entry, kScaleName, weight.format != WeightFormat::kBf16,
                       entry.layout->scale_dtype, scale_shape(weight));
    entry.global_scale =
        side(entry, kGlobalScaleName, weight.format == WeightFormat::kNvfp4, DType::kF32, {1});
    entry.zero_point =
        side(entry, kZeroPointName, !weight.symmetric, DType::kU8, scale_shape(weight));
    entry.input_scale =
        side(entry, kInputScaleName, has_input_scale(weight.activation), DType::kF32, {1});
    entry.pre_quant_scale = side(entry, kPreQuantScaleName,
                                 entry.data->attributes.contains(kPreQuantScaleName.attribute),
                                 DType::kF32, {weight.in_features});
    entry.mask_index = side(entry, kMaskName, weight.sparse, DType::kU8,
                            {weight.out_features, weight.mask_row_bytes()});
  }

  void read_scheme(CheckpointEntry& entry) const {
    const StoredDataset& data = *entry.data;
    const std::string& dtype = text_attribute(data.attributes, "dtype", shown(data));
    const std::string& scheme = text_attribute(data.attributes, "scheme", shown(data));
    for (const CodeLayout& layout : code_layouts()) {
      if (dtype != layout.dtype) continue;
      if (entry.layout == nullptr || scheme == layout.scheme) entry.layout = &layout;
    }
    if (entry.layout == nullptr) {
      fail(shown(data), "dtype \"" + dtype + "\" is not known for a compressed weight");
    }
    const CodeLayout& layout = *entry.layout;
    const auto expect = [&](const char* name, const char* expected) {
      const std::string& found = text_attribute(data.attributes, name, shown(data));
      if (found != expected) {
        fail(shown(data), std::string(name) + " is \"" + found + "\", expected \"" + expected +
                              "\" for dtype \"" + dtype + "\"");
      }
    };
    expect("scheme", layout.scheme);
    expect("packing", layout.packing);
    if (number_attribute(data.attributes, "symmetric", shown(data)) != (layout.symmetric ? 1 : 0)) {
      fail(shown(data), "symmetric contradicts dtype \"" + dtype + "\"");
    }
    constexpr int64_t kLimit = int64_t{1} << 31;
    if (entry.shape.size() != 2 || entry.shape[0] <= 0 || entry.shape[1] <= 0 ||
        entry.shape[0] > kLimit || entry.shape[1] > kLimit) {
      fail(shown(data), "logical_shape " + shape_text(entry.shape) + " is not that of a weight");
    }
    CompressedWeight& weight = entry.weight;
    weight.format = layout.format;
    weight.symmetric = layout.symmetric;
    weight.out_features = entry.shape[0];
    weight.in_features = entry.shape[1];
    weight.group_size = number_attribute(data.attributes, "group_size", shown(data));
    if (weight.group_size < kPerTensor || weight.group_size > kLimit) {
      fail(shown(data), "group_size " + std::to_string(weight.group_size) + " is not possible");
    }
    if (data.attributes.contains("block_rows")) {
      weight.block_rows = number_attribute(data.attributes, "block_rows", shown(data));
    }
    if (weight.block_rows < 1 || weight.block_rows > kLimit ||
        (weight.block_rows > 1 && (weight.group_size <= 0 || !weight.symmetric))) {
      fail(shown(data), "block_rows " + std::to_string(weight.block_rows) +
                            " is not possible with this group_size and scheme");
    }
    const std::string& activation = text_attribute(data.attributes, "activation", shown(data));
    const auto format = activation_from_name(activation);
    if (!format) fail(shown(data), "activation \"" + activation + "\" is not known");
    weight.activation = *format;
  }

  /// Finds the dataset that an attribute names; checks that it is there exactly when expected.
  const StoredDataset* side(const CheckpointEntry& entry, const SideName& name, bool expected,
                            DType dtype, const Shape& shape) {
    const StoredDataset& data = *entry.data;
    if (data.attributes.contains(name.attribute) != expected) {
      fail(shown(data), std::string("attribute \"") + name.attribute + "\" is " +
                            (expected ? "missing" : "there, but its scheme has no use for it"));
    }
    if (!expected) return nullptr;
    const std::string& target = text_attribute(data.attributes, name.attribute, shown(data));
    const auto found = by_name_.find(target);
    if (found == by_name_.end()) {
      fail(shown(data), std::string(name.attribute) + " \"" + target + "\" is not in the file");
    }
    const StoredDataset& result = *found->second;
    if (!claimed_.insert(&result).second) {
      fail(shown(data), std::string(name.attribute) + " \"" + target + "\" is used twice");
    }
    if (text_attribute(result.attributes, "dtype", shown(result)) != dtype_name(dtype)) {
      fail(shown(result), "its dtype is not " + std::string(dtype_name(dtype)));
    }
    check_stored(result, stored_type(dtype), shape);
    return &result;
  }

  const std::string& path_;
  std::map<std::string, const StoredDataset*> by_name_;
  std::set<const StoredDataset*> claimed_;
};

}  // namespace

std::vector<const StoredDataset*> CheckpointEntry::parts() const {
  std::vector<const StoredDataset*> result;
  for (const StoredDataset* part :
       {data, scale, zero_point, input_scale, pre_quant_scale, mask_index, global_scale}) {
    if (part != nullptr) result.push_back(part);
  }
  return result;
}

const std::string& text_attribute(const AttributeMap& attributes, const std::string& name,
                                  const std::string& shown) {
  return attribute<std::string>(attributes, name, shown, "a text");
}

int64_t number_attribute(const AttributeMap& attributes, const std::string& name,
                         const std::string& shown) {
  return attribute<int64_t>(attributes, name, shown, "an integer");
}

std::map<std::string, CheckpointEntry> interpret_datasets(
    const std::string& path, const std::vector<StoredDataset>& datasets) {
  return Interpreter(path, datasets).run();
}

}  // namespace pare
