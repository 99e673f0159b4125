// The safetensors files of several ranks as one WeightSource: "rank1/lm_head.weight" is the tensor
// "lm_head.weight" of rank1.safetensors.
//
// Read-only, mapped; safe to use from several threads.
//
//   auto files = std::make_shared<RankFiles>("engine", config_json, std::move(opened));
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "formats/safetensors.h"
#include "formats/weight_source.h"

namespace pare {

/// One of them, under the name that its tensors begin with.
struct RankFile {
  std::string label;  ///< "rank1", "encoder/rank0"
  SafetensorsFile file;

  std::string key(const std::string& tensor) const { return label + "/" + tensor; }
};

class RankFiles final : public WeightSource {
 public:
  RankFiles(std::string path, std::string config_json,
            std::shared_ptr<const std::vector<RankFile>> files);

  const std::string& path() const override { return path_; }
  const std::string& config_json() const override { return config_json_; }
  const std::map<std::string, std::string>& text_files() const override { return text_files_; }
  const std::vector<std::string>& names() const override { return names_; }
  bool contains(const std::string& name) const override { return places_.contains(name); }
  bool is_compressed(const std::string& /*name*/) const override { return false; }
  TensorView dense(const std::string& name) const override;
  CompressedWeight compressed(const std::string& name) const override;
  Shape shape(const std::string& name) const override { return dense(name).shape; }
  std::string file_of(const std::string& name) const override;
  int64_t stored_bytes() const override;
  int64_t stored_bytes(const std::string& name) const override;
  void release(const std::vector<std::string>& names) const override;
  std::string sha256() const override;
  const std::string& recipe_json() const override { return recipe_json_; }

 private:
  struct Place {
    size_t file = 0;
    std::string tensor;
  };
  const Place& place(const std::string& name) const;

  std::string path_;
  std::string config_json_;
  std::string recipe_json_;
  std::map<std::string, std::string> text_files_;
  std::shared_ptr<const std::vector<RankFile>> files_;
  std::map<std::string, Place> places_;
  std::vector<std::string> names_;
  mutable std::once_flag hashed_;
  mutable std::string sha256_;
};

}  // namespace pare
