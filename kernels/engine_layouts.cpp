#include "kernels/engine_layouts.h"

#include <algorithm>
#include <array>

namespace pare {
namespace {

constexpr int64_t kNibbles = 8;  // in a word

// Which nibble of a word of AutoAWQ holds output channel j of eight.
constexpr std::array<int, kNibbles> kAwqNibble = {0, 4, 1, 5, 2, 6, 3, 7};

// Columns that are turned at a time, so that both sides of a transposition stay in the cache.
constexpr int64_t kTile = 64;

uint32_t nibble(int8_t code) { return static_cast<uint32_t>(code) & 15U; }

// Bits [32 · word, 32 · word + 32) of a stream of codes, code(i) of `bits` bits being the i-th.
template <typename CodeOf>
uint32_t stream_word(int64_t word, int64_t count, int bits, CodeOf code) {
  const int64_t begin = 32 * word;
  uint32_t value = 0;
  for (int64_t i = begin / bits; i < count && i * bits < begin + 32; ++i) {
    const auto shift = static_cast<int>(i * bits - begin);
    value |= shift >= 0 ? code(i) << shift : code(i) >> -shift;
  }
  return value;
}

// Code i of a stream of words.
template <typename WordAt>
uint32_t stream_code(int64_t i, int bits, WordAt word) {
  const int64_t begin = i * bits;
  const auto shift = static_cast<int>(begin % 32);
  uint32_t value = word(begin / 32) >> shift;
  if (shift + bits > 32) value |= word(begin / 32 + 1) << (32 - shift);
  return value & ((1U << bits) - 1U);
}

// Calls visit(row, column) for all of a matrix, tile by tile.
template <typename Visit>
void for_tiles(int64_t rows, int64_t columns, Visit visit) {
  for (int64_t top = 0; top < rows; top += kTile) {
    for (int64_t left = 0; left < columns; left += kTile) {
      for (int64_t row = top; row < std::min(rows, top + kTile); ++row) {
        for (int64_t column = left; column < std::min(columns, left + kTile); ++column) {
          visit(row, column);
        }
      }
    }
  }
}

}  // namespace

void pack_bit_stream(std::span<const int8_t> codes, MatrixSize size, int bits,
                     std::span<uint32_t> words) {
  const int64_t row_words = bit_stream_words(size.columns, bits);
  const int offset = 1 << (bits - 1);
  for (int64_t row = 0; row < size.rows; ++row) {
    const int8_t* from = codes.data() + row * size.columns;
    uint32_t* to = words.data() + row * row_words;
    uint64_t pending = 0;
    int filled = 0;
    for (int64_t i = 0; i < size.columns; ++i) {
      pending |= static_cast<uint64_t>(from[i] + offset) << filled;
      filled += bits;
      if (filled < 32) continue;
      *to++ = static_cast<uint32_t>(pending);
      pending >>= 32;
      filled -= 32;
    }
    if (filled > 0) *to = static_cast<uint32_t>(pending);
  }
}

void unpack_bit_stream(std::span<const uint32_t> words, MatrixSize size, int bits,
                       std::span<int8_t> codes) {
  const int64_t row_words = bit_stream_words(size.columns, bits);
  const int offset = 1 << (bits - 1);
  const uint64_t mask = (uint64_t{1} << bits) - 1;
  for (int64_t row = 0; row < size.rows; ++row) {
    const uint32_t* from = words.data() + row * row_words;
    int8_t* to = codes.data() + row * size.columns;
    uint64_t pending = 0;
    int available = 0;
    for (int64_t i = 0; i < size.columns; ++i) {
      if (available < bits) {
        pending |= static_cast<uint64_t>(*from++) << available;
        available += 32;
      }
      to[i] = static_cast<int8_t>(static_cast<int>(pending & mask) - offset);
      pending >>= bits;
      available -= bits;
    }
  }
}

void pack_awq(std::span<const uint8_t> codes, MatrixSize size, std::span<uint32_t> words) {
  const int64_t row_words = size.rows / kNibbles;
  for_tiles(row_words, size.columns, [&](int64_t word, int64_t column) {
    const uint8_t* from = codes.data() + word * kNibbles * size.columns + column;
    uint32_t value = 0;
    for (size_t j = 0; j < kAwqNibble.size(); ++j) {
      value |= (from[static_cast<int64_t>(j) * size.columns] & 15U) << (4 * kAwqNibble[j]);
    }
    words[static_cast<size_t>(column * row_words + word)] = value;
  });
}

void unpack_awq(std::span<const uint32_t> words, MatrixSize size, std::span<uint8_t> codes) {
  const int64_t row_words = size.rows / kNibbles;
  for_tiles(row_words, size.columns, [&](int64_t word, int64_t column) {
    const uint32_t value = words[static_cast<size_t>(column * row_words + word)];
    uint8_t* to = codes.data() + word * kNibbles * size.columns + column;
    for (size_t j = 0; j < kAwqNibble.size(); ++j) {
      to[static_cast<int64_t>(j) * size.columns] =
          static_cast<uint8_t>((value >> (4 * kAwqNibble[j])) & 15U);
    }
  });
}

void pack_gptq(std::span<const uint8_t> codes, MatrixSize size, int bits,
               std::span<uint32_t> words) {
  for_tiles(size.rows, size.columns * bits / 32, [&](int64_t row, int64_t word) {
    const uint8_t* from = codes.data() + row * size.columns;
    words[static_cast<size_t>(word * size.rows + row)] =
        stream_word(word, size.columns, bits, [&](int64_t i) { return uint32_t{from[i]}; });
  });
}

void unpack_gptq(std::span<const uint32_t> words, MatrixSize size, int bits,
                 std::span<uint8_t> codes) {
  for_tiles(size.rows, size.columns, [&](int64_t row, int64_t column) {
    const uint32_t* column_words = words.data() + row;
    codes[static_cast<size_t>(row * size.columns + column)] = static_cast<uint8_t>(
        stream_code(column, bits, [&](int64_t word) { return column_words[word * size.rows]; }));
  });
}

void pack_gptq_zeros(std::span<const uint8_t> zeros, MatrixSize size, int bits, int offset,
                     std::span<uint32_t> words) {
  const int64_t row_words = size.rows * bits / 32;
  const uint32_t mask = (1U << bits) - 1U;
  for (int64_t group = 0; group < size.columns; ++group) {
    const auto stored = [&](int64_t row) {
      return (zeros[static_cast<size_t>(row * size.columns + group)] -
              static_cast<uint32_t>(offset)) &
             mask;
    };
    for (int64_t word = 0; word < row_words; ++word) {
      words[static_cast<size_t>(group * row_words + word)] =
          stream_word(word, size.rows, bits, stored);
    }
  }
}

void unpack_gptq_zeros(std::span<const uint32_t> words, MatrixSize size, int bits, int offset,
                       std::span<uint8_t> zeros) {
  const int64_t row_words = size.rows * bits / 32;
  const uint32_t mask = (1U << bits) - 1U;
  for (int64_t group = 0; group < size.columns; ++group) {
    const uint32_t* from = words.data() + group * row_words;
    for (int64_t row = 0; row < size.rows; ++row) {
      const uint32_t stored = stream_code(row, bits, [&](int64_t word) { return from[word]; });
      zeros[static_cast<size_t>(row * size.columns + group)] =
          static_cast<uint8_t>((stored + static_cast<uint32_t>(offset)) & mask);
    }
  }
}

void pack_row_pairs(std::span<const int8_t> codes, MatrixSize size, std::span<uint8_t> bytes) {
  for (int64_t pair = 0; pair < size.rows / 2; ++pair) {
    const int8_t* even = codes.data() + 2 * pair * size.columns;
    const int8_t* odd = even + size.columns;
    uint8_t* to = bytes.data() + pair * size.columns;
    for (int64_t i = 0; i < size.columns; ++i) {
      to[i] = static_cast<uint8_t>(nibble(even[i]) | (nibble(odd[i]) << 4));
    }
  }
}

void unpack_row_pairs(std::span<const uint8_t> bytes, MatrixSize size, std::span<int8_t> codes) {
  const auto code = [](unsigned value) {
    return static_cast<int8_t>(static_cast<int>(value ^ 8U) - 8);
  };
  for (int64_t pair = 0; pair < size.rows / 2; ++pair) {
    const uint8_t* from = bytes.data() + pair * size.columns;
    int8_t* even = codes.data() + 2 * pair * size.columns;
    int8_t* odd = even + size.columns;
    for (int64_t i = 0; i < size.columns; ++i) {
      even[i] = code(from[i] & 15U);
      odd[i] = code(from[i] >> 4U);
    }
  }
}

void pack_ggml_nibbles(std::span<const int8_t, 32> codes, std::span<uint8_t, 16> bytes) {
  for (size_t j = 0; j < bytes.size(); ++j) {
    bytes[j] = static_cast<uint8_t>(nibble(codes[j]) | (nibble(codes[j + 16]) << 4));
  }
}

void unpack_ggml_nibbles(std::span<const uint8_t, 16> bytes, std::span<int8_t, 32> codes) {
  for (size_t j = 0; j < bytes.size(); ++j) {
    codes[j] = static_cast<int8_t>(bytes[j] & 15U);
    codes[j + 16] = static_cast<int8_t>(bytes[j] >> 4U);
  }
}

}  // namespace pare
