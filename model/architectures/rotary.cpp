#include "model/architectures/rotary.h"

#include <cmath>
#include <numbers>

namespace pare {
namespace {

// Parameters that a float can hold may still give frequencies that it cannot.
void check_frequencies(const ConfigReader& config, const RotaryShape& rotary) {
  for (const float frequency : rotary.inverse_frequency) {
    if (!std::isfinite(frequency)) {
      config.fail("\"rope_theta\" and \"factor\" give a rotary frequency that is not finite");
    }
  }
}

// Llama 3.1: frequencies whose wavelength exceeds the original context are divided by the factor,
// short ones are kept, and those between are blended.
void scale_llama3(const ConfigReader& scaling, std::vector<float>& inverse_frequency) {
  const double factor = scaling.number("factor", 8);
  const double low = scaling.number("low_freq_factor", 1);
  const double high = scaling.number("high_freq_factor", 4);
  const auto original = static_cast<double>(scaling.positive("original_max_position_embeddings"));
  if (!(factor > 0) || !(high > low) || !(low > 0)) {
    scaling.fail(
        "llama3 rotary scaling needs factor > 0 and high_freq_factor > low_freq_factor > 0");
  }
  for (float& frequency : inverse_frequency) {
    const double wavelength = 2 * std::numbers::pi / static_cast<double>(frequency);
    if (wavelength < original / high) continue;
    const double scaled = static_cast<double>(frequency) / factor;
    if (wavelength > original / low) {
      frequency = static_cast<float>(scaled);
      continue;
    }
    const double blend = (original / wavelength - low) / (high - low);
    frequency = static_cast<float>((1 - blend) * scaled + blend * static_cast<double>(frequency));
  }
}

}  // namespace

RotaryShape read_rotary(const ConfigReader& config, int64_t head_dim, int64_t rotated) {
  if (rotated <= 0 || rotated % 2 != 0 || rotated > head_dim) {
    config.fail("rotary embedding needs an even number of channels of at most " +
                std::to_string(head_dim) + ", found " + std::to_string(rotated));
  }
  const nlohmann::json empty = nlohmann::json::object();
  const bool newer = config.has("rope_parameters");
  const bool older = config.has("rope_scaling");
  const nlohmann::json& section = newer   ? config.json().at("rope_parameters")
                                  : older ? config.json().at("rope_scaling")
                                          : empty;
  if (!section.is_object()) config.fail("rotary parameters are not an object");
  const ConfigReader scaling(section, config.origin());
  const double theta = scaling.number("rope_theta", config.number("rope_theta", 10000));
  if (!(theta > 0)) config.fail("\"rope_theta\" must be positive");
  const std::string type = scaling.text("rope_type", scaling.text("type", "default"));

  RotaryShape rotary;
  rotary.head_dim = head_dim;
  rotary.rotated = rotated;
  for (int64_t i = 0; i < rotated; i += 2) {
    const double exponent = static_cast<double>(i) / static_cast<double>(rotated);
    rotary.inverse_frequency.push_back(static_cast<float>(1 / std::pow(theta, exponent)));
  }
  check_frequencies(config, rotary);
  if (type == "default") return rotary;
  if (type == "linear") {
    const double factor = scaling.number("factor", 1);
    if (!(factor > 0)) config.fail("linear rotary scaling needs factor > 0");
    for (float& frequency : rotary.inverse_frequency) frequency /= static_cast<float>(factor);
    check_frequencies(config, rotary);
    return rotary;
  }
  if (type == "llama3") {
    scale_llama3(scaling, rotary.inverse_frequency);
    check_frequencies(config, rotary);
    return rotary;
  }
  config.fail("rotary scaling of type \"" + type +
              "\" is not supported; expected default, linear or llama3");
}

}  // namespace pare
