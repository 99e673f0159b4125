// Quantiles of the normal and of Student's t distribution, and McNemar's exact test.
//
// Pure functions: no state, safe from any thread (std::lgamma is not: it writes a global). They
// return infinities where the mathematics does and never NaN for the arguments stated.
//
//   normal_quantile(0.975);          // 1.959964
//   student_t_quantile(0.975, 56);   // 2.003241
//   mcnemar_exact_p(1, 7);           // 0.0703125
#pragma once

#include <cstddef>

namespace pare {

/// ln Γ(x) for x > 0, by Stirling's series (DLMF 5.11.1) after a shift to x ≥ 12; about 1e-14
/// relative.
double log_gamma(double x);

/// The z with P(Z ≤ z) = p; −∞ at p ≤ 0 and ∞ at p ≥ 1.
double normal_quantile(double p);

/// The regularized incomplete beta function I_x(a, b) for 0 ≤ x ≤ 1 and a, b > 0. P(B ≥ k) of a
/// binomial B(n, p) is I_p(k, n − k + 1), and k and n need not be whole.
double incomplete_beta(double x, double a, double b);

/// P(T > t) for t ≥ 0 and `degrees` > 0 degrees of freedom (not necessarily whole).
double student_t_upper_tail(double t, double degrees);

/// The t with P(T ≤ t) = p for `degrees` > 0; −∞ at p ≤ 0 and ∞ at p ≥ 1.
double student_t_quantile(double p, double degrees);

/// Two-sided p of McNemar's exact test for `lost` and `gained` discordant pairs:
/// 2 P(Binomial(lost + gained, ½) ≤ min), at most 1. It is 1 without discordant pairs, and 0 where
/// p is below the smallest double. The test takes pairs as independent: it knows no clusters.
double mcnemar_exact_p(size_t lost, size_t gained);

}  // namespace pare
