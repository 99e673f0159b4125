#include "formats/beside_source.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <span>

#include "core/sha256.h"
#include "formats/forwarding_source.h"
#include "formats/resolve_names.h"
#include "pare/error.h"

namespace pare {
namespace {

[[noreturn]] void refuse(const LoraAdapter& adapter, const std::string& what) {
  throw Error(ErrorCode::kInputMalformed,
              adapter.file() + ": " + what + ", which cannot be kept beside a linear; merge it");
}

class BesideSource final : public ForwardingSource {
 public:
  BesideSource(std::shared_ptr<const WeightSource> source,
               std::shared_ptr<const LoraAdapter> adapter)
      : ForwardingSource(std::move(source)), adapter_(std::move(adapter)) {
    if (!adapter_->replacements().empty()) {
      refuse(*adapter_,
             "holds the whole tensor \"" + adapter_->replacements().begin()->first + "\"");
    }
    std::vector<std::string> wanted;
    for (const std::string& module : adapter_->modules()) wanted.push_back(module + ".weight");
    const std::map<std::string, std::string> found = match_names(wanted, base().names(), path());
    std::vector<std::string> all = names();
    for (const std::string& module : adapter_->modules()) {
      add(module, found, all);
    }
    std::sort(all.begin(), all.end());
    set_names(std::move(all));
  }

  bool contains(const std::string& name) const override {
    return factors_.contains(name) || base().contains(name);
  }
  bool is_compressed(const std::string& name) const override {
    return !factors_.contains(name) && base().is_compressed(name);
  }
  TensorView dense(const std::string& name) const override {
    const auto found = factors_.find(name);
    if (found == factors_.end()) return base().dense(name);
    return {DType::kF32, found->second.shape, std::as_bytes(std::span(found->second.values))};
  }
  TensorView dense_part(const std::string& name, int64_t first, int64_t count) const override {
    const auto found = factors_.find(name);
    if (found == factors_.end()) return base().dense_part(name, first, count);
    const std::span<const float> values(found->second.values);
    check_part(name, first, count, static_cast<int64_t>(values.size()));
    const auto part = values.subspan(static_cast<size_t>(first), static_cast<size_t>(count));
    return {DType::kF32, {count}, std::as_bytes(part)};
  }
  void read(const std::string& name, int64_t first, std::span<std::byte> out) const override {
    if (!factors_.contains(name)) return base().read(name, first, out);
    const TensorView part = dense_part(name, first, static_cast<int64_t>(out.size() / 4));
    std::copy_n(part.bytes.begin(), out.size(), out.begin());
  }
  DType dtype(const std::string& name) const override {
    return factors_.contains(name) ? DType::kF32 : base().dtype(name);
  }
  Shape shape(const std::string& name) const override {
    const auto found = factors_.find(name);
    return found == factors_.end() ? base().shape(name) : found->second.shape;
  }
  std::string file_of(const std::string& name) const override {
    return factors_.contains(name) ? adapter_->file() : base().file_of(name);
  }
  using ForwardingSource::stored_bytes;
  int64_t stored_bytes(const std::string& name) const override {
    const auto found = factors_.find(name);
    return found == factors_.end() ? base().stored_bytes(name)
                                   : static_cast<int64_t>(found->second.values.size()) * 4;
  }
  void release(const std::vector<std::string>& names) const override {
    std::vector<std::string> of_base;
    for (const std::string& name : names) {
      if (!factors_.contains(name)) of_base.push_back(name);
    }
    base().release(of_base);
  }
  void release_part(const std::string& name, int64_t first, int64_t count) const override {
    if (!factors_.contains(name)) base().release_part(name, first, count);
  }
  std::string sha256() const override {
    return sha256_hex(base().sha256() + " beside " + adapter_->sha256());
  }

 private:
  struct Factor {
    Shape shape;
    std::vector<float> values;
  };

  void add(const std::string& module, const std::map<std::string, std::string>& found,
           std::vector<std::string>& all) {
    const std::string weight = module + ".weight";
    const auto other = found.find(weight);
    const std::string stored = other == found.end() ? weight : other->second;
    if (!base().contains(stored)) {
      throw Error(ErrorCode::kInputMalformed,
                  adapter_->file() + ": module \"" + module + "\" is not in the model " + path());
    }
    LoraFactors factors = *adapter_->find(module);
    if (factors.embedding) refuse(*adapter_, "adapts the embedding \"" + module + "\"");
    if (!factors.magnitude.empty()) refuse(*adapter_, "is a DoRA adapter");
    for (float& value : factors.b) value *= factors.scale;
    const std::string name = stored.substr(0, stored.size() - std::strlen(".weight"));
    all.push_back(name + kLoraASuffix);
    all.push_back(name + kLoraBSuffix);
    factors_[name + kLoraASuffix] = {{factors.rank, factors.in_features}, std::move(factors.a)};
    factors_[name + kLoraBSuffix] = {{factors.out_features, factors.rank}, std::move(factors.b)};
  }

  std::shared_ptr<const LoraAdapter> adapter_;
  std::map<std::string, Factor> factors_;
};

}  // namespace

std::unique_ptr<WeightSource> make_beside_source(std::shared_ptr<const WeightSource> base,
                                                 std::shared_ptr<const LoraAdapter> adapter) {
  return std::make_unique<BesideSource>(std::move(base), std::move(adapter));
}

}  // namespace pare
