#include "pipeline/input_noise.h"

#include "model/rounded_input.h"
#include "pipeline/layer_quality.h"

namespace pare {

std::vector<double> input_noise(const SharingSet& set, ActivationFormat activation,
                                float input_scale) {
  const std::vector<float> x = sampled_input(set, /*scaled=*/true);
  const size_t columns = set.statistics.amax.size();
  const std::vector<float> rounded =
      rounded_input(x, static_cast<int64_t>(columns), activation, input_scale);
  std::vector<double> noise(columns, 0.0);
  for (size_t i = 0; i < x.size(); ++i) {
    const double error = static_cast<double>(rounded[i]) - static_cast<double>(x[i]);
    noise[i % columns] += error * error;
  }
  for (double& value : noise) value *= static_cast<double>(columns) / static_cast<double>(x.size());
  return noise;
}

}  // namespace pare
