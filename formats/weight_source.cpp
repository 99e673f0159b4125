#include "formats/weight_source.h"

#include <filesystem>

#include "formats/checkpoint_layout.h"
#include "formats/checkpoint_reader.h"
#include "formats/hdf5_walk.h"
#include "formats/hf_folder.h"
#include "formats/mapped_file.h"
#include "pare/error.h"

namespace pare {
namespace {

namespace fs = std::filesystem;

bool holds_safetensors(const std::string& folder) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".safetensors") return true;
  }
  return false;
}

std::unique_ptr<WeightSource> open_folder(const std::string& path) {
  if (fs::exists(fs::path(path) / "config.json")) return open_hf_folder(path);
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
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) {
    throw Error(ErrorCode::kInputMissing, path + ": there is no such file or folder");
  }
  if (fs::is_directory(status)) return open_folder(path);
  if (path.ends_with(kIndexSuffix) || has_hdf5_signature(MappedFile(path).bytes())) {
    return open_checkpoint(path);
  }
  throw Error(ErrorCode::kInputMalformed,
              path + ": not an HDF5 checkpoint; give a checkpoint or a model's folder");
}

}  // namespace pare
