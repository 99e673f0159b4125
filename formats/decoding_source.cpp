#include "formats/decoding_source.h"

#include "pare/error.h"

namespace pare {

TensorView DecodingSource::dense(const std::string& name) const {
  if (!decodes(name)) return base().dense(name);
  const Shape dimensions = shape(name);
  TensorView view = dense_part(name, 0, element_count(dimensions));
  view.shape = dimensions;
  return view;
}

TensorView DecodingSource::dense_part(const std::string& name, int64_t first, int64_t count) const {
  if (!decodes(name)) return base().dense_part(name, first, count);
  check_part(name, first, count, element_count(shape(name)));
  const DType type = dtype(name);
  const size_t bytes = static_cast<size_t>(count) * dtype_size(type);
  return {type, {count}, parts_.get(name, {first, count}, bytes, [&](std::span<std::byte> out) {
            decode(name, first, out);
          })};
}

void DecodingSource::read(const std::string& name, int64_t first, std::span<std::byte> out) const {
  if (!decodes(name)) return base().read(name, first, out);
  const size_t size = dtype_size(dtype(name));
  if (out.size() % size != 0) {
    throw Error(ErrorCode::kInternal, "tensor \"" + name + "\": read of a broken element");
  }
  check_part(name, first, static_cast<int64_t>(out.size() / size), element_count(shape(name)));
  if (!out.empty()) decode(name, first, out);
}

void DecodingSource::release(const std::vector<std::string>& names) const {
  for (const std::string& name : names) {
    if (decodes(name)) {
      parts_.release(name);
    } else {
      base().release({name});
    }
  }
}

void DecodingSource::release_part(const std::string& name, int64_t first, int64_t count) const {
  if (decodes(name)) {
    parts_.release(name, {first, count});
  } else {
    base().release_part(name, first, count);
  }
}

}  // namespace pare
