// The tensors of a TensorRT-LLM checkpoint, made rank by rank when they are written.
//
//   TrtLinearPlan plan = plan_trt_linear(*source, family, linear);
//   pieces.push_back(trt_linear_piece(source, plan, /*tp_rank=*/1));
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engines/tensorrt_llm_split.h"
#include "formats/safetensors_pieces.h"
#include "formats/weight_source.h"

namespace pare {

/// What is known of a linear before its bytes are made.
struct TrtLinearPlan {
  const TrtFamily* family = nullptr;
  TrtLinear linear;
  TrtScheme scheme;           ///< kNone: dense.
  std::vector<float> shared;  ///< kFp8: the scale that the tensor has, or each expert.
  float input_scale = 0;      ///< The largest of the sources'.
  float second_scale = 0;     ///< kInt4Fp8: "weights_scaling_factor_2"
  bool bias = false;
  bool smooths = false;  ///< Some source multiplies its input.
  std::vector<std::string> warnings;

  bool is_dense() const {
    return scheme.algo == TrtAlgo::kNone || scheme.algo == TrtAlgo::kInt8WeightOnly;
  }
  /// Of the expert, or the linear, that a source belongs to.
  float shared_scale(size_t source) const {
    return shared[linear.experts > 0 ? source % static_cast<size_t>(linear.experts) : 0];
  }
};

/// Reads the sources once, one after the other, and keeps none. Throws Error(kInputMalformed),
/// naming them, where what they have cannot be in one tensor, and as check_trt_linear().
TrtLinearPlan plan_trt_linear(const WeightSource& source, const TrtFamily& family,
                              const TrtLinear& linear);

/// A source as the checkpoint has it: requantized under the scale that its tensor shares, what
/// multiplies its input rounded to BF16.
CompressedWeight as_exported(const TrtLinearPlan& plan, size_t source, CompressedWeight weight);

/// Weight, bias and scales of a linear on a rank.
TensorPiece trt_linear_piece(std::shared_ptr<const WeightSource> source,
                             std::shared_ptr<const TrtLinearPlan> plan, int64_t tp_rank);

/// A norm, a table. `name`: of the source, where it is another than the tensor's.
TensorPiece trt_tensor_piece(std::shared_ptr<const WeightSource> source, const TrtTensor& tensor,
                             const std::string& name, int64_t tp_rank, int64_t tp_size);

/// One number a tensor, F32 [1].
TensorPiece trt_number_piece(std::vector<std::pair<std::string, float>> numbers);

}  // namespace pare
