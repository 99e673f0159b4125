#include "kernels/matmul.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <thread>

#include "tests/kernels/random_values.h"

namespace pare {
namespace {

using testing::kRandomSeed;
using testing::normal_bf16;
using testing::normal_values;
using testing::random_codes;

constexpr std::array<int64_t, 9> kRows = {1, 2, 5, 17, 64, 100, 256, 257, 300};
constexpr std::array<int64_t, 6> kWidths = {1, 8, 15, 33, 64, 130};

// Largest float error of a sum of `terms` products whose magnitudes sum to `magnitude`, whatever
// the order: (terms + 1) roundings of 2⁻²⁴ each.
double sum_bound(int64_t terms, double magnitude) {
  return static_cast<double>(terms + 1) * 0x1p-24 * magnitude + 1e-30;
}

// What exact arithmetic gives for row `row` and column `column`, and Σ |x w|.
struct Exact {
  double sum = 0;
  double magnitude = 0;
};

template <typename Value, typename ToDouble>
Exact exact_dot(const std::vector<Value>& x, const std::vector<Value>& w, int64_t in, int64_t row,
                int64_t column, ToDouble to_double) {
  Exact exact;
  for (int64_t i = 0; i < in; ++i) {
    const double product = to_double(x[static_cast<size_t>(row * in + i)]) *
                           to_double(w[static_cast<size_t>(column * in + i)]);
    exact.sum += product;
    exact.magnitude += std::abs(product);
  }
  return exact;
}

double value_of(uint16_t bits) { return static_cast<double>(bf16_to_f32(bits)); }
double value_of(float value) { return static_cast<double>(value); }

template <typename Value>
void expect_product(const std::vector<Value>& x, const std::vector<Value>& w, int64_t rows,
                    int64_t out, int64_t in, const std::vector<float>& y) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < out; ++column) {
      const Exact exact =
          exact_dot(x, w, in, row, column, [](Value value) { return value_of(value); });
      ASSERT_NEAR(y[static_cast<size_t>(row * out + column)], exact.sum,
                  sum_bound(in, exact.magnitude))
          << "row " << row << " of " << rows << ", column " << column << " of " << out << ", " << in
          << " terms, seed " << kRandomSeed;
    }
  }
}

std::vector<float> multiply_bf16(const PackedMatrix& matrix, std::vector<uint16_t> x, int64_t rows,
                                 MatmulScratch& scratch) {
  x.resize(static_cast<size_t>(padded_rows(rows) * matrix.in_features()));
  std::vector<float> y(static_cast<size_t>(padded_rows(rows) * matrix.out_features()), NAN);
  matrix.multiply_bf16(x.data(), rows, y.data(), scratch);
  y.resize(static_cast<size_t>(rows * matrix.out_features()));
  return y;
}

std::vector<int32_t> multiply_int8(const PackedMatrix& matrix, std::vector<int8_t> x, int64_t rows,
                                   MatmulScratch& scratch) {
  x.resize(static_cast<size_t>(padded_rows(rows) * matrix.in_features()));
  std::vector<int32_t> y(static_cast<size_t>(padded_rows(rows) * matrix.out_features()), -1);
  matrix.multiply_int8(x.data(), rows, y.data(), scratch);
  y.resize(static_cast<size_t>(rows * matrix.out_features()));
  return y;
}

TEST(Matmul, PaddedRowsAreFewSizesAndNeverFewer) {
  EXPECT_EQ(padded_rows(0), 0);
  EXPECT_EQ(padded_rows(1), 16);
  EXPECT_EQ(padded_rows(17), 32);
  EXPECT_EQ(padded_rows(256), 256);
  EXPECT_EQ(padded_rows(257), 272);
  for (int64_t rows = 1; rows < 1000; ++rows) {
    EXPECT_GE(padded_rows(rows), rows);
    EXPECT_LE(padded_rows(rows), 2 * rows + 14);
    EXPECT_EQ(padded_rows(padded_rows(rows)), padded_rows(rows));
  }
}

TEST(Matmul, Bf16IsAsCloseAsFloatSumsAllow) {
  MatmulScratch scratch;
  for (const int64_t in : kWidths) {
    for (const int64_t out : kWidths) {
      const auto w = normal_bf16(out * in, kRandomSeed);
      const PackedMatrix matrix = PackedMatrix::bf16(w, out, in);
      ASSERT_EQ(matrix.out_features(), out);
      ASSERT_EQ(matrix.in_features(), in);
      for (const int64_t rows : kRows) {
        const auto x = normal_bf16(rows * in, kRandomSeed + 1);
        expect_product(x, w, rows, out, in, multiply_bf16(matrix, x, rows, scratch));
      }
    }
  }
}

TEST(Matmul, F32IsAsCloseAsFloatSumsAllow) {
  for (const int64_t in : kWidths) {
    for (const int64_t out : kWidths) {
      const auto w = normal_values(out * in, kRandomSeed);
      const PackedMatrix matrix = PackedMatrix::f32(w, out, in);
      for (const int64_t rows : kRows) {
        const auto x = normal_values(rows * in, kRandomSeed + 1);
        std::vector<float> y(static_cast<size_t>(rows * out), NAN);
        matrix.multiply_f32(x.data(), rows, y.data());
        expect_product(x, w, rows, out, in, y);
      }
    }
  }
}

TEST(Matmul, Int8IsExact) {
  MatmulScratch scratch;
  for (const int64_t in : kWidths) {
    for (const int64_t out : kWidths) {
      const auto w = random_codes(out * in, kRandomSeed);
      const PackedMatrix matrix = PackedMatrix::int8(w, out, in);
      for (const int64_t rows : kRows) {
        const auto x = random_codes(rows * in, kRandomSeed + 1);
        const auto y = multiply_int8(matrix, x, rows, scratch);
        for (int64_t row = 0; row < rows; ++row) {
          for (int64_t column = 0; column < out; ++column) {
            const Exact exact = exact_dot(x, w, in, row, column,
                                          [](int8_t code) { return static_cast<double>(code); });
            ASSERT_EQ(y[static_cast<size_t>(row * out + column)], exact.sum)
                << rows << " x " << in << " x " << out << ", row " << row << ", seed "
                << kRandomSeed;
          }
        }
      }
    }
  }
}

// Sums that leave 16 and 24 bits: kernels that saturate pairs, or whose sums pass through floating
// point, fail here.
TEST(Matmul, Int8ExtremesAreExact) {
  MatmulScratch scratch;
  for (const int64_t in : {1040, 1041, 1791, 1792, 2001, 4096, 11008}) {
    for (const int64_t out : {1, 40, 640}) {
      // Odd sums: 127 × 127 for each input, less 127 when there is an even number of them.
      const bool even = in % 2 == 0;
      std::vector<int8_t> w(static_cast<size_t>(out * in), 127);
      for (int64_t row = 0; even && row < out; ++row) w[static_cast<size_t>(row * in)] = 126;
      const int32_t expected = 127 * 127 * static_cast<int32_t>(in) - (even ? 127 : 0);
      const PackedMatrix matrix = PackedMatrix::int8(w, out, in);
      for (const int sign : {1, -1}) {
        for (const int64_t rows : {1, 40, 256}) {
          const std::vector<int8_t> x(static_cast<size_t>(rows * in),
                                      static_cast<int8_t>(127 * sign));
          for (const int32_t sum : multiply_int8(matrix, x, rows, scratch)) {
            ASSERT_EQ(sum, sign * expected) << in << " x " << out << ", " << rows << " rows";
          }
        }
      }
    }
  }
}

// The answer for a row does not depend on which other rows are in the call, bit for bit.
TEST(Matmul, RowsAreIndependentOfEachOther) {
  struct Size {
    int64_t out;
    int64_t in;
  };
  MatmulScratch scratch;
  for (const Size size :
       {Size{33, 15}, Size{130, 64}, Size{64, 640}, Size{256, 1792}, Size{4096, 256},
        Size{1000, 3000}, Size{320, 14336}, Size{4, 640}, Size{16, 64}, Size{24, 900}}) {
    const PackedMatrix matrix =
        PackedMatrix::bf16(normal_bf16(size.out * size.in, kRandomSeed), size.out, size.in);
    const auto x = normal_bf16(300 * size.in, kRandomSeed + 1);
    const auto all = multiply_bf16(matrix, x, 300, scratch);
    for (const int64_t rows : kRows) {
      const int64_t begin = 300 - rows;
      const std::vector<uint16_t> part(x.begin() + begin * size.in, x.end());
      const auto y = multiply_bf16(matrix, part, rows, scratch);
      ASSERT_TRUE(std::equal(y.begin(), y.end(), all.begin() + begin * size.out))
          << rows << " rows, " << size.in << " x " << size.out << ", seed " << kRandomSeed;
    }
  }
}

// One matrix in several threads, as evaluation runs it. oneDNN's library-managed scratchpad makes
// this fail silently; the first use of a row count, which makes its kernel, is raced as well.
TEST(Matmul, ThreadsShareOneMatrix) {
  constexpr int64_t kOut = 320;
  constexpr int64_t kIn = 640;
  constexpr int kRepetitions = 60;
  const auto w = normal_bf16(kOut * kIn, kRandomSeed);
  const auto w8 = random_codes(kOut * kIn, kRandomSeed);
  std::vector<std::vector<uint16_t>> x;
  std::vector<std::vector<int8_t>> x8;
  std::vector<std::vector<float>> expected;
  std::vector<std::vector<int32_t>> expected8;
  {
    const PackedMatrix alone = PackedMatrix::bf16(w, kOut, kIn);
    const PackedMatrix alone8 = PackedMatrix::int8(w8, kOut, kIn);
    MatmulScratch scratch;
    for (const int64_t rows : kRows) {
      x.push_back(normal_bf16(rows * kIn, kRandomSeed + static_cast<uint32_t>(rows)));
      x8.push_back(random_codes(rows * kIn, kRandomSeed + static_cast<uint32_t>(rows)));
      expected.push_back(multiply_bf16(alone, x.back(), rows, scratch));
      expected8.push_back(multiply_int8(alone8, x8.back(), rows, scratch));
    }
  }
  for (const size_t threads : {size_t{2}, size_t{4}}) {
    const PackedMatrix shared = PackedMatrix::bf16(w, kOut, kIn);
    const PackedMatrix shared8 = PackedMatrix::int8(w8, kOut, kIn);
    std::vector<int> wrong(threads, 0);
    std::vector<std::thread> workers;
    for (size_t number = 0; number < threads; ++number) {
      workers.emplace_back([&, number] {
        MatmulScratch scratch;
        for (int repetition = 0; repetition < kRepetitions; ++repetition) {
          const size_t i = (static_cast<size_t>(repetition) + number / 2) % kRows.size();
          wrong[number] += multiply_bf16(shared, x[i], kRows[i], scratch) != expected[i];
          wrong[number] += multiply_int8(shared8, x8[i], kRows[i], scratch) != expected8[i];
        }
      });
    }
    for (std::thread& worker : workers) worker.join();
    for (const int count : wrong) EXPECT_EQ(count, 0) << "seed " << kRandomSeed;
  }
}

// Bytes of a, stored [rows, columns] with `stride`, as the plain matrix or its transpose.
double stored(const std::vector<uint16_t>& a, bool transposed, int64_t row, int64_t column,
              int64_t stride) {
  const int64_t index = transposed ? column * stride + row : row * stride + column;
  return value_of(a[static_cast<size_t>(index)]);
}

void expect_tile_product(const TileShape& shape) {
  const int64_t a_rows = shape.transpose_a ? shape.k : shape.m;
  const int64_t b_rows = shape.transpose_b ? shape.n : shape.k;
  const auto a = normal_bf16(a_rows * shape.lda, kRandomSeed);
  const auto b = normal_bf16(b_rows * shape.ldb, kRandomSeed + 1);
  std::vector<float> c(static_cast<size_t>(shape.m * shape.n), NAN);
  MatmulScratch scratch;
  TileMatmul(shape).run(a.data(), b.data(), c.data(), scratch);
  for (int64_t row = 0; row < shape.m; ++row) {
    for (int64_t column = 0; column < shape.n; ++column) {
      Exact exact;
      for (int64_t i = 0; i < shape.k; ++i) {
        const double product = stored(a, shape.transpose_a, row, i, shape.lda) *
                               stored(b, shape.transpose_b, i, column, shape.ldb);
        exact.sum += product;
        exact.magnitude += std::abs(product);
      }
      ASSERT_NEAR(c[static_cast<size_t>(row * shape.n + column)], exact.sum,
                  sum_bound(shape.k, exact.magnitude))
          << "tile " << shape.m << " x " << shape.n << " x " << shape.k << ", transposed "
          << shape.transpose_a << shape.transpose_b << ", strides " << shape.lda << ", "
          << shape.ldb << ", seed " << kRandomSeed;
    }
  }
}

TEST(TileMatmul, AllTransposesAndStrides) {
  struct Size {
    int64_t m;
    int64_t n;
    int64_t k;
  };
  for (const Size size : {Size{1, 1, 1}, Size{3, 5, 7}, Size{16, 64, 33}, Size{128, 128, 64},
                          Size{128, 80, 128}, Size{130, 17, 256}}) {
    for (const int transposes : {0, 1, 2, 3}) {
      for (const int64_t gap : {0, 1, 24}) {
        TileShape shape{.m = size.m, .n = size.n, .k = size.k};
        shape.transpose_a = (transposes & 1) != 0;
        shape.transpose_b = (transposes & 2) != 0;
        shape.lda = (shape.transpose_a ? shape.m : shape.k) + gap;
        shape.ldb = (shape.transpose_b ? shape.k : shape.n) + gap;
        expect_tile_product(shape);
      }
    }
  }
}

// More products than a scratch remembers, in turn, some of them gone by the next use.
TEST(TileMatmul, OneScratchServesManyProducts) {
  MatmulScratch scratch;
  for (int round = 0; round < 3; ++round) {
    std::vector<TileMatmul> products;
    for (int64_t n = 1; n <= 20; ++n) {
      products.emplace_back(TileShape{.m = 2, .n = n, .k = 3, .lda = 3, .ldb = n});
    }
    for (int64_t n = 1; n <= 20; ++n) {
      const std::vector<uint16_t> a(6, f32_to_bf16(1.5F));
      const std::vector<uint16_t> b(static_cast<size_t>(3 * n), f32_to_bf16(static_cast<float>(n)));
      std::vector<float> c(static_cast<size_t>(2 * n), NAN);
      products[static_cast<size_t>(n - 1)].run(a.data(), b.data(), c.data(), scratch);
      for (const float value : c) ASSERT_EQ(value, 4.5F * static_cast<float>(n));
    }
  }
}

// oneDNN has other kernels for few outputs and few rows, and some do not take packed weights.
TEST(Matmul, Int8IsExactForFewOutputsAndRows) {
  MatmulScratch scratch;
  constexpr int64_t kIn = 130;
  for (int64_t out = 1; out <= 80; ++out) {
    const PackedMatrix matrix =
        PackedMatrix::int8(std::vector<int8_t>(static_cast<size_t>(out * kIn), 3), out, kIn);
    for (const int64_t rows : {1, 16, 17, 33, 64, 65}) {
      const std::vector<int8_t> x(static_cast<size_t>(rows * kIn), -2);
      for (const int32_t sum : multiply_int8(matrix, x, rows, scratch)) {
        ASSERT_EQ(sum, -6 * kIn) << rows << " x " << out;
      }
    }
  }
}

TEST(Matmul, NamesItsKernels) {
  const std::string names = matmul_kernels();
  EXPECT_TRUE(names.starts_with("bf16 ")) << names;
  const size_t int8 = names.find(", int8 ");
  ASSERT_NE(int8, std::string::npos) << names;
  // Where products of BF16 have AMX's tiles, those of INT8 do: slower ones are as exact, so that no
  // other test would miss them.
  if (names.substr(0, int8).find("amx") != std::string::npos) {
    EXPECT_NE(names.find("amx", int8), std::string::npos) << names;
  }
}

}  // namespace
}  // namespace pare
