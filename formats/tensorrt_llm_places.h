// Where each tensor of the model lies in the files of a TensorRT-LLM checkpoint.
//
//   const std::map<std::string, TrtPlaced> placed = place_tensors(folder);
#pragma once

#include <map>
#include <string>
#include <vector>

#include "formats/tensorrt_llm_source.h"

namespace pare {

/// Rows [begin, begin + count) of a tensor of the model, columns from `column` on, are the rows of
/// a rank's tensor from `row` on.
struct TrtPlace {
  size_t file = 0;
  std::string tensor;  ///< In the file.
  int64_t begin = 0;
  int64_t count = 0;
  int64_t column = 0;
  int64_t row = 0;
  bool copy = false;  ///< An earlier place has the same rows and columns.
};

/// A tensor of the model, or a bias: as a matrix [rows, columns].
struct TrtPlaced {
  DType dtype = DType::kBf16;
  int64_t rows = 0;
  int64_t columns = 1;
  Shape shape;
  bool turned = false;  ///< Shown [columns, rows].
  std::vector<TrtPlace> places;
  TrtScheme scheme;  ///< Of a compressed linear; else kNone.
  const TrtPart* part = nullptr;
  const TrtLinear* linear = nullptr;
  size_t source = 0;  ///< Which of the linear's.
};

/// By the names of the model. Throws Error(kInputMalformed), naming file and tensor.
std::map<std::string, TrtPlaced> place_tensors(const TrtFolder& folder);

/// Names of the tensors beside "<linear>.weight" that an algorithm has, by their endings.
struct TrtSuffixes {
  const char* scale = "";   ///< ".weights_scaling_factor" or ".per_channel_scale"
  const char* input = "";   ///< ".activation_scaling_factor"
  const char* second = "";  ///< ".weights_scaling_factor_2"
  const char* smooth = "";  ///< ".prequant_scaling_factor", or ".smoother", which divides
};

/// `row_layer`: its input is split between ranks.
TrtSuffixes trt_suffixes(TrtAlgo algo, bool row_layer);

}  // namespace pare
