// The tensors that TensorRT-LLM asks for on a rank: names, types and shapes.
#pragma once

#include <string>
#include <vector>

#include "formats/tensorrt_llm_config.h"

namespace pare {

struct TrtExpected {
  std::string name;
  std::vector<DType> dtypes;  ///< Those that do; the first is what the form says.
  std::vector<Shape> shapes;
  bool optional = false;
  bool is_scale = false;      ///< Floating-point, has to be positive and finite.
  bool is_quantized = false;  ///< Codes of a linear.
};

/// Of rank tp_rank + pp_rank × tp_size.
std::vector<TrtExpected> expected_tensors(const TrtConfig& config, const TrtLayout& layout,
                                          int64_t rank);

}  // namespace pare
