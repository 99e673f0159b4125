// 2:4 rows, and the assembly of whole weights.
//
// A group of four is one integer here: shifting whole codes into place needs no vector instructions
// to keep up with memory.
#include <bit>
#include <cassert>
#include <cstring>
#include <type_traits>

#include "kernels/codec.h"

namespace pare {
namespace {

static_assert(std::endian::native == std::endian::little, "stored codes are little-endian");

/// Four codes as one integer, the first in the lowest bits.
template <typename Code>
using Group = std::conditional_t<sizeof(Code) == 1, uint32_t, uint64_t>;

template <typename Code>
Group<Code> placed(Code code, unsigned position) {
  return static_cast<Group<Code>>(static_cast<std::make_unsigned_t<Code>>(code))
         << (8 * sizeof(Code) * position);
}

template <typename Code>
void expand_group(const Code* kept, unsigned nibble, Code* dense) {
  const Group<Code> group = placed(kept[0], nibble & 3U) | placed(kept[1], nibble >> 2);
  std::memcpy(dense, &group, sizeof(group));
}

/// idx0 | idx1 << 2 of the two that are kept.
unsigned mask_nibble(const uint8_t* keep) {
  const unsigned first = keep[0] != 0 ? 0U : keep[1] != 0 ? 1U : 2U;
  const unsigned second = keep[3] != 0 ? 3U : keep[2] != 0 ? 2U : 1U;
  return first | second << 2;
}

template <typename Code>
unsigned compress_group(const Code* dense, const uint8_t* keep, Code* kept) {
  const unsigned nibble = mask_nibble(keep);
  kept[0] = dense[nibble & 3U];
  kept[1] = dense[nibble >> 2];
  return nibble;
}

void prepare(CompressedWeight& weight, bool sparse) {
  weight.sparse = sparse;
  weight.codes.resize(static_cast<size_t>(weight.out_features * weight.row_bytes()));
  weight.mask_index.resize(static_cast<size_t>(weight.out_features * weight.mask_row_bytes()));
}

std::span<uint8_t> mask_row(CompressedWeight& weight, int64_t row) {
  const auto bytes = static_cast<size_t>(weight.mask_row_bytes());
  return std::span(weight.mask_index).subspan(static_cast<size_t>(row) * bytes, bytes);
}

}  // namespace

template <typename Code>
void compress_2_4_row(std::span<const Code> dense, std::span<const uint8_t> keep,
                      std::span<Code> kept, std::span<uint8_t> mask_index) {
  assert(dense.size() % 4 == 0 && keep.size() == dense.size() && 2 * kept.size() == dense.size());
  assert(mask_index.size() == (dense.size() / 4 + 1) / 2);
  const size_t groups = dense.size() / 4;
  size_t group = 0;
  for (; group + 2 <= groups; group += 2) {
    const unsigned low = compress_group(&dense[group * 4], &keep[group * 4], &kept[group * 2]);
    const unsigned high =
        compress_group(&dense[group * 4 + 4], &keep[group * 4 + 4], &kept[group * 2 + 2]);
    mask_index[group / 2] = static_cast<uint8_t>(low | high << 4);
  }
  if (group < groups) {
    mask_index[group / 2] =
        static_cast<uint8_t>(compress_group(&dense[group * 4], &keep[group * 4], &kept[group * 2]));
  }
}

template <typename Code>
void expand_2_4_row(std::span<const Code> kept, std::span<const uint8_t> mask_index,
                    std::span<Code> dense) {
  assert(dense.size() % 4 == 0 && 2 * kept.size() == dense.size());
  assert(mask_index.size() == (dense.size() / 4 + 1) / 2);
  const size_t groups = dense.size() / 4;
  size_t group = 0;
  for (; group + 2 <= groups; group += 2) {
    const unsigned nibbles = mask_index[group / 2];
    expand_group(&kept[group * 2], nibbles & 15U, &dense[group * 4]);
    expand_group(&kept[group * 2 + 2], nibbles >> 4, &dense[group * 4 + 4]);
  }
  if (group < groups) {
    expand_group(&kept[group * 2], mask_index[group / 2] & 15U, &dense[group * 4]);
  }
}

template void compress_2_4_row(std::span<const int8_t>, std::span<const uint8_t>, std::span<int8_t>,
                               std::span<uint8_t>);
template void compress_2_4_row(std::span<const uint8_t>, std::span<const uint8_t>,
                               std::span<uint8_t>, std::span<uint8_t>);
template void compress_2_4_row(std::span<const uint16_t>, std::span<const uint8_t>,
                               std::span<uint16_t>, std::span<uint8_t>);
template void expand_2_4_row(std::span<const int8_t>, std::span<const uint8_t>, std::span<int8_t>);
template void expand_2_4_row(std::span<const uint8_t>, std::span<const uint8_t>,
                             std::span<uint8_t>);
template void expand_2_4_row(std::span<const uint16_t>, std::span<const uint8_t>,
                             std::span<uint16_t>);

void pack_codes(std::span<const int8_t> codes, std::span<const uint8_t> keep,
                CompressedWeight& weight) {
  assert(weight.format != WeightFormat::kBf16);
  assert(codes.size() == static_cast<size_t>(weight.out_features * weight.in_features));
  assert(keep.empty() || keep.size() == codes.size());
  prepare(weight, !keep.empty());
  const auto columns = static_cast<size_t>(weight.in_features);
  const auto stored = static_cast<size_t>(weight.stored_columns());
  const auto bytes = static_cast<size_t>(weight.row_bytes());
  std::vector<int8_t> kept(weight.sparse ? stored : 0);
  for (int64_t row = 0; row < weight.out_features; ++row) {
    const size_t begin = static_cast<size_t>(row) * columns;
    std::span<const int8_t> row_codes = codes.subspan(begin, columns);
    if (weight.sparse) {
      compress_2_4_row<int8_t>(row_codes, keep.subspan(begin, columns), kept,
                               mask_row(weight, row));
      row_codes = kept;
    }
    const auto out = std::span(weight.codes).subspan(static_cast<size_t>(row) * bytes, bytes);
    if (packs_nibbles(weight.format)) {
      pack_nibbles(row_codes, out);
    } else {
      std::memcpy(out.data(), row_codes.data(), bytes);
    }
  }
}

void pack_bf16_weight(std::span<const uint16_t> values, std::span<const uint8_t> keep,
                      CompressedWeight& weight) {
  assert(weight.format == WeightFormat::kBf16);
  assert(values.size() == static_cast<size_t>(weight.out_features * weight.in_features));
  assert(keep.empty() || keep.size() == values.size());
  prepare(weight, !keep.empty());
  if (!weight.sparse) {
    std::memcpy(weight.codes.data(), values.data(), weight.codes.size());
    return;
  }
  const auto columns = static_cast<size_t>(weight.in_features);
  std::vector<uint16_t> kept(columns / 2);
  for (int64_t row = 0; row < weight.out_features; ++row) {
    const size_t begin = static_cast<size_t>(row) * columns;
    compress_2_4_row<uint16_t>(values.subspan(begin, columns), keep.subspan(begin, columns), kept,
                               mask_row(weight, row));
    std::memcpy(weight.codes.data() + static_cast<size_t>(row * weight.row_bytes()), kept.data(),
                kept.size() * sizeof(uint16_t));
  }
}

}  // namespace pare
