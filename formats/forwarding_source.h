// A WeightSource that shows another one, the common part of those that rename, decode or merge.
//
// Shares ownership of the base. Everything is forwarded but what the derived class overrides; names
// are a copy, which the derived class may change while it is constructed. As thread-safe as the
// base.
//
//   class Renamed final : public ForwardingSource { … TensorView dense(…) const override; };
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "formats/weight_source.h"

namespace pare {

class ForwardingSource : public WeightSource {
 public:
  const std::string& path() const override { return base_->path(); }
  const std::string& config_json() const override { return base_->config_json(); }
  const std::map<std::string, std::string>& text_files() const override {
    return base_->text_files();
  }
  const std::vector<std::string>& names() const override { return names_; }
  bool contains(const std::string& name) const override { return base_->contains(name); }
  bool is_compressed(const std::string& name) const override { return base_->is_compressed(name); }
  TensorView dense(const std::string& name) const override { return base_->dense(name); }
  TensorView dense_part(const std::string& name, int64_t first, int64_t count) const override {
    return base_->dense_part(name, first, count);
  }
  void read(const std::string& name, int64_t first, std::span<std::byte> out) const override {
    base_->read(name, first, out);
  }
  DType dtype(const std::string& name) const override { return base_->dtype(name); }
  CompressedWeight compressed(const std::string& name) const override {
    return base_->compressed(name);
  }
  Shape shape(const std::string& name) const override { return base_->shape(name); }
  std::string file_of(const std::string& name) const override { return base_->file_of(name); }

  /// The sum over names().
  int64_t stored_bytes() const override;
  int64_t stored_bytes(const std::string& name) const override { return base_->stored_bytes(name); }
  void release(const std::vector<std::string>& names) const override { base_->release(names); }
  void release_part(const std::string& name, int64_t first, int64_t count) const override {
    base_->release_part(name, first, count);
  }
  std::string sha256() const override { return base_->sha256(); }
  const std::string& recipe_json() const override { return base_->recipe_json(); }

 protected:
  explicit ForwardingSource(std::shared_ptr<const WeightSource> base)
      : base_(std::move(base)), names_(base_->names()) {}

  const WeightSource& base() const noexcept { return *base_; }

  /// REQUIRES: sorted, without repetitions; called while the object is constructed.
  void set_names(std::vector<std::string> names) { names_ = std::move(names); }

 private:
  std::shared_ptr<const WeightSource> base_;
  std::vector<std::string> names_;
};

}  // namespace pare
