// Codes of weights in the layouts that engines read, and back.
//
// Every function takes or gives one code a byte, row-major [out, in], and works on whole matrices.
// Little-endian words; element 0 in the lowest bits. Packing and unpacking are inverses of each
// other. Pure functions, safe to call from several threads; they never allocate.
//
// Sources: the files that compressed-tensors, AutoAWQ, GPTQModel and NVIDIA's Model Optimizer
// write, and llama.cpp's ggml-common.h for the blocks.
#pragma once

#include <cstdint>
#include <span>

namespace pare {

struct MatrixSize {
  int64_t rows = 0;  ///< out_features
  int64_t columns = 0;

  int64_t count() const noexcept { return rows * columns; }
};

// -- compressed-tensors: "pack-quantized" ---------------------------------------------------------

/// Words of one row: a stream of bits without gaps, filled up with zeros.
constexpr int64_t bit_stream_words(int64_t columns, int bits) noexcept {
  return (columns * bits + 31) / 32;
}

/// Signed codes −2^(bits−1) … 2^(bits−1) − 1 as code + 2^(bits−1), for 1 ≤ bits ≤ 8. `words` has
/// [rows, bit_stream_words(columns, bits)].
void pack_bit_stream(std::span<const int8_t> codes, MatrixSize size, int bits,
                     std::span<uint32_t> words);
void unpack_bit_stream(std::span<const uint32_t> words, MatrixSize size, int bits,
                       std::span<int8_t> codes);

// -- AutoAWQ: "gemm" ------------------------------------------------------------------------------

/// Codes 0 … 15, [out, in], as words [in, out / 8]: the nibbles of a word hold output channels
/// 0, 2, 4, 6, 1, 3, 5, 7 of eight. REQUIRES: rows % 8 == 0. Zero points are packed as a matrix
/// [out, groups].
void pack_awq(std::span<const uint8_t> codes, MatrixSize size, std::span<uint32_t> words);
void unpack_awq(std::span<const uint32_t> words, MatrixSize size, std::span<uint8_t> codes);

// -- GPTQ -----------------------------------------------------------------------------------------

/// Codes 0 … 2^bits − 1, [out, in], as words [in · bits / 32, out]: the codes of an output channel
/// are a stream of bits that runs down a column. REQUIRES: columns · bits % 32 == 0, 1 ≤ bits ≤ 8.
void pack_gptq(std::span<const uint8_t> codes, MatrixSize size, int bits,
               std::span<uint32_t> words);
void unpack_gptq(std::span<const uint32_t> words, MatrixSize size, int bits,
                 std::span<uint8_t> codes);

/// Zero points 0 … 2^bits − 1, [out, groups], as words [groups, out · bits / 32], each row a
/// stream: each less `offset` modulo 2^bits, which is 1 in files of version 1 and 0 in version 2.
/// REQUIRES: rows · bits % 32 == 0.
void pack_gptq_zeros(std::span<const uint8_t> zeros, MatrixSize size, int bits, int offset,
                     std::span<uint32_t> words);
void unpack_gptq_zeros(std::span<const uint32_t> words, MatrixSize size, int bits, int offset,
                       std::span<uint8_t> zeros);

// -- Model Optimizer, TensorRT-LLM ----------------------------------------------------------------

/// Codes −8 … 7, [out, in], as bytes [out / 2, in]: rows 2j in the low nibbles, 2j + 1 in the high
/// ones, two's complement. REQUIRES: rows % 2 == 0.
void pack_row_pairs(std::span<const int8_t> codes, MatrixSize size, std::span<uint8_t> bytes);
void unpack_row_pairs(std::span<const uint8_t> bytes, MatrixSize size, std::span<int8_t> codes);

// -- GGUF -----------------------------------------------------------------------------------------

/// The nibbles of a block of 32 codes 0 … 15 of Q4_0 and Q4_1: byte j holds code j in its low
/// nibble and j + 16 in its high one.
void pack_ggml_nibbles(std::span<const int8_t, 32> codes, std::span<uint8_t, 16> bytes);
void unpack_ggml_nibbles(std::span<const uint8_t, 16> bytes, std::span<int8_t, 32> codes);

}  // namespace pare
