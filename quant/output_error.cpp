#include "quant/output_error.h"

#include <algorithm>
#include <string>

#include "pare/error.h"
#include "quant/blas.h"
#include "quant/row_blocks.h"
#include "quant/row_error.h"

namespace pare {

double dot(const float* a, const float* b, int64_t count) {
  double lanes[4] = {0, 0, 0, 0};
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    for (int64_t lane = 0; lane < 4; ++lane) {
      lanes[lane] += static_cast<double>(a[i + lane]) * static_cast<double>(b[i + lane]);
    }
  }
  for (; i < count; ++i) lanes[0] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
}

int64_t gram_stride(std::span<const float> gram, int64_t in_features) {
  const auto columns = static_cast<size_t>(in_features);
  if (gram.size() == columns * columns) return in_features;
  if (gram.size() == columns) return 0;
  throw Error(ErrorCode::kInternal, "Gram matrix: " + std::to_string(gram.size()) +
                                        " elements for " + std::to_string(in_features) +
                                        " input channels");
}

void row_errors(std::span<const float> delta, int64_t rows, int64_t columns, const float* gram,
                int64_t stride, std::vector<float>& product, std::span<double> errors) {
  product.resize(static_cast<size_t>(rows * columns));
  if (stride > 0) {
    sgemm({.m = rows,
           .n = columns,
           .k = columns,
           .lda = columns,
           .ldb = stride,
           .ldc = columns,
           .beta = 0},
          delta.data(), gram, product.data());
  } else {
    for (int64_t row = 0; row < rows; ++row) {
      const float* in = delta.data() + row * columns;
      float* out = product.data() + row * columns;
      for (int64_t column = 0; column < columns; ++column) out[column] = in[column] * gram[column];
    }
  }
  for (int64_t row = 0; row < rows; ++row) {
    errors[static_cast<size_t>(row)] =
        dot(product.data() + row * columns, delta.data() + row * columns, columns);
  }
}

double output_error(std::span<const float> delta, int64_t rows, int64_t in_features,
                    std::span<const float> gram, ThreadPool& pool) {
  if (delta.size() != static_cast<size_t>(rows) * static_cast<size_t>(in_features)) {
    throw Error(ErrorCode::kInternal, "output error: " + std::to_string(delta.size()) +
                                          " values for [" + std::to_string(rows) + ", " +
                                          std::to_string(in_features) + "]");
  }
  const int64_t stride = gram_stride(gram, in_features);
  use_single_threaded_blas();
  return sum_row_blocks(rows, pool, [&](int64_t begin, int64_t end) {
    std::vector<float> product;
    std::vector<double> errors(static_cast<size_t>(end - begin));
    row_errors(delta.subspan(static_cast<size_t>(begin * in_features),
                             static_cast<size_t>((end - begin) * in_features)),
               end - begin, in_features, gram.data(), stride, product, errors);
    double sum = 0;
    for (const double error : errors) sum += error;
    return sum;
  });
}

std::vector<float> mean_gram(std::span<const double> gram, int64_t tokens) {
  const double inverse = 1.0 / static_cast<double>(std::max<int64_t>(1, tokens));
  std::vector<float> mean(gram.size());
  for (size_t i = 0; i < gram.size(); ++i) mean[i] = static_cast<float>(gram[i] * inverse);
  return mean;
}

}  // namespace pare
