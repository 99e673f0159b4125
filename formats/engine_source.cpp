#include "formats/engine_source.h"

#include <algorithm>

#include "pare/error.h"

namespace pare {
namespace {

constexpr std::string_view kWeight = ".weight";

std::string module_of(const std::string& name) {
  return name.substr(0, name.size() - kWeight.size());
}

}  // namespace

void EngineSource::malformed(const std::string& name, const std::string& what) const {
  throw Error(ErrorCode::kInputMalformed,
              base().file_of(name) + ": tensor \"" + name + "\" " + what);
}

void EngineSource::add_linear(const std::string& module, Shape shape,
                              std::vector<std::string> parts) {
  const std::string name = module + std::string(kWeight);
  for (const std::string& part : parts) {
    if (part != name) hidden_[part] = name;
  }
  linears_[name] = {std::move(shape), std::move(parts)};
}

void EngineSource::add_tensor(const std::string& name, DType dtype, Shape shape,
                              std::vector<std::byte> bytes) {
  added_[name] = {dtype, std::move(shape), std::move(bytes)};
}

void EngineSource::add_cache_scale(const std::string& name, const std::string& stored) {
  std::vector<float> values = {1};
  Shape shape = {1};
  if (!stored.empty()) {
    if (!base().contains(stored)) {
      throw Error(ErrorCode::kInputMalformed, path() + ": tensor \"" + stored + "\" is not there");
    }
    if (!base().shape(stored).empty()) shape = base().shape(stored);
    values = scales(stored, element_count(shape));
    if (stored != name) hide(stored);
  }
  const auto bytes = std::as_bytes(std::span<const float>(values));
  add_tensor(name, DType::kF32, std::move(shape), {bytes.begin(), bytes.end()});
}

void EngineSource::add_cache(const std::string& attention, const std::string& key_scale,
                             const std::string& value_scale, std::string_view format) {
  add_cache_scale(attention + ".k_scale", key_scale);
  add_cache_scale(attention + ".v_scale", value_scale);
  const auto bytes = std::as_bytes(std::span(format));
  add_tensor(attention + ".kv_cache_dtype", DType::kU8, {static_cast<int64_t>(format.size())},
             {bytes.begin(), bytes.end()});
}

void EngineSource::hide(const std::string& name) { hidden_[name] = {}; }

void EngineSource::expect_linears(std::string_view mark) const {
  if (!linears_.empty()) return;
  throw Error(ErrorCode::kInputMalformed,
              path() +
                  ": config.json says that the model is quantized, but no tensor ends with \"" +
                  std::string(mark) + "\"");
}

void EngineSource::show_names() {
  std::vector<std::string> shown;
  for (const std::string& name : base().names()) {
    if (!hidden_.contains(name) && !linears_.contains(name) && !added_.contains(name)) {
      shown.push_back(name);
    }
  }
  for (const auto& [name, found] : linears_) shown.push_back(name);
  for (const auto& [name, found] : added_) shown.push_back(name);
  std::sort(shown.begin(), shown.end());
  set_names(std::move(shown));
}

const EngineSource::Linear* EngineSource::linear(const std::string& name) const {
  const auto found = linears_.find(name);
  return found == linears_.end() ? nullptr : &found->second;
}

bool EngineSource::contains(const std::string& name) const {
  if (linear(name) != nullptr || added_.contains(name)) return true;
  return !hidden_.contains(name) && base().contains(name);
}

bool EngineSource::is_compressed(const std::string& name) const { return linear(name) != nullptr; }

void EngineSource::refuse_compressed(const std::string& name) const {
  if (const Linear* found = linear(name); found != nullptr) {
    throw Error(ErrorCode::kInputMalformed, base().file_of(found->parts.front()) + ": tensor \"" +
                                                name + "\" is stored compressed");
  }
  if (const auto part = hidden_.find(name); part != hidden_.end()) {
    malformed(name, part->second.empty() ? "is not a tensor of the model"
                                         : "is a part of \"" + part->second + "\"");
  }
}

TensorView EngineSource::dense(const std::string& name) const {
  if (const auto found = added_.find(name); found != added_.end()) {
    return {found->second.dtype, found->second.shape, found->second.bytes};
  }
  refuse_compressed(name);
  return base().dense(name);
}

TensorView EngineSource::dense_part(const std::string& name, int64_t first, int64_t count) const {
  if (added_.contains(name)) {
    TensorView view = dense(name);
    check_part(name, first, count, element_count(view.shape));
    const size_t size = dtype_size(view.dtype);
    return {
        view.dtype,
        {count},
        view.bytes.subspan(static_cast<size_t>(first) * size, static_cast<size_t>(count) * size)};
  }
  refuse_compressed(name);
  return base().dense_part(name, first, count);
}

void EngineSource::read(const std::string& name, int64_t first, std::span<std::byte> out) const {
  if (added_.contains(name)) {
    const auto count = static_cast<int64_t>(out.size() / dtype_size(dtype(name)));
    std::ranges::copy(dense_part(name, first, count).bytes, out.begin());
    return;
  }
  refuse_compressed(name);
  base().read(name, first, out);
}

DType EngineSource::dtype(const std::string& name) const {
  if (const auto found = added_.find(name); found != added_.end()) return found->second.dtype;
  refuse_compressed(name);
  return base().dtype(name);
}

CompressedWeight EngineSource::compressed(const std::string& name) const {
  if (linear(name) == nullptr) return base().compressed(name);  // The base says why not.
  CompressedWeight weight = read_linear(module_of(name));
  validate(weight, name);
  return weight;
}

Shape EngineSource::shape(const std::string& name) const {
  if (const Linear* found = linear(name); found != nullptr) return found->shape;
  if (const auto found = added_.find(name); found != added_.end()) return found->second.shape;
  return base().shape(name);
}

std::string EngineSource::file_of(const std::string& name) const {
  if (const Linear* found = linear(name); found != nullptr) {
    return base().file_of(found->parts.front());
  }
  return added_.contains(name) ? path() : base().file_of(name);
}

int64_t EngineSource::stored_bytes(const std::string& name) const {
  if (const Linear* found = linear(name); found != nullptr) {
    int64_t total = 0;
    for (const std::string& part : found->parts) total += base().stored_bytes(part);
    return total;
  }
  if (const auto found = added_.find(name); found != added_.end()) {
    return static_cast<int64_t>(found->second.bytes.size());
  }
  return base().stored_bytes(name);
}

void EngineSource::release(const std::vector<std::string>& names) const {
  std::vector<std::string> parts;
  for (const std::string& name : names) {
    if (const Linear* found = linear(name); found != nullptr) {
      parts.insert(parts.end(), found->parts.begin(), found->parts.end());
    } else if (!added_.contains(name)) {
      parts.push_back(name);
    }
  }
  base().release(parts);
}

void EngineSource::release_part(const std::string& name, int64_t first, int64_t count) const {
  if (!added_.contains(name) && linear(name) == nullptr) base().release_part(name, first, count);
}

TensorView EngineSource::part(const std::string& name, DType dtype, const Shape& shape) const {
  if (!base().contains(name)) {
    throw Error(ErrorCode::kInputMalformed, path() + ": tensor \"" + name + "\" is not there");
  }
  TensorView view = base().dense(name);
  if (view.dtype != dtype || view.shape != shape) {
    malformed(name, "is " + std::string(dtype_name(view.dtype)) + " " + shape_text(view.shape) +
                        ", expected " + std::string(dtype_name(dtype)) + " " + shape_text(shape));
  }
  return view;
}

Shape EngineSource::matrix_shape(const std::string& name) const {
  if (!base().contains(name)) {
    throw Error(ErrorCode::kInputMalformed, path() + ": tensor \"" + name + "\" is not there");
  }
  Shape shape = base().shape(name);
  if (shape.size() != 2 || shape[0] < 1 || shape[1] < 1) {
    malformed(name, "has shape " + shape_text(shape) + ", expected a matrix");
  }
  return shape;
}

std::vector<float> EngineSource::scales(const std::string& name, int64_t count) const {
  if (!base().contains(name)) {
    throw Error(ErrorCode::kInputMalformed, path() + ": tensor \"" + name + "\" is not there");
  }
  const TensorView view = base().dense(name);
  if (element_count(view.shape) != count) {
    malformed(name, "has shape " + shape_text(view.shape) + ", expected " + std::to_string(count) +
                        " scales");
  }
  return to_f32(view, name);
}

}  // namespace pare
