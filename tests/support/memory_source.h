// A weight source whose tensors a test makes and changes in memory. All of them are FP32.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "formats/weight_source.h"

namespace pare::testing {

struct MemoryTensor {
  Shape shape;
  std::vector<float> values;
};

class MemorySource : public WeightSource {
 public:
  explicit MemorySource(std::string config_json) : config_json_(std::move(config_json)) {}

  void set(const std::string& name, MemoryTensor tensor);
  void erase(const std::string& name);
  std::vector<float>& values(const std::string& name) { return tensors_.at(name).values; }
  const std::vector<float>& values(const std::string& name) const {
    return tensors_.at(name).values;
  }

  const std::string& path() const override { return path_; }
  const std::string& config_json() const override { return config_json_; }
  const std::map<std::string, std::string>& text_files() const override { return text_files_; }
  const std::vector<std::string>& names() const override { return names_; }
  bool contains(const std::string& name) const override { return tensors_.contains(name); }
  bool is_compressed(const std::string&) const override { return false; }
  TensorView dense(const std::string& name) const override;
  CompressedWeight compressed(const std::string& name) const override;
  Shape shape(const std::string& name) const override { return tensors_.at(name).shape; }
  std::string file_of(const std::string&) const override { return path_; }
  int64_t stored_bytes() const override;
  int64_t stored_bytes(const std::string& name) const override;
  void release(const std::vector<std::string>&) const override {}
  std::string sha256() const override { return {}; }
  const std::string& recipe_json() const override { return recipe_; }

  std::map<std::string, std::string>& mutable_text_files() { return text_files_; }

 private:
  std::string path_ = "memory";
  std::string config_json_;
  std::string recipe_;
  std::map<std::string, std::string> text_files_;
  std::vector<std::string> names_;
  std::map<std::string, MemoryTensor> tensors_;
};

}  // namespace pare::testing
