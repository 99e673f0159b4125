// Checkpoints of inference engines, whose quantized linears are shown as compressed weights.
//
// A derived class says in its constructor which linears there are and of which tensors each is
// made, and reads one when it is asked for; those tensors are then hidden. As thread-safe as the
// base.
//
//   class AwqSource final : public EngineSource {
//     CompressedWeight read(const std::string& module) const override;
//   };
#pragma once

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "formats/forwarding_source.h"

namespace pare {

/// The elements of a tensor whose type has the size of Value.
template <typename Value>
std::vector<Value> values_of(const TensorView& view) {
  std::vector<Value> values(view.bytes.size() / sizeof(Value));
  if (!values.empty()) std::memcpy(values.data(), view.bytes.data(), view.bytes.size());
  return values;
}

class EngineSource : public ForwardingSource {
 public:
  bool contains(const std::string& name) const override;
  bool is_compressed(const std::string& name) const override;
  TensorView dense(const std::string& name) const override;
  TensorView dense_part(const std::string& name, int64_t first, int64_t count) const override;
  void read(const std::string& name, int64_t first, std::span<std::byte> out) const override;
  DType dtype(const std::string& name) const override;
  CompressedWeight compressed(const std::string& name) const override;
  Shape shape(const std::string& name) const override;
  std::string file_of(const std::string& name) const override;
  using ForwardingSource::stored_bytes;
  int64_t stored_bytes(const std::string& name) const override;
  void release(const std::vector<std::string>& names) const override;
  void release_part(const std::string& name, int64_t first, int64_t count) const override;

 protected:
  using ForwardingSource::ForwardingSource;

  /// A linear "module.weight" [out, in] that is made of these tensors of the base; the first holds
  /// its codes.
  void add_linear(const std::string& module, Shape shape, std::vector<std::string> parts);

  /// A tensor that the base has under no name, or differently: bytes of element type kU8 or kF32.
  void add_tensor(const std::string& name, DType dtype, Shape shape, std::vector<std::byte> bytes);

  /// The cache of keys and values of an attention, in `format` as checkpoints name it. Scales come
  /// from these tensors of the base; 1 where a name is empty.
  void add_cache(const std::string& attention, const std::string& key_scale,
                 const std::string& value_scale, std::string_view format);

  /// Tensors of the base that nobody needs.
  void hide(const std::string& name);

  /// Throws Error(kInputMalformed) when no linear was added, though the configuration says that
  /// there are some; `mark` is what their tensors end with.
  void expect_linears(std::string_view mark) const;

  /// REQUIRES: called once, when all have been added.
  void show_names();

  /// The linear of a module that was added. What it returns is validated by the caller.
  virtual CompressedWeight read_linear(const std::string& module) const = 0;

  [[noreturn]] void malformed(const std::string& name, const std::string& what) const;

  /// A tensor of the base with this element type and shape. Throws Error(kInputMalformed).
  TensorView part(const std::string& name, DType dtype, const Shape& shape) const;

  /// A tensor of the base with two dimensions: its shape.
  Shape matrix_shape(const std::string& name) const;

  /// Floating-point scales of the base as FP32, whatever their type; `count` of them.
  std::vector<float> scales(const std::string& name, int64_t count) const;

 private:
  struct Linear {
    Shape shape;
    std::vector<std::string> parts;
  };
  struct Added {
    DType dtype;
    Shape shape;
    std::vector<std::byte> bytes;
  };

  const Linear* linear(const std::string& name) const;
  void add_cache_scale(const std::string& name, const std::string& stored);
  void refuse_compressed(const std::string& name) const;

  std::map<std::string, Linear> linears_;  ///< By "module.weight".
  std::map<std::string, Added> added_;
  std::map<std::string, std::string> hidden_;  ///< Tensor of the base → linear that it is part of.
};

}  // namespace pare
