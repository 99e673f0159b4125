#include "tests/support/memory_source.h"

#include <span>
#include <stdexcept>

namespace pare::testing {

void MemorySource::set(const std::string& name, MemoryTensor tensor) {
  tensors_[name] = std::move(tensor);
  names_.clear();
  for (const auto& [key, value] : tensors_) names_.push_back(key);
}

void MemorySource::erase(const std::string& name) {
  tensors_.erase(name);
  std::erase(names_, name);
}

TensorView MemorySource::dense(const std::string& name) const {
  const MemoryTensor& tensor = tensors_.at(name);
  return {DType::kF32, tensor.shape, std::as_bytes(std::span(tensor.values))};
}

CompressedWeight MemorySource::compressed(const std::string& name) const {
  throw std::logic_error(name + " is not compressed");
}

int64_t MemorySource::stored_bytes() const {
  int64_t total = 0;
  for (const std::string& name : names_) total += stored_bytes(name);
  return total;
}

int64_t MemorySource::stored_bytes(const std::string& name) const {
  return static_cast<int64_t>(tensors_.at(name).values.size() * sizeof(float));
}

}  // namespace pare::testing
