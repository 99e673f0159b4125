#include "formats/rank_files.h"

#include <utility>

#include "core/sha256.h"
#include "formats/hf_folder.h"
#include "pare/error.h"

namespace pare {

RankFiles::RankFiles(std::string path, std::string config_json,
                     std::shared_ptr<const std::vector<RankFile>> files)
    : path_(std::move(path)),
      config_json_(std::move(config_json)),
      text_files_(read_model_texts(path_)),
      files_(std::move(files)) {
  for (size_t i = 0; i < files_->size(); ++i) {
    const RankFile& rank = (*files_)[i];
    for (const std::string& tensor : rank.file.names()) {
      places_[rank.key(tensor)] = {i, tensor};
    }
  }
  for (const auto& [name, found] : places_) names_.push_back(name);
}

const RankFiles::Place& RankFiles::place(const std::string& name) const {
  const auto found = places_.find(name);
  if (found == places_.end()) {
    throw Error(ErrorCode::kInputMalformed, path_ + ": there is no tensor \"" + name + "\"");
  }
  return found->second;
}

TensorView RankFiles::dense(const std::string& name) const {
  const Place& found = place(name);
  return (*files_)[found.file].file.get(found.tensor);
}

CompressedWeight RankFiles::compressed(const std::string& name) const {
  throw Error(ErrorCode::kInputMalformed,
              file_of(name) + ": tensor \"" + name + "\" is not stored compressed");
}

std::string RankFiles::file_of(const std::string& name) const {
  return (*files_)[place(name).file].file.path();
}

int64_t RankFiles::stored_bytes() const {
  int64_t total = 0;
  for (const std::string& name : names_) total += stored_bytes(name);
  return total;
}

int64_t RankFiles::stored_bytes(const std::string& name) const {
  return static_cast<int64_t>(dense(name).bytes.size());
}

void RankFiles::release(const std::vector<std::string>& names) const {
  for (const std::string& name : names) {
    const Place& found = place(name);
    (*files_)[found.file].file.release(found.tensor);
  }
}

std::string RankFiles::sha256() const {
  std::call_once(hashed_, [this] {
    Sha256 hash;
    hash.update("config " + sha256_hex(config_json_) + "\n");
    for (const std::string& name : names_) {
      const TensorView view = dense(name);
      hash.update(name + " " + std::string(dtype_name(view.dtype)) + " " + shape_text(view.shape) +
                  " " + sha256_hex(view.bytes) + "\n");
      release({name});
    }
    sha256_ = hash.finish();
  });
  return sha256_;
}

}  // namespace pare
