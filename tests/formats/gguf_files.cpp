#include "tests/formats/gguf_files.h"

#include <cstring>

namespace pare::test {

std::string little_endian(uint64_t value, int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) bytes += static_cast<char>(value >> (8 * i) & 255U);
  return bytes;
}

std::string counted(const std::string& text) { return little_endian(text.size(), 8) + text; }

std::string f32_bytes(const std::vector<float>& values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

void GgufBytes::raw(const std::string& key, uint32_t type, const std::string& bytes) {
  keys_ += counted(key) + little_endian(type, 4) + bytes;
  ++key_count_;
}

void GgufBytes::text(const std::string& key, const std::string& value) {
  raw(key, 8, counted(value));
}
void GgufBytes::number(const std::string& key, uint32_t value) {
  raw(key, 4, little_endian(value, 4));
}
void GgufBytes::real(const std::string& key, float value) { raw(key, 6, f32_bytes({value})); }
void GgufBytes::truth(const std::string& key, bool value) {
  raw(key, 7, std::string(1, value ? '\1' : '\0'));
}
void GgufBytes::texts(const std::string& key, const std::vector<std::string>& values) {
  std::string bytes = little_endian(8, 4) + little_endian(values.size(), 8);
  for (const std::string& value : values) bytes += counted(value);
  raw(key, 9, bytes);
}
void GgufBytes::integers(const std::string& key, const std::vector<int32_t>& values) {
  std::string bytes = little_endian(5, 4) + little_endian(values.size(), 8);
  for (const int32_t value : values) bytes += little_endian(static_cast<uint32_t>(value), 4);
  raw(key, 9, bytes);
}
void GgufBytes::reals(const std::string& key, const std::vector<float>& values) {
  raw(key, 9, little_endian(6, 4) + little_endian(values.size(), 8) + f32_bytes(values));
}

void GgufBytes::tensor(const std::string& name, const std::vector<uint64_t>& dimensions,
                       uint32_t type, const std::string& bytes) {
  tensor_at(name, dimensions, type, data_.size());
  data_ += bytes;
  data_.resize((data_.size() + 31) / 32 * 32, '\0');
}

void GgufBytes::tensor_at(const std::string& name, const std::vector<uint64_t>& dimensions,
                          uint32_t type, uint64_t offset) {
  infos_ += counted(name) + little_endian(dimensions.size(), 4);
  for (const uint64_t dimension : dimensions) infos_ += little_endian(dimension, 8);
  infos_ += little_endian(type, 4) + little_endian(offset, 8);
  ++tensor_count_;
}

std::string GgufBytes::header() const {
  return signature + little_endian(version, 4) + little_endian(tensor_count_ + more_tensors, 8) +
         little_endian(key_count_ + more_keys, 8) + keys_ + infos_;
}

std::string GgufBytes::bytes() const {
  std::string all = header();
  all.resize((all.size() + 31) / 32 * 32, '\0');
  return all + data_;
}

GgufBytes llama_gguf(const std::string& architecture, uint32_t hidden) {
  GgufBytes file;
  file.text("general.architecture", architecture);
  const auto number = [&](const char* key, uint32_t value) {
    file.number(architecture + "." + key, value);
  };
  number("block_count", 1);
  number("context_length", 64);
  number("embedding_length", hidden);
  number("feed_forward_length", 2 * hidden);
  number("attention.head_count", 2);
  number("attention.head_count_kv", 1);
  file.real(architecture + ".attention.layer_norm_rms_epsilon", 1e-5F);
  std::vector<float> rows(size_t{8} * hidden);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i % 17) / 16;
  file.tensor("token_embd.weight", {hidden, 8}, 0, f32_bytes(rows));
  return file;
}

GgufBytes whole_llama_gguf(uint32_t hidden_size) {
  GgufBytes file = llama_gguf("llama", hidden_size);
  const uint64_t hidden = hidden_size;
  const auto matrix = [&](const std::string& name, uint64_t in, uint64_t out) {
    std::vector<float> values(in * out);
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = (static_cast<float>(i * 7919 % 101) - 50) / 1000;
    }
    file.tensor(name, {in, out}, 0, f32_bytes(values));
  };
  const auto norm = [&](const std::string& name) {
    file.tensor(name, {hidden}, 0, f32_bytes(std::vector<float>(hidden, 1)));
  };
  norm("blk.0.attn_norm.weight");
  matrix("blk.0.attn_q.weight", hidden, hidden);
  matrix("blk.0.attn_k.weight", hidden, hidden / 2);
  matrix("blk.0.attn_v.weight", hidden, hidden / 2);
  matrix("blk.0.attn_output.weight", hidden, hidden);
  norm("blk.0.ffn_norm.weight");
  matrix("blk.0.ffn_gate.weight", hidden, 2 * hidden);
  matrix("blk.0.ffn_up.weight", hidden, 2 * hidden);
  matrix("blk.0.ffn_down.weight", 2 * hidden, hidden);
  norm("output_norm.weight");
  return file;
}

}  // namespace pare::test
