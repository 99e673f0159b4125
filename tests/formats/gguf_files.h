// GGUF files byte by byte, so that a test can damage any of them.
//
//   GgufBytes file = llama_gguf();
//   file.tensor("blk.0.ffn_up.weight", {256, 4}, 12, blocks);
//   write_file(path, file.bytes());
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pare::test {

class GgufBytes {
 public:
  void text(const std::string& key, const std::string& value);
  void number(const std::string& key, uint32_t value);
  void real(const std::string& key, float value);
  void truth(const std::string& key, bool value);
  void texts(const std::string& key, const std::vector<std::string>& values);
  void integers(const std::string& key, const std::vector<int32_t>& values);
  void reals(const std::string& key, const std::vector<float>& values);
  /// Any value: its type and bytes.
  void raw(const std::string& key, uint32_t type, const std::string& bytes);

  /// Dimensions with the fastest first, as in the file.
  void tensor(const std::string& name, const std::vector<uint64_t>& dimensions, uint32_t type,
              const std::string& bytes);
  /// The same with an offset of its own.
  void tensor_at(const std::string& name, const std::vector<uint64_t>& dimensions, uint32_t type,
                 uint64_t offset);

  std::string bytes() const;
  /// Without the data of tensors.
  std::string header() const;

  uint32_t version = 3;
  std::string signature = "GGUF";
  uint64_t more_tensors = 0;  ///< Added to the number that is said.
  uint64_t more_keys = 0;

 private:
  std::string keys_;
  std::string infos_;
  std::string data_;
  uint64_t key_count_ = 0;
  uint64_t tensor_count_ = 0;
};

/// `count` little-endian bytes of a number.
std::string little_endian(uint64_t value, int count);
/// A length in eight bytes, and the text.
std::string counted(const std::string& text);
/// Values as F32.
std::string f32_bytes(const std::vector<float>& values);

/// The keys of a Llama: 2 heads over 1 key head, an FFN of twice the hidden size, one layer, 8
/// tokens, and its embedding in F32. No tokenizer.
GgufBytes llama_gguf(const std::string& architecture = "llama", uint32_t hidden = 256);

/// The same with all tensors of its layer and its norm, in F32.
GgufBytes whole_llama_gguf(uint32_t hidden = 256);

}  // namespace pare::test
