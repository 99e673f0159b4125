// Σ d H dᵀ over a block of rows: what output_error() does on one thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace pare {

/// Fills errors[r] = d_r H d_rᵀ for the rows of delta [rows, columns] (row stride `columns`).
/// `gram` points to a [columns, columns] block of a matrix with row stride `gram_stride`, or to
/// its diagonal [columns] when gram_stride is 0. `product` is scratch, on return delta · H.
void row_errors(std::span<const float> delta, int64_t rows, int64_t columns, const float* gram,
                int64_t gram_stride, std::vector<float>& product, std::span<double> errors);

/// Row stride of a Gram matrix given in full [in, in], or 0 when it is a diagonal [in]. Throws
/// Error(kInternal) for another size.
int64_t gram_stride(std::span<const float> gram, int64_t in_features);

/// Σ a × b in double, in four fixed lanes.
double dot(const float* a, const float* b, int64_t count);

}  // namespace pare
