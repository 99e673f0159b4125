// Figures of an evaluation as text, each as short as its error allows.
//
// Pure functions; safe from any thread. What is not finite is "-"; nothing is wider than 24
// columns, whatever a file says.
//
//   with_error({0.99199, 0.00258, {}})   // "0.9920 ± 0.0026"
//   percent_sign(0.0042)                    // "0.42 %"
#pragma once

#include <optional>
#include <string>

#include "pare/measured.h"

namespace pare::tools {

/// So many decimals, or an exponent where that would be long; never "-0.00".
std::string fixed(double value, int decimals);

/// Four significant digits.
std::string number(double value);

/// `scale` · value ± `scale` · standard error, with two digits of the error; number() where there
/// is none.
std::string with_error(const Measured& figure, double scale = 1);

/// 0.7908 as "79.08".
std::string percent(double share);

/// 0.0042 as "0.42 %".
std::string percent_sign(double share);

/// Both ends in percent: "0.10 … 0.74"; "-" without an interval.
std::string percent_range(const std::optional<Interval>& interval);

/// Three digits; what is too small for a double is not 0.
std::string p_value(double p);

}  // namespace pare::tools
