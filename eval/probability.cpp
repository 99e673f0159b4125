#include "eval/probability.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace pare {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
/// Beyond this t and z agree to better than 1e-8, and ln Γ(ν/2 + ½) − ln Γ(ν/2) loses digits.
constexpr double kManyDegrees = 1e8;

double normal_upper_tail(double z) { return 0.5 * std::erfc(z / std::numbers::sqrt2); }

/// The continued fraction of the incomplete beta function (DLMF 8.17.22) by Lentz's method. It
/// converges fast for x < (a + 1) / (a + b + 2).
double beta_fraction(double x, double a, double b) {
  constexpr double kTiny = 1e-300;
  const auto away_from_zero = [](double v) { return std::abs(v) < kTiny ? kTiny : v; };
  double c = 1;
  double d = 1 / away_from_zero(1 - (a + b) * x / (a + 1));
  double result = d;
  for (int m = 1; m < 10000; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / away_from_zero(1 + even * d);
    c = away_from_zero(1 + even / c);
    result *= d * c;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / away_from_zero(1 + odd * d);
    c = away_from_zero(1 + odd / c);
    const double factor = d * c;
    result *= factor;
    if (std::abs(factor - 1) < 1e-15) break;
  }
  return result;
}

/// I_x(a, b), given also y = 1 − x so that neither end loses digits.
double incomplete_beta_of(double x, double y, double a, double b) {
  if (x <= 0) return 0;
  if (y <= 0) return 1;
  const double front =
      std::exp(log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * std::log(x) + b * std::log(y));
  if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(x, a, b) / a;
  return 1 - front * beta_fraction(y, b, a) / b;
}

}  // namespace

double log_gamma(double x) {
  double shift = 0;
  for (; x < 12; x += 1) shift += std::log(x);
  const double r = 1 / x;
  const double s = r * r;
  const double series =
      r * (1.0 / 12 - s * (1.0 / 360 - s * (1.0 / 1260 - s * (1.0 / 1680 - s / 1188))));
  return (x - 0.5) * std::log(x) - x + 0.5 * std::log(2 * std::numbers::pi) + series - shift;
}

double incomplete_beta(double x, double a, double b) { return incomplete_beta_of(x, 1 - x, a, b); }

double normal_quantile(double p) {
  if (p <= 0) return -kInfinity;
  if (p >= 1) return kInfinity;
  if (p == 0.5) return 0;
  const double tail = std::min(p, 1 - p);
  // Abramowitz & Stegun 26.2.22 gives two digits; each Newton step on ln(tail) doubles them.
  const double w = std::sqrt(-2 * std::log(tail));
  double z = w - (2.30753 + 0.27061 * w) / (1 + w * (0.99229 + 0.04481 * w));
  for (int step = 0; step < 8; ++step) {
    const double found = normal_upper_tail(z);
    const double density = std::exp(-0.5 * z * z) / std::sqrt(2 * std::numbers::pi);
    z += std::log(found / tail) * found / density;
  }
  return p < 0.5 ? -z : z;
}

double student_t_upper_tail(double t, double degrees) {
  if (degrees > kManyDegrees) return normal_upper_tail(t);
  const double square = t * t;
  if (std::isinf(square)) return 0;
  const double sum = degrees + square;
  return 0.5 * incomplete_beta_of(degrees / sum, square / sum, degrees / 2, 0.5);
}

double student_t_quantile(double p, double degrees) {
  if (p <= 0) return -kInfinity;
  if (p >= 1) return kInfinity;
  if (degrees > kManyDegrees) return normal_quantile(p);
  const double tail = std::min(p, 1 - p);
  if (tail == 0.5) return 0;
  double low = 0;
  double high = 1;
  while (student_t_upper_tail(high, degrees) > tail && high < 1e150) {
    low = high;
    high *= 2;
  }
  // Bisection: the tail falls everywhere, and a hundred evaluations are microseconds.
  for (int step = 0; step < 100; ++step) {
    const double middle = 0.5 * (low + high);
    (student_t_upper_tail(middle, degrees) > tail ? low : high) = middle;
  }
  const double t = 0.5 * (low + high);
  return p < 0.5 ? -t : t;
}

double mcnemar_exact_p(size_t lost, size_t gained) {
  if (lost == gained) return 1;
  const auto n = static_cast<double>(lost) + static_cast<double>(gained);
  const auto k = static_cast<double>(std::min(lost, gained));
  // Terms are summed relative to the largest, C(n, k), so that nothing overflows.
  double sum = 0;
  double term = 1;
  for (double i = k; i >= 0 && term > 1e-18 * sum; --i) {
    sum += term;
    term *= i / (n - i + 1);
  }
  const double largest =
      log_gamma(n + 1) - log_gamma(k + 1) - log_gamma(n - k + 1) - n * std::numbers::ln2;
  return std::min(1.0, 2 * std::exp(largest) * sum);
}

}  // namespace pare
