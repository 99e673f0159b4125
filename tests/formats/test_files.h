// Helpers of the format tests: folders that go away, files as bytes, random weights, children.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "core/compressed_weight.h"
#include "core/tensor_view.h"
#include "formats/checkpoint_writer.h"
#include "pare/error.h"

namespace pare::test {

/// A new folder under the system's temporary folder, removed with all that is in it.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  std::string path() const { return path_.string(); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  /// Names of what is inside, sorted.
  std::vector<std::string> entries() const;

 private:
  std::filesystem::path path_;
};

std::string read_file(const std::string& path);
void write_file(const std::string& path, const std::string& content);

/// Bytes that own themselves, with the view of them.
struct Tensor {
  std::vector<std::byte> bytes;
  DType dtype = DType::kBf16;
  Shape shape;
  TensorView view() const { return {dtype, shape, bytes}; }
};
Tensor random_tensor(std::mt19937& random, DType dtype, const Shape& shape);

/// `values` as F32, F16 or BF16.
Tensor float_tensor(DType dtype, const Shape& shape, const std::vector<float>& values);

/// Values of a normal distribution, rounded to `dtype`.
Tensor normal_tensor(std::mt19937& random, DType dtype, const Shape& shape, float deviation = 1);

/// One byte an element.
Tensor byte_tensor(DType dtype, const Shape& shape, const std::vector<uint8_t>& values);

/// A folder with config.json and model.safetensors.
void write_model(const TempFolder& folder, const std::string& config,
                 const std::map<std::string, Tensor>& tensors);
/// One file of tensors.
void write_tensors(const std::string& path, const std::map<std::string, Tensor>& tensors);

/// A valid weight with random codes (no E4M3 NaN), scales, mask and zero points.
CompressedWeight random_weight(std::mt19937& random, WeightFormat format, int64_t out, int64_t in,
                               int64_t group_size, bool symmetric, bool sparse,
                               ActivationFormat activation, bool pre_quant_scale);

/// A case of each scheme, dense and 2:4, with even, odd and short-group widths.
struct WeightCase {
  std::string name;
  CompressedWeight weight;
};
std::vector<WeightCase> all_schemes(std::mt19937& random);

CheckpointHeader test_header();

/// A valid checkpoint with one INT4 2:4 weight "m.weight" and one dense tensor "norm".
void write_small_checkpoint(const std::string& path);

/// Expects pare::Error with `code` whose message contains each of `parts`.
void expect_error(const std::function<void()>& action, ErrorCode code,
                  const std::vector<std::string>& parts);

/// Runs `body` in a forked child, which exits with what it returns; returns the wait status.
int run_child(const std::function<int()>& body);

}  // namespace pare::test
