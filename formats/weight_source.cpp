#include "formats/weight_source.h"

#include <algorithm>

#include "formats/checkpoint_layout.h"
#include "formats/checkpoint_reader.h"
#include "formats/hdf5_walk.h"
#include "formats/hf_folder.h"
#include "formats/input_paths.h"
#include "formats/mapped_file.h"
#include "pare/error.h"

namespace pare {
namespace {

bool holds_safetensors(const std::string& folder) {
  const std::vector<std::string> names = input_folder_names(folder);
  return std::any_of(names.begin(), names.end(),
                     [](const std::string& name) { return name.ends_with(".safetensors"); });
}

std::unique_ptr<WeightSource> open_folder(const std::string& path) {
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

StoredSize stored_size(const WeightSource& source, const std::vector<std::string>& unused) {
  StoredSize size{.parameters = 0, .bytes = source.stored_bytes()};
  for (const std::string& name : source.names()) {
    size.parameters += element_count(source.shape(name));
  }
  for (const std::string& name : unused) {
    size.parameters -= element_count(source.shape(name));
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
  throw Error(ErrorCode::kInputMalformed,
              path + ": not an HDF5 checkpoint; give a checkpoint or a model's folder");
}

}  // namespace pare
