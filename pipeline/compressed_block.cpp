#include "pipeline/compressed_block.h"

#include <algorithm>
#include <cstring>

#include "model/block_parameters.h"
#include "pare/error.h"

namespace pare {
namespace {

const DenseTensor* find_dense(const CompressedBlock& tensors, const std::string& name) {
  const auto found = std::find_if(tensors.dense.begin(), tensors.dense.end(),
                                  [&](const DenseTensor& tensor) { return tensor.name == name; });
  return found == tensors.dense.end() ? nullptr : &*found;
}

const CompressedWeight* find_compressed(const CompressedBlock& tensors, const std::string& name) {
  const auto found = std::find_if(tensors.compressed.begin(), tensors.compressed.end(),
                                  [&](const auto& entry) { return entry.first == name; });
  return found == tensors.compressed.end() ? nullptr : &found->second;
}

const DenseTensor& require_dense(const CompressedBlock& tensors, const std::string& name) {
  const DenseTensor* tensor = find_dense(tensors, name);
  if (tensor == nullptr) throw Error(ErrorCode::kInternal, "block misses \"" + name + "\"");
  return *tensor;
}

// What was compressed, and where that has nothing, what was there before.
class CompressedLookup : public TensorLookup {
 public:
  CompressedLookup(const CompressedBlock& tensors, const WeightSource& source)
      : tensors_(tensors), source_(source) {}
  bool is_compressed(const std::string& name) const override {
    return find_compressed(tensors_, name) != nullptr;
  }
  TensorView dense(const std::string& name) const override {
    const DenseTensor* tensor = find_dense(tensors_, name);
    return tensor == nullptr ? source_.dense(name) : tensor->view();
  }
  CompressedWeight compressed(const std::string& name) const override {
    return *find_compressed(tensors_, name);
  }
  std::string file_of(const std::string& name) const override { return source_.file_of(name); }

 private:
  const CompressedBlock& tensors_;
  const WeightSource& source_;
};

}  // namespace

DenseTensor copy_dense(const WeightSource& source, const std::string& name) {
  const TensorView view = source.dense(name);
  return {name, view.dtype, view.shape, {view.bytes.begin(), view.bytes.end()}};
}

std::vector<std::byte> encode_values(const std::vector<float>& values, DType dtype) {
  std::vector<std::byte> bytes(values.size() * dtype_size(dtype));
  for (size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::kF32) {
      std::memcpy(bytes.data() + 4 * i, &values[i], 4);
    } else {
      const uint16_t bits = dtype == DType::kF16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]);
      std::memcpy(bytes.data() + 2 * i, &bits, 2);
    }
  }
  return bytes;
}

void write_block(const BlockGraph& block, const CompressedBlock& tensors,
                 CheckpointWriter& writer) {
  for (const std::string& name : block_tensors(block)) {
    if (const CompressedWeight* weight = find_compressed(tensors, name)) {
      writer.write_compressed(name, *weight);
    } else {
      writer.write_dense(name, require_dense(tensors, name).view());
    }
  }
}

BlockWeights make_block_weights(const BlockGraph& block, const CompressedBlock& tensors,
                                const WeightSource& source, Precision precision) {
  return load_block(block, CompressedLookup(tensors, source), precision);
}

CompressedBlock read_block(const BlockGraph& block, const WeightSource& source) {
  CompressedBlock tensors;
  for (const std::string& name : block_tensors(block)) {
    if (source.is_compressed(name)) {
      tensors.compressed.emplace_back(name, source.compressed(name));
    } else {
      tensors.dense.push_back(copy_dense(source, name));
    }
  }
  return tensors;
}

}  // namespace pare
