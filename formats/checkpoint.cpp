#include "pare/checkpoint.h"

#include <cstring>

#include "formats/checkpoint_layout.h"
#include "formats/checkpoint_reader.h"
#include "formats/checkpoint_state.h"
#include "formats/quantized_weight.h"
#include "kernels/codec.h"
#include "pare/error.h"

namespace pare {
namespace {

template <typename Element, typename Convert>
void convert(std::span<const std::byte> bytes, std::span<float> out, Convert to_float) {
  for (size_t i = 0; i < out.size(); ++i) {
    Element element;
    std::memcpy(&element, bytes.data() + i * sizeof(Element), sizeof(Element));
    out[i] = to_float(element);
  }
}

/// `bytes` hold out.size() elements of `dtype`.
void to_float(DType dtype, std::span<const std::byte> bytes, std::span<float> out) {
  const auto cast = [](auto value) { return static_cast<float>(value); };
  switch (dtype) {
    case DType::kF64:
      return convert<double>(bytes, out, cast);
    case DType::kF32:
      return convert<float>(bytes, out, cast);
    case DType::kF16:
      return convert<uint16_t>(bytes, out, f16_to_f32);
    case DType::kBf16:
      return convert<uint16_t>(bytes, out, [](uint16_t bits) { return bf16_to_f32(bits); });
    case DType::kF8E4m3:
      return convert<uint8_t>(bytes, out, e4m3_to_f32);
    case DType::kF8E5m2:  // The upper half of a float16.
      return convert<uint8_t>(
          bytes, out, [](uint8_t bits) { return f16_to_f32(static_cast<uint16_t>(bits << 8)); });
    case DType::kF8E8m0:
      return convert<uint8_t>(bytes, out, e8m0_to_f32);
    case DType::kI64:
      return convert<int64_t>(bytes, out, cast);
    case DType::kI32:
      return convert<int32_t>(bytes, out, cast);
    case DType::kI16:
      return convert<int16_t>(bytes, out, cast);
    case DType::kI8:
      return convert<int8_t>(bytes, out, cast);
    case DType::kU8:
    case DType::kBool:
      return convert<uint8_t>(bytes, out, cast);
  }
}

}  // namespace

Checkpoint::State::State(const std::string& path) : source(open_checkpoint(path)) {
  const CheckpointHeader& header = source->header();
  texts = {.architecture = header.architecture,
           .config_json = header.config_json,
           .recipe_json = header.recipe_json,
           .calibration_sha256 = header.calibration_sha256,
           .source_sha256 = header.source_sha256,
           .text_files = header.text_files};
}

const CheckpointSource& Checkpoint::State::with(const std::string& name) const {
  if (!source->contains(name)) {
    throw Error(ErrorCode::kUsage, source->path() + ": there is no tensor \"" + name + "\"");
  }
  return *source;
}

Checkpoint::Checkpoint(const std::string& path) : state_(std::make_unique<State>(path)) {}
Checkpoint::~Checkpoint() = default;
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;

const std::string& Checkpoint::path() const { return state_->source->path(); }
const CheckpointTexts& Checkpoint::texts() const { return state_->texts; }
int64_t Checkpoint::format_version() const { return state_->source->format_version(); }
const std::string& Checkpoint::tool_version() const { return state_->source->tool_version(); }
const std::vector<std::string>& Checkpoint::names() const { return state_->source->names(); }
const std::vector<std::string>& Checkpoint::stored_order() const {
  return state_->source->stored_order();
}
bool Checkpoint::contains(const std::string& name) const { return state_->source->contains(name); }

TensorInfo Checkpoint::info(const std::string& name) const {
  const CheckpointSource& source = state_->with(name);
  TensorInfo info{.dtype = source.stored_dtype(name),
                  .shape = source.shape(name),
                  .stored_bytes = source.stored_bytes(name),
                  .scheme = {}};
  if (source.is_compressed(name)) {
    info.scheme = scheme_of(source.outline(name), source.has_pre_quant_scale(name));
  }
  return info;
}

PlainTensor Checkpoint::dense(const std::string& name) const {
  const CheckpointSource& source = state_->with(name);
  if (source.is_compressed(name)) {
    throw Error(ErrorCode::kUsage, path() + ": tensor \"" + name +
                                       "\" is compressed; ask for quantized() or values()");
  }
  const TensorView view = source.dense(name);
  return {std::string(dtype_name(view.dtype)), view.shape, {view.bytes.begin(), view.bytes.end()}};
}

QuantizedWeight Checkpoint::quantized(const std::string& name) const {
  const CheckpointSource& source = state_->with(name);
  if (!source.is_compressed(name)) {
    throw Error(ErrorCode::kUsage, path() + ": tensor \"" + name +
                                       "\" is not compressed; ask for dense() or values()");
  }
  return to_public(source.compressed(name));
}

std::vector<float> Checkpoint::values(const std::string& name, int64_t first, int64_t count) const {
  const CheckpointSource& source = state_->with(name);
  const Shape shape = source.shape(name);
  const int64_t rows = shape.empty() ? 1 : shape[0];
  check_rows(name, first, count, rows);
  int64_t columns = 1;  // The product was checked when the file was opened.
  for (size_t i = 1; i < shape.size(); ++i) columns *= shape[i];
  std::vector<float> result(static_cast<size_t>(count * columns));
  if (source.is_compressed(name)) {
    dequantize_rows(source.compressed(name), first, first + count, result);
  } else {
    const TensorView part = source.dense_part(name, first * columns, count * columns);
    to_float(part.dtype, part.bytes, result);
  }
  return result;
}

std::vector<float> Checkpoint::values(const std::string& name) const {
  const Shape shape = state_->with(name).shape(name);
  return values(name, 0, shape.empty() ? 1 : shape[0]);
}

int64_t Checkpoint::verify() const { return verify_hashes(path()); }

}  // namespace pare
