#include "formats/weight_source.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "formats/checkpoint_layout.h"
#include "formats/checkpoint_reader.h"
#include "formats/gguf_file.h"
#include "formats/gguf_source.h"
#include "formats/hdf5_walk.h"
#include "formats/hf_folder.h"
#include "formats/input_paths.h"
#include "formats/mapped_file.h"
#include "formats/tensorrt_llm_source.h"
#include "pare/error.h"

namespace pare {
namespace {

bool holds_safetensors(const std::string& folder) {
  const std::vector<std::string> names = input_folder_names(folder);
  return std::any_of(names.begin(), names.end(),
                     [](const std::string& name) { return name.ends_with(".safetensors"); });
}

std::unique_ptr<WeightSource> open_folder(const std::string& path) {
  if (is_trt_folder(path)) return open_tensorrt_llm(path);
  if (is_gguf_folder(path)) return open_gguf(path);
  if (input_file_exists(path + "/config.json")) return open_hf_folder(path);
  if (is_checkpoint_folder(path)) return open_checkpoint(path);
  if (holds_safetensors(path)) {
    throw Error(ErrorCode::kInputMissing, path + ": has weights, but config.json is not there");
  }
  throw Error(ErrorCode::kInputMalformed,
              path +
                  ": neither a Hugging Face folder (config.json, model.safetensors) nor a "
                  "folder of checkpoint shards (NAME.h5.index.json)");
}

}  // namespace

TensorView WeightSource::dense_part(const std::string& name, int64_t first, int64_t count) const {
  const TensorView view = dense(name);
  check_part(name, first, count, element_count(view.shape));
  const size_t size = dtype_size(view.dtype);
  return {view.dtype,
          {count},
          view.bytes.subspan(static_cast<size_t>(first) * size, static_cast<size_t>(count) * size)};
}

void WeightSource::read(const std::string& name, int64_t first, std::span<std::byte> out) const {
  const TensorView part =
      dense_part(name, first, static_cast<int64_t>(out.size() / dtype_size(dtype(name))));
  if (part.bytes.size() != out.size()) {
    throw Error(ErrorCode::kInternal, "tensor \"" + name + "\": read of a broken element");
  }
  if (!out.empty()) std::memcpy(out.data(), part.bytes.data(), out.size());
}

DType WeightSource::dtype(const std::string& name) const { return dense(name).dtype; }

void WeightSource::release_part(const std::string& name, int64_t /*first*/,
                                int64_t /*count*/) const {
  release({name});
}

void check_part(const std::string& name, int64_t first, int64_t count, int64_t total) {
  if (first < 0 || count < 0 || first > total || count > total - first) {
    throw Error(ErrorCode::kInternal, "tensor \"" + name + "\": elements from " +
                                          std::to_string(first) + ", " + std::to_string(count) +
                                          " of them, are not among its " + std::to_string(total));
  }
}

bool is_cache_tensor(const WeightSource& source, const std::string& name) {
  constexpr std::array<std::string_view, 5> kEnds{".kv_cache_dtype", ".k_scale", ".v_scale",
                                                  ".k_bias", ".v_bias"};
  // Without a format beside them, these names are of somebody else.
  return std::any_of(kEnds.begin(), kEnds.end(), [&](std::string_view end) {
    return name.ends_with(end) &&
           source.contains(name.substr(0, name.size() - end.size()) + ".kv_cache_dtype");
  });
}

StoredSize stored_size(const WeightSource& source, const std::vector<std::string>& unused) {
  StoredSize size{.parameters = 0, .bytes = source.stored_bytes()};
  for (const std::string& name : source.names()) {
    if (is_cache_tensor(source, name)) continue;
    size.parameters += element_count(source.shape(name));
  }
  for (const std::string& name : unused) {
    if (!is_cache_tensor(source, name)) size.parameters -= element_count(source.shape(name));
    size.bytes -= source.stored_bytes(name);
  }
  return size;
}

std::unique_ptr<WeightSource> open_weight_source(const std::string& path) {
  const PathKind kind = input_kind(path);
  if (kind == PathKind::kNothing) {
    throw Error(ErrorCode::kInputMissing, path + ": there is no such file or folder");
  }
  if (kind == PathKind::kFolder) return open_folder(path);
  if (kind == PathKind::kOther) {
    throw Error(ErrorCode::kInputMalformed, path + ": is neither a regular file nor a folder");
  }
  if (path.ends_with(kIndexSuffix) || has_hdf5_signature(MappedFile(path).bytes())) {
    return open_checkpoint(path);
  }
  if (has_gguf_signature(MappedFile(path).bytes())) return open_gguf(path);
  throw Error(
      ErrorCode::kInputMalformed,
      path + ": not an HDF5 checkpoint or a GGUF file; give a checkpoint or a model's folder");
}

}  // namespace pare
