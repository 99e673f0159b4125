#include "tools/evaluation_figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace pare::tools {
namespace {

int exponent_of(double value) { return static_cast<int>(std::floor(std::log10(value))); }

// "(1.350 ± 0.021)e-05": both in units of the same power of ten.
std::string with_common_exponent(double value, double error) {
  constexpr int kMostDigits = 4;
  const int exponent = exponent_of(std::max(std::abs(value), error));
  const int decimals = std::clamp(exponent - exponent_of(error) + 1, 1, kMostDigits);
  // Two steps, as 10^-exponent can be infinite.
  const double half = std::pow(10.0, -exponent / 2);
  const double rest = std::pow(10.0, -exponent - (-exponent / 2));
  return fmt::format("({:.{}f} ± {:.{}f})e{:+03}", value * half * rest, decimals,
                     error * half * rest, decimals, exponent);
}

}  // namespace

std::string fixed(double value, int decimals) {
  constexpr double kLargest = 1e6;
  if (!std::isfinite(value)) return "-";
  if (std::abs(value) >= kLargest) return fmt::format("{:.2e}", value);
  const std::string text = fmt::format("{:.{}f}", value, decimals);
  const bool is_zero = text.find_first_not_of("-0.") == std::string::npos;
  return is_zero && text.front() == '-' ? text.substr(1) : text;
}

std::string number(double value) {
  if (!std::isfinite(value)) return "-";
  return fmt::format("{:.4g}", value == 0 ? 0.0 : value);  // not −0
}

std::string with_error(const Measured& figure, double scale) {
  constexpr int kMostDecimals = 6;
  constexpr double kLargest = 1e6;
  const double value = scale * figure.value;
  const double error = scale * figure.standard_error;
  if (!std::isfinite(value) || !std::isfinite(error) || error <= 0) return number(value);
  const int decimals = 1 - exponent_of(error);
  if (decimals > kMostDecimals || std::abs(value) >= kLargest || error >= kLargest) {
    return with_common_exponent(value, error);
  }
  return fixed(value, std::max(decimals, 0)) + " ± " + fixed(error, std::max(decimals, 0));
}

std::string percent(double share) { return fixed(100 * share, 2); }

std::string percent_sign(double share) {
  const std::string text = percent(share);
  return text == "-" ? text : text + " %";
}

std::string percent_range(const std::optional<Interval>& interval) {
  return interval ? percent(interval->lower) + " … " + percent(interval->upper) : "-";
}

std::string p_value(double p) {
  constexpr double kSmallest = 1e-300;
  return p >= 0 && p < kSmallest ? "<1e-300" : number(p);
}

}  // namespace pare::tools
