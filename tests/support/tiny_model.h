// Models small enough for a test to make, break and compress in a second.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace pare::testing {

/// Shape and bf16 bits of one tensor.
struct Bf16Tensor {
  std::vector<int64_t> shape;
  std::vector<uint16_t> bits;
};

/// A safetensors file: eight bytes of header length, JSON header, data, tensors in name order.
void write_safetensors(const std::string& path, const std::map<std::string, Bf16Tensor>& tensors);

/// Writes a Llama of two layers, hidden size 64, FFN 96, vocabulary 4096, untied, with normal
/// random weights, in two shards; `tokenizer` is copied to tokenizer.json.
void write_tiny_llama(const std::string& folder, const std::string& tokenizer, uint32_t seed);

/// Overwrites the first value of a tensor in a safetensors file.
void poke_tensor(const std::string& path, const std::string& tensor, uint16_t bits);

}  // namespace pare::testing
