// A WeightSource some of whose tensors are computed when they are asked for.
//
// The derived class says which tensors it decodes and how a run of their elements is computed;
// views, parts, reading in pieces and freeing follow from that. Thread-safe when decode() is.
//
//   class Fp8Source final : public DecodingSource {
//     bool decodes(const std::string& name) const override;
//     void decode(const std::string& name, int64_t first, std::span<std::byte> out) const override;
//   };
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "formats/decoded_parts.h"
#include "formats/forwarding_source.h"

namespace pare {

class DecodingSource : public ForwardingSource {
 public:
  TensorView dense(const std::string& name) const final;
  TensorView dense_part(const std::string& name, int64_t first, int64_t count) const final;
  void read(const std::string& name, int64_t first, std::span<std::byte> out) const final;
  void release(const std::vector<std::string>& names) const final;
  void release_part(const std::string& name, int64_t first, int64_t count) const final;

  /// Bytes of decoded copies that are kept at the moment.
  int64_t decoded_bytes() const { return parts_.held_bytes(); }

 protected:
  using ForwardingSource::ForwardingSource;

  /// Whether the tensor is decoded; all others are the base's. dtype() and shape() have to know the
  /// decoded tensors.
  virtual bool decodes(const std::string& name) const = 0;

  /// Computes the elements of a decoded tensor that begin at `first` and fill `out`. The range has
  /// been checked. The same bytes however a tensor is cut.
  virtual void decode(const std::string& name, int64_t first, std::span<std::byte> out) const = 0;

 private:
  mutable DecodedParts parts_;
};

}  // namespace pare
