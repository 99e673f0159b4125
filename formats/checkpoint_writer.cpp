#include "formats/checkpoint_writer.h"

#include <array>
#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>
#include <vector>

#include "core/sha256.h"
#include "formats/checkpoint_layout.h"
#include "formats/hdf5_output.h"
#include "formats/output_file.h"
#include "pare/error.h"
#include "pare/version.h"

namespace pare {
namespace {

namespace fs = std::filesystem;

/// A dataset on its way to the file.
struct Part {
  std::string name;
  StoredType type;
  Shape shape;
  std::span<const std::byte> bytes;
  AttributeList attributes;
};

std::string base_name(const std::string& path) {
  std::string text = path;
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return fs::path(text).filename().string();
}

std::string shard_name(const std::string& base, size_t number, size_t count) {
  const auto digits = [](size_t value) {
    std::string text = std::to_string(value);
    return std::string(text.size() < 5 ? 5 - text.size() : 0, '0') + text;
  };
  return base + "-" + digits(number) + "-of-" + digits(count) + ".h5";
}

void check_text(const std::string& name, const std::string& text) {
  if (text.find('\0') != std::string::npos) {
    throw Error(ErrorCode::kInputMalformed, name + ": a text with a NUL byte cannot be stored");
  }
}

AttributeList dense_attributes(std::string_view dtype, const Shape& shape) {
  return {{"dtype", std::string(dtype)}, {"logical_shape", shape}};
}

Part side_part(const std::string& name, DType dtype, const Shape& shape,
               std::span<const std::byte> bytes) {
  return {name, stored_type(dtype), shape, bytes, dense_attributes(dtype_name(dtype), shape)};
}

/// The codes first, then what stands beside them.
std::vector<Part> split(const std::string& name, const CompressedWeight& weight) {
  const CodeLayout& layout = code_layout(weight.format, weight.symmetric);
  const std::string module = name.substr(0, name.size() - std::string_view(".weight").size());
  AttributeList attributes =
      dense_attributes(layout.dtype, {weight.out_features, weight.in_features});
  attributes.insert(attributes.end(), {{"scheme", std::string(layout.scheme)},
                                       {"group_size", weight.group_size},
                                       {"packing", std::string(layout.packing)},
                                       {"symmetric", int64_t{weight.symmetric ? 1 : 0}},
                                       {"activation", activation_name(weight.activation)}});
  std::vector<Part> parts(1);
  const auto add = [&](const SideName& side, DType dtype, const Shape& shape,
                       std::span<const std::byte> bytes) {
    attributes.emplace_back(side.attribute, module + side.suffix);
    parts.push_back(side_part(module + side.suffix, dtype, shape, bytes));
  };
  if (!weight.scale.empty()) {
    add(kScaleName, DType::kF32, scale_shape(weight), std::as_bytes(std::span(weight.scale)));
  }
  if (!weight.symmetric) {
    add(kZeroPointName, DType::kU8, scale_shape(weight),
        std::as_bytes(std::span(weight.zero_point)));
  }
  if (weight.activation == ActivationFormat::kFp8Static ||
      weight.activation == ActivationFormat::kInt8Static) {
    add(kInputScaleName, DType::kF32, {1}, std::as_bytes(std::span(&weight.input_scale, 1)));
  }
  if (!weight.pre_quant_scale.empty()) {
    add(kPreQuantScaleName, DType::kF32, {weight.in_features},
        std::as_bytes(std::span(weight.pre_quant_scale)));
  }
  if (weight.sparse) {
    attributes.emplace_back("mask_encoding", kMaskEncoding);
    add(kMaskName, DType::kU8, {weight.out_features, weight.mask_row_bytes()},
        std::as_bytes(std::span(weight.mask_index)));
  }
  parts[0] = {name, layout.type, code_shape(weight), std::as_bytes(std::span(weight.codes)),
              std::move(attributes)};
  return parts;
}

/// One HDF5 file under construction.
struct Shard {
  std::unique_ptr<GrowingFile> own_file;  ///< For shards; a single file belongs to OutputFile.
  GrowingFile* file = nullptr;
  std::unique_ptr<Hdf5Output> output;
  std::string path;
  int64_t payload_bytes = 0;
  std::vector<std::string> names;
};

}  // namespace

struct CheckpointWriter::State {
  std::string path;
  CheckpointHeader header;
  int64_t shard_bytes;
  std::unique_ptr<OutputFile> single;
  std::unique_ptr<OutputFolder> folder;
  std::vector<Shard> shards;
  std::set<std::string> names;

  void open_shard() {
    Shard shard;
    if (single) {
      shard.path = single->temporary_path();
      shard.file = &single->file();
    } else {
      shard.path =
          (fs::path(folder->temporary_path()) / shard_name("shard", shards.size() + 1, 0)).string();
      shard.own_file = std::make_unique<GrowingFile>(shard.path, path);
      shard.file = shard.own_file.get();
    }
    shard.output = std::make_unique<Hdf5Output>(*shard.file, shard.path, path);
    shards.push_back(std::move(shard));
  }

  void close_shard() {
    Shard& shard = shards.back();
    AttributeList root{{"pare_format", kCheckpointFormat}, {"pare_format_version", header.version}};
    if (shards.size() == 1) {
      const std::string tool_version = "pare " + version();
      const std::array<std::string_view, 6> texts{header.architecture,       header.config_json,
                                                  header.recipe_json,        tool_version,
                                                  header.calibration_sha256, header.source_sha256};
      for (size_t i = 0; i < texts.size(); ++i) {
        root.emplace_back(kHeaderTexts[i], std::string(texts[i]));
      }
      root.emplace_back("header_sha256", header_sha256(texts));
    }
    root.emplace_back("total_bytes", shard.payload_bytes);
    shard.output->close(root);
    shard.output.reset();
    shard.file->sync();
  }

  void write(const std::vector<Part>& parts) {
    if (shards.empty() || !shards.back().output) {
      throw Error(ErrorCode::kInternal, path + ": tensor \"" + parts[0].name +
                                            "\" is written after finish() or a failure");
    }
    int64_t bytes = 0;
    for (const Part& part : parts) {
      bytes += static_cast<int64_t>(part.bytes.size());
      if (!is_valid_dataset_name(part.name)) {
        throw Error(ErrorCode::kWriteFailed,
                    path +
                        ": a tensor's name must be 1 to 512 bytes of UTF-8 without '/' and "
                        "\"..\", found \"" +
                        part.name + "\"");
      }
      if (!names.insert(part.name).second) {
        throw Error(ErrorCode::kWriteFailed,
                    path + ": tensor \"" + part.name + "\" was written before");
      }
    }
    if (folder && shards.back().payload_bytes > 0 &&
        shards.back().payload_bytes > shard_bytes - bytes) {
      close_shard();
      open_shard();
    }
    Shard& shard = shards.back();
    try {
      for (const Part& part : parts) {
        shard.output->write(kTensorGroup, part.name, part.type, part.shape, part.bytes,
                            part.attributes);
        shard.names.push_back(part.name);
      }
    } catch (...) {
      shard.output.reset();  // Half a tensor is in the file: it must never be finished.
      throw;
    }
    shard.payload_bytes += bytes;
  }

  CheckpointFile finish_single() {
    CheckpointFile result{path, sha256_file(single->temporary_path()), single->file().size()};
    single->commit();
    return result;
  }

  CheckpointFile finish_folder() {
    const std::string base = base_name(path);
    nlohmann::json index{{"pare_format", kCheckpointIndexFormat},
                         {"pare_format_version", header.version},
                         {"shards", nlohmann::json::array()},
                         {"total_bytes", 0},
                         {"weight_map", nlohmann::json::object()}};
    CheckpointFile result{path, "", 0};
    int64_t payload = 0;
    for (size_t i = 0; i < shards.size(); ++i) {
      const Shard& shard = shards[i];
      const std::string name = shard_name(base, i + 1, shards.size());
      const int64_t bytes = shard.file->size();
      index["shards"].push_back(
          {{"file", name}, {"bytes", bytes}, {"sha256", sha256_file(shard.path)}});
      for (const std::string& tensor : shard.names) index["weight_map"][tensor] = name;
      result.bytes += bytes;
      payload += shard.payload_bytes;
      std::error_code error;
      fs::rename(shard.path, fs::path(folder->temporary_path()) / name, error);
      if (error) fail_write(path, "renaming " + shard.path, error.value());
    }
    index["total_bytes"] = payload;
    const std::string text = index.dump(2) + "\n";
    GrowingFile file((fs::path(folder->temporary_path()) / (base + kIndexSuffix)).string(), path);
    file.append(std::as_bytes(std::span(text)));
    file.sync();
    result.sha256 = sha256_hex(text);
    result.bytes += static_cast<int64_t>(text.size());
    folder->commit();
    return result;
  }
};

CheckpointWriter::CheckpointWriter(const std::string& path, const CheckpointHeader& header,
                                   bool force, int64_t shard_bytes)
    : state_(std::make_unique<State>(State{path, header, shard_bytes, {}, {}, {}, {}})) {
  check_text("config_json", header.config_json);
  check_text("recipe_json", header.recipe_json);
  check_text("architecture", header.architecture);
  check_text("calibration_sha256", header.calibration_sha256);
  check_text("source_sha256", header.source_sha256);
  if (path.ends_with(".h5")) {
    state_->single = std::make_unique<OutputFile>(path, force);
  } else {
    state_->folder = std::make_unique<OutputFolder>(path, force);
  }
  state_->open_shard();
  for (const auto& [name, text] : header.text_files) {
    const Shape shape{static_cast<int64_t>(text.size())};
    if (!is_valid_dataset_name(name)) {
      throw Error(ErrorCode::kWriteFailed, path + ": \"" + name + "\" cannot name a text file");
    }
    state_->shards[0].output->write(kMetaGroup, name, StoredType::kU8, shape,
                                    std::as_bytes(std::span(text)),
                                    dense_attributes(dtype_name(DType::kU8), shape));
  }
}

CheckpointWriter::~CheckpointWriter() = default;

void CheckpointWriter::write_dense(const std::string& name, const TensorView& tensor) {
  if (tensor.bytes.size() !=
      static_cast<size_t>(element_count(tensor.shape)) * dtype_size(tensor.dtype)) {
    throw Error(ErrorCode::kInternal, "tensor \"" + name +
                                          "\": " + std::to_string(tensor.bytes.size()) +
                                          " bytes do not hold shape " + shape_text(tensor.shape));
  }
  state_->write({side_part(name, tensor.dtype, tensor.shape, tensor.bytes)});
}

void CheckpointWriter::write_compressed(const std::string& name, const CompressedWeight& weight) {
  if (!name.ends_with(".weight")) {
    throw Error(ErrorCode::kInternal,
                "tensor \"" + name + "\": a compressed weight's name ends in \".weight\"");
  }
  validate(weight, name);
  state_->write(split(name, weight));
}

CheckpointFile CheckpointWriter::finish() {
  if (state_->shards.empty() || !state_->shards.back().output) {
    throw Error(ErrorCode::kInternal,
                state_->path + ": finish() is called twice or after a failure");
  }
  state_->close_shard();
  return state_->single ? state_->finish_single() : state_->finish_folder();
}

}  // namespace pare
