// Tensor types of ggml, in which GGUF files store weights: sizes, names, decoding, and the blocks
// that pare writes.
//
// A row is cut into blocks of a fixed number of consecutive elements, each with its own scales; a
// block never reaches over the end of a row. Little-endian. Decoding is the plain reference, in
// FP32 and in the order of operations of ggml, so that both have the same bits. Pure functions,
// safe to call from several threads; they never allocate.
//
// Source: ggml-common.h and ggml-quants.c of llama.cpp (the layouts), gguf-py/gguf/constants.py
// (numbers and names).
//
//   const GgmlType* type = find_ggml_type(8);          // Q8_0
//   decode_ggml(*type, bytes, values);
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace pare {

/// Numbers of types that pare writes, or treats in another way than the rest.
inline constexpr uint32_t kGgmlF32 = 0;
inline constexpr uint32_t kGgmlF16 = 1;
inline constexpr uint32_t kGgmlQ40 = 2;
inline constexpr uint32_t kGgmlQ41 = 3;
inline constexpr uint32_t kGgmlQ80 = 8;
inline constexpr uint32_t kGgmlBf16 = 30;
inline constexpr uint32_t kGgmlMxfp4 = 39;

/// Elements of a block of the four block types above.
inline constexpr int64_t kGgmlBlock = 32;

struct GgmlType {
  uint32_t id = 0;
  const char* name = "";
  int64_t block = 1;  ///< Elements of a block.
  int64_t bytes = 0;  ///< Bytes of a block.
  /// Decodes whole blocks; null for types that are known by name and size only.
  void (*decode)(const std::byte* blocks, int64_t count, float* values) = nullptr;
};

/// The type of that number, or null.
const GgmlType* find_ggml_type(uint32_t id) noexcept;

/// Values of whole blocks. REQUIRES: type.decode, and blocks.size() / type.bytes blocks on both
/// sides.
void decode_ggml(const GgmlType& type, std::span<const std::byte> blocks, std::span<float> values);

/// Q4_0: F16 scale, 16 bytes; value = scale × (code − 8), codes 0 … 15.
inline constexpr size_t kQ40Bytes = 18;
void pack_q4_0(std::span<const int8_t, 32> codes, uint16_t scale,
               std::span<std::byte, kQ40Bytes> block);
void unpack_q4_0(std::span<const std::byte, kQ40Bytes> block, std::span<int8_t, 32> codes,
                 uint16_t& scale);

/// Q4_1: F16 scale, F16 minimum, 16 bytes; value = scale × code + minimum, codes 0 … 15.
inline constexpr size_t kQ41Bytes = 20;
void pack_q4_1(std::span<const int8_t, 32> codes, uint16_t scale, uint16_t minimum,
               std::span<std::byte, kQ41Bytes> block);

/// Q8_0: F16 scale, 32 codes in two's complement; value = scale × code.
inline constexpr size_t kQ80Bytes = 34;
void pack_q8_0(std::span<const int8_t, 32> codes, uint16_t scale,
               std::span<std::byte, kQ80Bytes> block);
void unpack_q8_0(std::span<const std::byte, kQ80Bytes> block, std::span<int8_t, 32> codes,
                 uint16_t& scale);

/// MXFP4: a byte of E8M0, 16 bytes of E2M1 codes in the order of Q4_0.
inline constexpr size_t kMxfp4Bytes = 17;
void pack_mxfp4(std::span<const int8_t, 32> codes, uint8_t scale,
                std::span<std::byte, kMxfp4Bytes> block);
void unpack_mxfp4(std::span<const std::byte, kMxfp4Bytes> block, std::span<int8_t, 32> codes,
                  uint8_t& scale);

}  // namespace pare
