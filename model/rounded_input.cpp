#include "model/rounded_input.h"

#include "kernels/vector_math.h"
#include "model/linear.h"

namespace pare {

std::vector<float> rounded_input(std::span<const float> x, int64_t in_features,
                                 ActivationFormat activation, float input_scale) {
  // A linear of one output prepares its input as all do.
  CompressedWeight reader;
  reader.activation = activation;
  reader.out_features = 1;
  reader.in_features = in_features;
  if (activation == ActivationFormat::kFp8Block) {
    reader.format = WeightFormat::kFp8E4m3;
    reader.group_size = kFp8BlockSize;
    reader.block_rows = kFp8BlockSize;
    reader.scale.assign(static_cast<size_t>(reader.groups()), 1.0F);
  }
  reader.input_scale = has_input_scale(activation) ? input_scale : 0.0F;
  reader.codes.assign(static_cast<size_t>(reader.row_bytes()), 0);
  const int64_t tokens = static_cast<int64_t>(x.size()) / in_features;
  LinearInput input;
  Linear::compressed(reader, {}, Precision::kF32).prepare(x.data(), tokens, input);
  for (int64_t token = 0; token < tokens; ++token) {
    const std::span<float> values(input.f32.data() + token * in_features,
                                  static_cast<size_t>(in_features));
    scale_in_place(values, input.row_scale[static_cast<size_t>(token)]);
    if (has_input_scale(activation)) scale_in_place(values, input_scale);
  }
  return std::move(input.f32);
}

}  // namespace pare
