#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "tests/kernels/random_values.h"

namespace pare {
namespace {

using testing::kRandomSeed;
using testing::normal_values;

constexpr std::array<int64_t, 9> kLengths = {1, 63, 64, 65, 127, 128, 129, 300, 700};

struct Sequence {
  int64_t length = 0;
  std::vector<float> q;
  std::vector<float> k;
  std::vector<float> v;
};

Sequence random_sequence(const AttentionShape& shape, int64_t length, uint32_t seed) {
  return {length, normal_values(length * shape.heads * shape.head_dim, seed),
          normal_values(length * shape.kv_heads * shape.head_dim, seed + 1),
          normal_values(length * shape.kv_heads * shape.head_dim, seed + 2)};
}

void append_and_run(const Attention& attention, const Sequence& sequence, int64_t position,
                    int64_t rows, KeyValueCache& cache, AttentionScratch& scratch,
                    std::vector<float>& out) {
  const AttentionShape& shape = attention.shape();
  const int64_t kv_width = shape.kv_heads * shape.head_dim;
  const int64_t width = shape.heads * shape.head_dim;
  cache.append(sequence.k.data() + position * kv_width, sequence.v.data() + position * kv_width,
               rows);
  attention.run(sequence.q.data() + position * width, rows, position, cache,
                out.data() + position * width, scratch);
}

// Runs a sequence in chunks; the last one is whatever is left.
std::vector<float> run_chunked(const AttentionShape& shape, const Sequence& sequence, int64_t chunk,
                               Precision precision) {
  const Attention attention(shape, precision);
  KeyValueCache cache(shape, sequence.length, precision);
  AttentionScratch scratch;
  std::vector<float> out(sequence.q.size(), NAN);
  for (int64_t position = 0; position < sequence.length; position += chunk) {
    append_and_run(attention, sequence, position, std::min(chunk, sequence.length - position),
                   cache, scratch, out);
  }
  return out;
}

// Plain attention in double. Inputs are rounded to bfloat16 first when the kernel does that.
std::vector<double> reference(const AttentionShape& shape, const Sequence& sequence,
                              Precision precision) {
  const auto rounded = [&](const std::vector<float>& values, int64_t index) {
    const float value = values[static_cast<size_t>(index)];
    return static_cast<double>(precision == Precision::kBf16 ? round_to_bf16(value) : value);
  };
  const int64_t d = shape.head_dim;
  std::vector<double> out(sequence.q.size(), 0);
  std::vector<double> weight(static_cast<size_t>(sequence.length));
  for (int64_t token = 0; token < sequence.length; ++token) {
    const int64_t first = shape.window > 0 ? std::max<int64_t>(0, token - shape.window + 1) : 0;
    for (int64_t head = 0; head < shape.heads; ++head) {
      const int64_t kv_head = head * shape.kv_heads / shape.heads;
      const int64_t row = (token * shape.heads + head) * d;
      double sum = 0;
      for (int64_t key = first; key <= token; ++key) {
        double score = 0;
        for (int64_t i = 0; i < d; ++i) {
          score += rounded(sequence.q, row + i) *
                   rounded(sequence.k, (key * shape.kv_heads + kv_head) * d + i);
        }
        weight[static_cast<size_t>(key)] = std::exp(score * static_cast<double>(shape.scale));
        sum += weight[static_cast<size_t>(key)];
      }
      for (int64_t key = first; key <= token; ++key) {
        for (int64_t i = 0; i < d; ++i) {
          out[static_cast<size_t>(row + i)] +=
              weight[static_cast<size_t>(key)] / sum *
              rounded(sequence.v, (key * shape.kv_heads + kv_head) * d + i);
        }
      }
    }
  }
  return out;
}

// BF16 rounds each probability by at most 2⁻⁹ of itself, and values are at most about 4.5.
double tolerance(Precision precision) { return precision == Precision::kBf16 ? 6e-3 : 3e-6; }

void expect_reference(const AttentionShape& shape, int64_t length, Precision precision) {
  const Sequence sequence = random_sequence(shape, length, kRandomSeed);
  const auto found = run_chunked(shape, sequence, 256, precision);
  const auto expected = reference(shape, sequence, precision);
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_NEAR(found[i], expected[i], tolerance(precision))
        << "length " << length << ", heads " << shape.heads << "/" << shape.kv_heads
        << ", head_dim " << shape.head_dim << ", window " << shape.window << ", element " << i
        << ", seed " << kRandomSeed;
  }
}

class AttentionIn : public ::testing::TestWithParam<Precision> {};
INSTANTIATE_TEST_SUITE_P(Precisions, AttentionIn,
                         ::testing::Values(Precision::kBf16, Precision::kF32),
                         [](const auto& chosen) -> std::string {
                           return chosen.param == Precision::kBf16 ? "Bf16" : "F32";
                         });

AttentionShape make_shape(int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t window) {
  return {.heads = heads,
          .kv_heads = kv_heads,
          .head_dim = head_dim,
          .scale = 1 / std::sqrt(static_cast<float>(head_dim)),
          .window = window};
}

TEST_P(AttentionIn, EveryLengthAroundTheTiles) {
  for (const int64_t length : kLengths) {
    expect_reference(make_shape(2, 1, 16, 0), length, GetParam());
  }
}

TEST_P(AttentionIn, Windows) {
  for (const int64_t window : {1, 2, 63, 64, 100, 128, 129, 299, 1000}) {
    expect_reference(make_shape(2, 1, 16, window), 300, GetParam());
  }
}

TEST_P(AttentionIn, GroupedQueriesAndOddHeads) {
  for (const int64_t kv_heads : {1, 2, 3, 6}) {
    expect_reference(make_shape(6, kv_heads, 32, 0), 150, GetParam());
  }
  for (const int64_t head_dim : {1, 7, 20, 33, 80, 128}) {
    expect_reference(make_shape(2, 2, head_dim, 0), 150, GetParam());
    expect_reference(make_shape(2, 1, head_dim, 40), 150, GetParam());
  }
}

// One score far above the others: the running maximum moves late and early sums are rescaled.
TEST_P(AttentionIn, LargeScoresDoNotOverflow) {
  const AttentionShape shape = make_shape(1, 1, 8, 0);
  for (const int64_t spike : {0, 130, 399}) {
    Sequence sequence = random_sequence(shape, 400, kRandomSeed);
    std::fill(sequence.q.begin(), sequence.q.end(), 16.0F);
    for (int64_t i = 0; i < 8; ++i) {
      sequence.k[static_cast<size_t>(spike * 8 + i)] = 64.0F;
    }
    const auto out = run_chunked(shape, sequence, 256, GetParam());
    for (int64_t token = spike; token < 400; ++token) {
      for (int64_t i = 0; i < 8; ++i) {
        const float value = sequence.v[static_cast<size_t>(spike * 8 + i)];
        ASSERT_EQ(out[static_cast<size_t>(token * 8 + i)],
                  GetParam() == Precision::kBf16 ? round_to_bf16(value) : value)
            << "token " << token << ", seed " << kRandomSeed;
      }
    }
  }
}

TEST_P(AttentionIn, ChunksGiveTheSameBytes) {
  for (const int64_t window : {0, 100}) {
    const AttentionShape shape = make_shape(4, 2, 24, window);
    for (const int64_t length : {65, 300, 700}) {
      const Sequence sequence = random_sequence(shape, length, kRandomSeed);
      const auto whole = run_chunked(shape, sequence, length, GetParam());
      for (const int64_t chunk : {1, 37, 64, 100, 128, 256}) {
        ASSERT_EQ(run_chunked(shape, sequence, chunk, GetParam()), whole)
            << "length " << length << ", chunk " << chunk << ", window " << window << ", seed "
            << kRandomSeed;
      }
    }
  }
}

TEST_P(AttentionIn, ClearedCacheForgetsEverything) {
  const AttentionShape shape = make_shape(4, 2, 16, 0);
  const Attention attention(shape, GetParam());
  KeyValueCache cache(shape, 700, GetParam());
  AttentionScratch scratch;
  const auto run = [&](const Sequence& sequence) {
    cache.clear();
    std::vector<float> out(sequence.q.size(), NAN);
    append_and_run(attention, sequence, 0, sequence.length, cache, scratch, out);
    EXPECT_EQ(cache.length(), sequence.length);
    return out;
  };
  const Sequence brief = random_sequence(shape, 70, kRandomSeed);
  const auto fresh = run(brief);
  Sequence poison = random_sequence(shape, 700, kRandomSeed + 7);
  for (float& value : poison.v) value = value > 0 ? INFINITY : NAN;
  run(poison);
  EXPECT_EQ(run(brief), fresh);
}

size_t scratch_bytes(const AttentionScratch& scratch) {
  return 2 * (scratch.queries.capacity() + scratch.probabilities.capacity()) +
         4 * (scratch.scores.capacity() + scratch.partial.capacity() + scratch.output.capacity() +
              scratch.row_max.capacity() + scratch.row_sum.capacity());
}

TEST_P(AttentionIn, ScratchGrowsAtMostWithTheLength) {
  const AttentionShape shape = make_shape(2, 1, 16, 0);
  const auto bytes_for = [&](int64_t length) {
    const Sequence sequence = random_sequence(shape, length, kRandomSeed);
    const Attention attention(shape, GetParam());
    KeyValueCache cache(shape, length, GetParam());
    AttentionScratch scratch;
    std::vector<float> out(sequence.q.size());
    append_and_run(attention, sequence, 0, length, cache, scratch, out);
    return scratch_bytes(scratch);
  };
  const size_t once = bytes_for(1024);
  EXPECT_LE(bytes_for(4096), 4 * once);
  EXPECT_LE(once, 1024U * 1024U);
}

}  // namespace
}  // namespace pare
