#include "formats/named_source.h"

#include <algorithm>
#include <set>
#include <utility>

#include "formats/forwarding_source.h"
#include "pare/error.h"

namespace pare {
namespace {

[[noreturn]] void no_part(const StoredTensor& tensor, const std::string& what) {
  throw Error(ErrorCode::kInputMalformed, "tensor \"" + tensor.name + "\" of shape " +
                                              shape_text(tensor.shape) + " has no " + what);
}

class NamedSource final : public ForwardingSource {
 public:
  NamedSource(std::shared_ptr<const WeightSource> source,
              const std::map<std::string, StoredTensor>& stored)
      : ForwardingSource(std::move(source)) {
    for (const auto& [name, tensor] : stored) {
      whole_tensor(base(), tensor.name);  // Whether it is there.
      referred_.insert(tensor.name);
      add(name, tensor);
    }
    std::vector<std::string> shown;
    for (const std::string& name : base().names()) {
      if (referred_.contains(name)) continue;
      const auto found = stored_.find(name);
      if (found != stored_.end()) {
        malformed(name, "is there, but \"" + found->second.tensor.name + "\" is presented as \"" +
                            name + "\" too");
      }
      shown.push_back(name);
    }
    for (const auto& [name, entry] : stored_) shown.push_back(name);
    std::sort(shown.begin(), shown.end());
    set_names(std::move(shown));
  }

  bool contains(const std::string& name) const override {
    return stored_.contains(name) || (!referred_.contains(name) && base().contains(name));
  }
  bool is_compressed(const std::string& name) const override {
    return contains(name) && base().is_compressed(stored_name(name));
  }

  TensorView dense(const std::string& name) const override {
    const Entry* entry = find(name);
    if (entry == nullptr) return base().dense(name);
    const StoredTensor& tensor = entry->tensor;
    TensorView view = entry->whole ? base().dense(tensor.name)
                                   : base().dense_part(tensor.name, tensor.first, entry->count);
    view.shape = tensor.shape;
    return view;
  }

  TensorView dense_part(const std::string& name, int64_t first, int64_t count) const override {
    const Entry* entry = find(name);
    if (entry == nullptr) return base().dense_part(name, first, count);
    check_part(name, first, count, entry->count);
    return base().dense_part(entry->tensor.name, entry->tensor.first + first, count);
  }

  void read(const std::string& name, int64_t first, std::span<std::byte> out) const override {
    const Entry* entry = find(name);
    if (entry == nullptr) return base().read(name, first, out);
    check_part(name, first, static_cast<int64_t>(out.size() / dtype_size(dtype(name))),
               entry->count);
    base().read(entry->tensor.name, entry->tensor.first + first, out);
  }

  DType dtype(const std::string& name) const override { return base().dtype(stored_name(name)); }
  CompressedWeight compressed(const std::string& name) const override {
    return base().compressed(stored_name(name));
  }
  Shape shape(const std::string& name) const override {
    const Entry* entry = find(name);
    return entry == nullptr ? base().shape(name) : entry->tensor.shape;
  }
  std::string file_of(const std::string& name) const override {
    return base().file_of(stored_name(name));
  }

  using ForwardingSource::stored_bytes;
  int64_t stored_bytes(const std::string& name) const override {
    const Entry* entry = find(name);
    if (entry == nullptr) return base().stored_bytes(name);
    const int64_t bytes = base().stored_bytes(entry->tensor.name);
    if (entry->whole) return bytes;
    // Rounded at both ends, so that parts that make up the tensor make up its bytes.
    const auto share = [&](int64_t element) {
      __extension__ using Wide = __int128;
      return static_cast<int64_t>(static_cast<Wide>(bytes) * element / entry->total);
    };
    return share(entry->tensor.first + entry->count) - share(entry->tensor.first);
  }

  void release(const std::vector<std::string>& names) const override {
    for (const std::string& name : names) {
      const Entry* entry = find(name);
      if (entry == nullptr) {
        base().release({name});
      } else if (entry->whole) {
        base().release({entry->tensor.name});
      } else {
        base().release_part(entry->tensor.name, entry->tensor.first, entry->count);
      }
    }
  }

  void release_part(const std::string& name, int64_t first, int64_t count) const override {
    const Entry* entry = find(name);
    const int64_t offset = entry == nullptr ? 0 : entry->tensor.first;
    base().release_part(stored_name(name), offset + first, count);
  }

 private:
  struct Entry {
    StoredTensor tensor;
    int64_t count = 0;  ///< Elements of the part.
    int64_t total = 0;  ///< Elements of the stored tensor.
    bool whole = false;
  };

  [[noreturn]] void malformed(const std::string& stored, const std::string& what) const {
    throw Error(ErrorCode::kInputMalformed,
                base().file_of(stored) + ": tensor \"" + stored + "\" " + what);
  }

  void add(const std::string& name, const StoredTensor& tensor) {
    Entry entry{.tensor = tensor, .count = 0, .total = 0, .whole = false};
    const Shape whole = base().shape(entry.tensor.name);
    entry.count = element_count(entry.tensor.shape);
    entry.total = element_count(whole);
    if (entry.tensor.first < 0 || entry.tensor.first > entry.total ||
        entry.count > entry.total - entry.tensor.first) {
      malformed(entry.tensor.name, "has shape " + shape_text(whole) + "; \"" + name + "\" " +
                                       shape_text(entry.tensor.shape) + " from element " +
                                       std::to_string(entry.tensor.first) + " is not inside it");
    }
    entry.whole = entry.count == entry.total;
    if (base().is_compressed(entry.tensor.name) && entry.tensor.shape != whole) {
      malformed(entry.tensor.name, "is compressed and cannot be cut or reshaped to \"" + name +
                                       "\" " + shape_text(entry.tensor.shape));
    }
    stored_.emplace(name, std::move(entry));
  }

  /// Nothing for a tensor that keeps its name. Throws when there is none.
  const Entry* find(const std::string& name) const {
    const auto found = stored_.find(name);
    if (found != stored_.end()) return &found->second;
    if (referred_.contains(name)) {
      throw Error(ErrorCode::kInputMalformed,
                  path() + ": there is no tensor \"" + name + "\" (it is read under another name)");
    }
    return nullptr;
  }

  const std::string& stored_name(const std::string& name) const {
    const Entry* entry = find(name);
    return entry == nullptr ? name : entry->tensor.name;
  }

  std::map<std::string, Entry> stored_;
  std::set<std::string> referred_;  ///< Stored tensors that a key refers to.
};

}  // namespace

StoredTensor whole_tensor(const WeightSource& source, const std::string& name) {
  return {name, 0, source.shape(name)};
}

StoredTensor index_part(const StoredTensor& tensor, int64_t index) {
  StoredTensor part = range_part(tensor, index, index < INT64_MAX ? index + 1 : index);
  if (part.shape[0] != 1) no_part(tensor, "index " + std::to_string(index));
  part.shape.erase(part.shape.begin());
  return part;
}

StoredTensor range_part(const StoredTensor& tensor, int64_t begin, int64_t end) {
  if (tensor.shape.empty() || begin < 0 || end < begin || end > tensor.shape[0]) {
    no_part(tensor, "range " + std::to_string(begin) + " to " + std::to_string(end));
  }
  const int64_t size = tensor.shape[0] == 0 ? 0 : element_count(tensor.shape) / tensor.shape[0];
  StoredTensor part{tensor.name, tensor.first + begin * size, tensor.shape};
  part.shape[0] = end - begin;
  return part;
}

std::unique_ptr<WeightSource> make_named_source(std::shared_ptr<const WeightSource> base,
                                                const std::map<std::string, StoredTensor>& names) {
  return std::make_unique<NamedSource>(std::move(base), names);
}

}  // namespace pare
