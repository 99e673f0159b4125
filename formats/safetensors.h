// Reads one safetensors file: eight bytes of header length, a JSON header, the tensors' bytes.
//
// The file is mapped; views point into the mapping and live as long as the object. Everything in
// the header is checked when the file is opened, and afterwards reading cannot fail. Read-only and
// safe to use from several threads.
//
// The format (huggingface/safetensors, README) demands that the tensors cover the data exactly: no
// holes, no overlaps. Element types read: BF16, F16, F32, F64, I64, I32, I16, I8, U8, BOOL, F8_E4M3
// and F8_E5M2.
//
//   const auto file = SafetensorsFile::open("golden.safetensors");
//   const TensorView logits = file.get("logits");
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/tensor_view.h"
#include "formats/mapped_file.h"

namespace pare {

class SafetensorsFile {
 public:
  /// Throws Error(kInputMissing) when the file cannot be read, Error(kInputMalformed) when it
  /// breaks a rule of the format; the message names the file, the tensor and the numbers.
  static SafetensorsFile open(const std::string& path);

  const std::string& path() const noexcept { return file_.path(); }

  /// Sorted.
  const std::vector<std::string>& names() const noexcept { return names_; }
  bool contains(const std::string& name) const { return tensors_.contains(name); }

  /// Throws Error(kInputMalformed) when there is no such tensor.
  const TensorView& get(const std::string& name) const;

  /// The texts under "__metadata__".
  const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }

  /// Lets the system forget the tensor's pages until they are read again.
  void release(const std::string& name) const { file_.release(get(name).bytes); }

  /// The same of a part of a tensor. REQUIRES: `part` is inside one of this file's.
  void release(std::span<const std::byte> part) const { file_.release(part); }

 private:
  explicit SafetensorsFile(const std::string& path) : file_(path) {}

  MappedFile file_;
  std::vector<std::string> names_;
  std::map<std::string, TensorView> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// "BF16" for kBf16 and so on, as safetensors headers spell it.
std::string_view safetensors_dtype_name(DType dtype) noexcept;

}  // namespace pare
