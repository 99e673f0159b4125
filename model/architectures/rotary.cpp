#include "model/architectures/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace pare {
namespace {

using Json = nlohmann::json;

// The part of the file that speaks of these layers: {} where there is none.
const Json& rotary_section(const ConfigReader& config, const std::string& layer_type) {
  static const Json empty = Json::object();
  const char* key = config.has("rope_parameters") ? "rope_parameters"
                    : config.has("rope_scaling")  ? "rope_scaling"
                                                  : nullptr;
  if (key == nullptr) return empty;
  const Json& section = config.json().at(key);
  if (!section.is_object()) config.fail("rotary parameters are not an object");
  if (layer_type.empty() || !section.contains(layer_type)) return section;
  const Json& part = section.at(layer_type);
  if (!part.is_object()) config.fail("rotary parameters of \"" + layer_type + "\" are no object");
  return part;
}

// Parameters that a float can hold may still give frequencies that it cannot.
void check_frequencies(const ConfigReader& config, const std::vector<float>& frequencies) {
  for (const float frequency : frequencies) {
    if (!std::isfinite(frequency)) {
      config.fail("\"rope_theta\" and \"factor\" give a rotary frequency that is not finite");
    }
  }
}

std::vector<float> plain_frequencies(double theta, int64_t rotated) {
  std::vector<float> frequencies;
  for (int64_t i = 0; i < rotated; i += 2) {
    const double exponent = static_cast<double>(i) / static_cast<double>(rotated);
    frequencies.push_back(static_cast<float>(1 / std::pow(theta, exponent)));
  }
  return frequencies;
}

// Llama 3.1: frequencies whose wavelength exceeds the original context are divided by the factor,
// short ones are kept, and those between are blended.
void scale_llama3(const ConfigReader& scaling, std::vector<float>& inverse_frequency) {
  const double factor = scaling.number("factor", 8);
  const double low = scaling.number("low_freq_factor", 1);
  const double high = scaling.number("high_freq_factor", 4);
  const auto original = static_cast<double>(scaling.positive("original_max_position_embeddings"));
  if (!(factor > 0) || !(high > low)) {
    scaling.fail("llama3 rotary scaling needs factor > 0 and high_freq_factor > low_freq_factor");
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

double yarn_mscale(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

// The context of training: in the section, or beside it (Phi-3).
double original_positions(const ConfigReader& config, const ConfigReader& scaling) {
  const char* key = "original_max_position_embeddings";
  if (scaling.has(key)) return static_cast<double>(scaling.positive(key));
  return static_cast<double>(config.positive(key));
}

double scaling_factor(const ConfigReader& config, const ConfigReader& scaling, double original) {
  const double factor =
      scaling.has("factor")
          ? scaling.number("factor", 1)
          : static_cast<double>(config.positive("max_position_embeddings")) / original;
  if (!(factor > 0)) scaling.fail("rotary scaling needs factor > 0");
  return factor;
}

// YaRN (Peng et al., 2023, arXiv:2309.00071): fast channels keep their frequency, slow ones are
// divided by the factor, with a ramp between.
void scale_yarn(const ConfigReader& config, const ConfigReader& scaling, double theta,
                RotaryShape& rotary) {
  const double original = original_positions(config, scaling);
  const double factor = scaling_factor(config, scaling, original);
  const double mscale = scaling.number("mscale", 0);
  const double mscale_all = scaling.number("mscale_all_dim", 0);
  const double attention = mscale != 0 && mscale_all != 0
                               ? yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all)
                               : yarn_mscale(factor, 1);
  rotary.attention_factor = static_cast<float>(scaling.number("attention_factor", attention));
  const auto channel_of = [&](double rotations) {
    return static_cast<double>(rotary.rotated) *
           std::log(original / (rotations * 2 * std::numbers::pi)) / (2 * std::log(theta));
  };
  double low = channel_of(scaling.number("beta_fast", 32));
  double high = channel_of(scaling.number("beta_slow", 1));
  if (scaling.boolean("truncate", true)) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(rotary.rotated - 1));
  if (low == high) high += 0.001;
  for (size_t i = 0; i < rotary.inverse_frequency.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    const auto plain = static_cast<double>(rotary.inverse_frequency[i]);
    rotary.inverse_frequency[i] = static_cast<float>(plain / factor * ramp + plain * (1 - ramp));
  }
}

std::vector<float> divided(const ConfigReader& scaling, const char* key,
                           const std::vector<float>& frequencies) {
  const Json factors = scaling.json().value(key, Json::array());
  std::vector<float> result;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    if (!factors.is_array() || factors.size() != frequencies.size() || !factors[i].is_number() ||
        !(factors[i].get<double>() > 0)) {
      scaling.fail("\"" + std::string(key) + "\" must be a list of " +
                   std::to_string(frequencies.size()) + " positive numbers");
    }
    result.push_back(
        static_cast<float>(static_cast<double>(frequencies[i]) / factors[i].get<double>()));
  }
  return result;
}

// LongRoPE (Ding et al., 2024, arXiv:2402.13753): one set of factors up to the original context,
// another for longer sequences.
void scale_longrope(const ConfigReader& config, const ConfigReader& scaling, RotaryShape& rotary) {
  const double original = original_positions(config, scaling);
  const double factor = scaling_factor(config, scaling, original);
  const double attention = factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(original));
  rotary.attention_factor = static_cast<float>(scaling.number("attention_factor", attention));
  const std::vector<float> plain = rotary.inverse_frequency;
  rotary.inverse_frequency = divided(scaling, "short_factor", plain);
  rotary.long_inverse_frequency = divided(scaling, "long_factor", plain);
  rotary.short_positions = static_cast<int64_t>(original);
}

// Older files of Qwen and Gemma name a rotary type that is none of theirs.
std::string rotary_type(const ConfigReader& scaling) {
  const std::string type = scaling.text("rope_type", scaling.text("type", "default"));
  return type == "su" ? "longrope" : type;
}

void scale(const ConfigReader& config, const ConfigReader& scaling, double theta,
           RotaryShape& rotary) {
  const std::string type = rotary_type(scaling);
  if (type == "default" || type == "mrope") return;
  if (type == "linear") {
    const double factor = scaling.number("factor", 1);
    if (!(factor > 0)) config.fail("linear rotary scaling needs factor > 0");
    for (float& frequency : rotary.inverse_frequency) frequency /= static_cast<float>(factor);
  } else if (type == "dynamic") {
    // Plain up to the context of training; the base grows with longer sequences.
    rotary.ntk_theta = theta;
    rotary.ntk_factor = scaling.number("factor", 1);
    rotary.short_positions = config.positive("max_position_embeddings", 2048);
  } else if (type == "llama3") {
    scale_llama3(scaling, rotary.inverse_frequency);
  } else if (type == "yarn") {
    scale_yarn(config, scaling, theta, rotary);
  } else if (type == "longrope") {
    scale_longrope(config, scaling, rotary);
  } else {
    config.fail("rotary scaling of type \"" + type +
                "\" is not supported; expected default, linear, dynamic, llama3, yarn or longrope");
  }
}

}  // namespace

RotaryShape read_rotary(const ConfigReader& config, int64_t head_dim,
                        const RotaryDefaults& defaults) {
  const ConfigReader section(rotary_section(config, defaults.layer_type), config.origin());
  const double theta =
      section.number("rope_theta", config.number(defaults.theta_key.c_str(), defaults.theta));
  if (!(theta > 0)) config.fail("\"rope_theta\" must be positive");
  const double partial = section.number(
      "partial_rotary_factor",
      config.number("partial_rotary_factor", config.number("rotary_pct", defaults.partial)));
  const double share = static_cast<double>(head_dim) * partial;
  const bool fits = share >= 0 && share <= static_cast<double>(head_dim);
  const int64_t rotated = fits ? static_cast<int64_t>(share) : 0;
  if (rotated == 0 || rotated % 2 != 0) {
    config.fail("rotary embedding needs an even number of channels of at most " +
                std::to_string(head_dim) + ", found " + std::to_string(share));
  }
  RotaryShape rotary;
  rotary.head_dim = head_dim;
  rotary.rotated = rotated;
  rotary.inverse_frequency = plain_frequencies(theta, rotated);
  check_frequencies(config, rotary.inverse_frequency);
  if (defaults.scaled) scale(config, section, theta, rotary);
  check_frequencies(config, rotary.inverse_frequency);
  check_frequencies(config, rotary.long_inverse_frequency);
  check_frequencies(config, {rotary.attention_factor});
  return rotary;
}

float attention_scale_factor(const ConfigReader& config) {
  const ConfigReader section(rotary_section(config, ""), config.origin());
  if (rotary_type(section) == "default") return 1;
  const double mscale_all = section.number("mscale_all_dim", 0);
  if (mscale_all == 0) return 1;
  const double mscale = yarn_mscale(section.number("factor", 1), mscale_all);
  return static_cast<float>(mscale * mscale);
}

}  // namespace pare
