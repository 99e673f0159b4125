#include "formats/gguf_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/codec.h"
#include "pare/error.h"

namespace pare {
namespace {

// Elements as they are, rows in another order.
void gather(const GgufRows& rows, int64_t first, std::span<std::byte> out) {
  const size_t size = dtype_size(rows.dtype());
  const int64_t width = rows.shape.size() == 1 ? 1 : rows.tensor->row_elements();
  const auto count = static_cast<int64_t>(out.size() / size);
  for (int64_t done = 0; done < count;) {
    const int64_t row = (first + done) / width;
    const int64_t column = (first + done) % width;
    const int64_t run = std::min(width - column, count - done);
    const auto from = static_cast<size_t>(rows.file_row(row) * width + column) * size;
    std::memcpy(out.data() + static_cast<size_t>(done) * size, rows.tensor->bytes.data() + from,
                static_cast<size_t>(run) * size);
    done += run;
  }
  if (rows.offset == 0) return;
  for (size_t at = 0; at < out.size(); at += sizeof(float)) {
    float value = 0;
    std::memcpy(&value, out.data() + at, sizeof(float));
    value -= rows.offset;
    std::memcpy(out.data() + at, &value, sizeof(float));
  }
}

void decode_blocks(const GgufRows& rows, const std::string& name, int64_t first,
                   std::span<std::byte> out) {
  const GgmlType& type = *rows.tensor->type;
  const int64_t width = rows.tensor->row_elements();
  const auto count = static_cast<int64_t>(out.size() / sizeof(float));
  std::vector<float> values(static_cast<size_t>(width));
  for (int64_t done = 0; done < count;) {
    const int64_t row = (first + done) / width;
    const int64_t column = (first + done) % width;
    const int64_t run = std::min(width - column, count - done);
    // Whole blocks around what is wanted.
    const int64_t begin = column / type.block;
    const int64_t end = (column + run + type.block - 1) / type.block;
    const auto blocks = rows.row(row).subspan(static_cast<size_t>(begin * type.bytes),
                                              static_cast<size_t>((end - begin) * type.bytes));
    decode_ggml(type, blocks, values);
    const float* from = values.data() + (column - begin * type.block);
    if (!std::all_of(from, from + run, [](float value) { return std::isfinite(value); })) {
      throw Error(ErrorCode::kNonFinite, rows.file + ": tensor \"" + name + "\", row " +
                                             std::to_string(row) +
                                             ": a block has scales that are no finite numbers");
    }
    std::memcpy(out.data() + static_cast<size_t>(done) * sizeof(float), from,
                static_cast<size_t>(run) * sizeof(float));
    done += run;
  }
}

// Calls visit(index of the block's scale, its bytes, its codes).
template <size_t bytes, typename Visit>
void for_blocks(const GgufRows& rows, std::vector<int8_t>& codes, Visit visit) {
  const int64_t groups = rows.shape[1] / kGgmlBlock;
  for (int64_t row = 0; row < rows.shape[0]; ++row) {
    const std::span<const std::byte> from = rows.row(row);
    for (int64_t group = 0; group < groups; ++group) {
      const auto index = static_cast<size_t>(row * groups + group);
      visit(index, from.subspan(static_cast<size_t>(group) * bytes).template first<bytes>(),
            std::span(codes).subspan(index * kGgmlBlock).template first<kGgmlBlock>());
    }
  }
}

void read_q4_0(const GgufRows& rows, std::vector<int8_t>& codes, CompressedWeight& weight) {
  weight.format = WeightFormat::kInt4;
  for_blocks<kQ40Bytes>(rows, codes, [&](size_t index, auto block, auto part) {
    uint16_t scale = 0;
    unpack_q4_0(block, part, scale);
    weight.scale[index] = f16_to_f32(scale);
    weight.symmetric = weight.symmetric && !(weight.scale[index] < 0);
  });
  if (!weight.symmetric) weight.zero_point.assign(weight.scale.size(), 8);
  for (size_t index = 0; index < weight.scale.size(); ++index) {
    const auto part = std::span(codes).subspan(index * kGgmlBlock, kGgmlBlock);
    float& scale = weight.scale[index];
    if (scale == 0) {  // All weights of the block are zero.
      std::ranges::fill(part, 8);
      scale = 1;
    } else if (scale < 0) {
      for (int8_t& code : part) code = static_cast<int8_t>(15 - code);
      weight.zero_point[index] = 7;
      scale = -scale;
    }
    if (!weight.symmetric) continue;
    for (int8_t& code : part) code = static_cast<int8_t>(code - 8);
  }
}

void read_q8_0(const GgufRows& rows, const std::string& name, std::vector<int8_t>& codes,
               CompressedWeight& weight) {
  weight.format = WeightFormat::kInt8;
  for_blocks<kQ80Bytes>(rows, codes, [&](size_t index, auto block, auto part) {
    uint16_t bits = 0;
    unpack_q8_0(block, part, bits);
    float scale = f16_to_f32(bits);
    if (scale == 0) {
      std::ranges::fill(part, 0);
      scale = 1;
    } else if (scale < 0) {
      for (int8_t& code : part) {
        if (code == -128)
          throw Error(ErrorCode::kInputMalformed,
                      rows.file + ": tensor \"" + name +
                          "\" has a block with a negative scale and code -128");
        code = static_cast<int8_t>(-code);
      }
      scale = -scale;
    }
    weight.scale[index] = scale;
  });
}

void read_mxfp4(const GgufRows& rows, std::vector<int8_t>& codes, CompressedWeight& weight) {
  weight.format = WeightFormat::kMxfp4;
  for_blocks<kMxfp4Bytes>(rows, codes, [&](size_t index, auto block, auto part) {
    uint8_t scale = 0;
    unpack_mxfp4(block, part, scale);
    weight.scale[index] = e8m0_to_f32(scale);
  });
}

}  // namespace

bool GgufRows::is_plain() const {
  return tensor->type->id == kGgmlF32 || tensor->type->id == kGgmlF16 ||
         tensor->type->id == kGgmlBf16;
}

DType GgufRows::dtype() const {
  if (tensor->type->id == kGgmlF16) return DType::kF16;
  return tensor->type->id == kGgmlBf16 ? DType::kBf16 : DType::kF32;
}

std::span<const std::byte> GgufRows::bytes() const {
  if (shape.size() != 2) return tensor->bytes;
  const auto size = static_cast<size_t>(tensor->row_bytes());
  return tensor->bytes.subspan(static_cast<size_t>(first_row) * size,
                               static_cast<size_t>(shape[0]) * size);
}

std::span<const std::byte> GgufRows::row(int64_t row) const {
  const auto size = static_cast<size_t>(tensor->row_bytes());
  return tensor->bytes.subspan(static_cast<size_t>(file_row(row)) * size, size);
}

bool has_gguf_codes(const GgufRows& rows) {
  const uint32_t id = rows.tensor->type->id;
  return rows.shape.size() == 2 && (id == kGgmlQ40 || id == kGgmlQ80 || id == kGgmlMxfp4);
}

void decode_gguf(const GgufRows& rows, const std::string& name, int64_t first,
                 std::span<std::byte> out) {
  if (rows.is_plain()) {
    gather(rows, first, out);
  } else {
    decode_blocks(rows, name, first, out);
  }
}

CompressedWeight gguf_weight(const GgufRows& rows, const std::string& name) {
  CompressedWeight weight;
  weight.out_features = rows.shape[0];
  weight.in_features = rows.shape[1];
  weight.group_size = kGgmlBlock;
  weight.scale.resize(static_cast<size_t>(weight.out_features * weight.groups()));
  std::vector<int8_t> codes(static_cast<size_t>(weight.out_features * weight.in_features));
  switch (rows.tensor->type->id) {
    case kGgmlQ40:
      read_q4_0(rows, codes, weight);
      break;
    case kGgmlQ80:
      read_q8_0(rows, name, codes, weight);
      break;
    default:
      read_mxfp4(rows, codes, weight);
  }
  pack_codes(codes, {}, weight);
  try {
    validate(weight, name);
  } catch (const Error& error) {
    throw Error(error.code(), rows.file + ": " + error.what());
  }
  return weight;
}

}  // namespace pare
