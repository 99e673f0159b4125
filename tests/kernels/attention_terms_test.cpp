// Attention with everything that architectures add to it: values of another width, all keys
// visible, soft caps, biases by position and by distance, sinks.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "kernels/attention.h"
#include "tests/kernels/random_values.h"

namespace pare {
namespace {

using testing::kRandomSeed;
using testing::normal_values;

struct Case {
  AttentionShape shape;
  AttentionTerms terms;
  int64_t queries = 0;
  int64_t keys = 0;  // equal to the queries where causal
  std::vector<float> q;
  std::vector<float> k;
  std::vector<float> v;
};

AttentionShape make_shape(int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t value_dim) {
  return {.heads = heads,
          .kv_heads = kv_heads,
          .head_dim = head_dim,
          .scale = 1 / std::sqrt(static_cast<float>(head_dim)),
          .value_dim = value_dim};
}

Case make_case(const AttentionShape& shape, int64_t queries, int64_t keys) {
  Case c;
  c.shape = shape;
  c.queries = queries;
  c.keys = keys;
  c.q = normal_values(queries * shape.heads * shape.head_dim, kRandomSeed);
  c.k = normal_values(keys * shape.kv_heads * shape.head_dim, kRandomSeed + 1);
  c.v = normal_values(keys * shape.kv_heads * shape.value_width(), kRandomSeed + 2);
  return c;
}

void add_key_bias(Case& c) {
  c.terms.positions = c.keys + 3;
  for (int64_t head = 0; head < c.shape.heads; ++head) {
    for (int64_t key = 0; key < c.terms.positions; ++key) {
      c.terms.key_bias.push_back(0.004F * static_cast<float>((head + 1) * key));
    }
  }
}

void add_distance_bias(Case& c) {
  c.terms.span = std::max(c.queries, c.keys) + 2;
  c.terms.distance_bias = normal_values(c.shape.heads * (2 * c.terms.span - 1), kRandomSeed + 3);
}

void add_sinks(Case& c) {
  c.terms.sinks = normal_values(c.shape.heads, kRandomSeed + 4);
  c.terms.sinks[0] = -std::numeric_limits<float>::infinity();
  c.terms.sinks.back() = 5;
}

double wide(float x) { return static_cast<double>(x); }

double score_of(const Case& c, int64_t query, int64_t head, int64_t key, bool round) {
  const auto input = [&](const std::vector<float>& values, int64_t index) {
    const float value = values[static_cast<size_t>(index)];
    return wide(round ? round_to_bf16(value) : value);
  };
  const AttentionShape& s = c.shape;
  double score = 0;
  for (int64_t i = 0; i < s.head_dim; ++i) {
    score += input(c.q, (query * s.heads + head) * s.head_dim + i) *
             input(c.k, (key * s.kv_heads + head * s.kv_heads / s.heads) * s.head_dim + i);
  }
  score *= wide(s.scale);
  if (s.soft_cap > 0) score = wide(s.soft_cap) * std::tanh(score / wide(s.soft_cap));
  if (!c.terms.key_bias.empty()) {
    score += wide(c.terms.key_bias[static_cast<size_t>(head * c.terms.positions + key)]);
  }
  if (!c.terms.distance_bias.empty()) {
    const int64_t entry = head * (2 * c.terms.span - 1) + c.terms.span - 1 + key - query;
    score += wide(c.terms.distance_bias[static_cast<size_t>(entry)]);
  }
  return score;
}

// Plain attention in double. Inputs are rounded to bfloat16 first when the kernel does that.
std::vector<double> reference(const Case& c, Precision precision) {
  const bool round = precision == Precision::kBf16;
  const AttentionShape& s = c.shape;
  const int64_t width = s.value_width();
  std::vector<double> out(static_cast<size_t>(c.queries * s.heads * width));
  for (int64_t query = 0; query < c.queries; ++query) {
    const int64_t first = s.causal && s.window > 0 ? std::max<int64_t>(0, query + 1 - s.window) : 0;
    const int64_t last = s.causal ? query + 1 : c.keys;
    for (int64_t head = 0; head < s.heads; ++head) {
      double sum =
          c.terms.sinks.empty() ? 0 : std::exp(wide(c.terms.sinks[static_cast<size_t>(head)]));
      double* row = out.data() + (query * s.heads + head) * width;
      for (int64_t key = first; key < last; ++key) {
        const double weight = std::exp(score_of(c, query, head, key, round));
        sum += weight;
        for (int64_t i = 0; i < width; ++i) {
          const int64_t kv_head = head * s.kv_heads / s.heads;
          const float value = c.v[static_cast<size_t>((key * s.kv_heads + kv_head) * width + i)];
          row[i] += weight * wide(round ? round_to_bf16(value) : value);
        }
      }
      for (int64_t i = 0; i < width; ++i) row[i] /= sum;
    }
  }
  return out;
}

// Queries come in runs of random lengths, up to `longest`.
std::vector<float> run_cut(const Case& c, Precision precision, int64_t longest, uint32_t seed) {
  const AttentionShape& s = c.shape;
  const Attention attention(s, precision, &c.terms);
  KeyValueCache cache(s, c.keys, precision);
  AttentionScratch scratch;
  std::vector<float> out(static_cast<size_t>(c.queries * s.heads * s.value_width()), NAN);
  std::mt19937 random(seed);
  if (!s.causal) cache.append(c.k.data(), c.v.data(), c.keys);
  for (int64_t query = 0; query < c.queries;) {
    const int64_t rows = std::min<int64_t>(
        1 + static_cast<int64_t>(random() % static_cast<uint32_t>(longest)), c.queries - query);
    if (s.causal) {
      cache.append(c.k.data() + query * s.kv_heads * s.head_dim,
                   c.v.data() + query * s.kv_heads * s.value_width(), rows);
    }
    attention.run(c.q.data() + query * s.heads * s.head_dim, rows, query, cache,
                  out.data() + query * s.heads * s.value_width(), scratch);
    query += rows;
  }
  return out;
}

// BF16 rounds each probability by at most 2⁻⁹ of itself, and values are at most about 4.5.
void expect_reference(const Case& c, const std::string& what) {
  for (const Precision precision : {Precision::kBf16, Precision::kF32}) {
    const double tolerance = precision == Precision::kBf16 ? 6e-3 : 3e-6;
    const auto whole = run_cut(c, precision, 1000000, kRandomSeed);
    const auto expected = reference(c, precision);
    for (size_t i = 0; i < whole.size(); ++i) {
      ASSERT_NEAR(whole[i], expected[i], tolerance)
          << what << ", element " << i << ", seed " << kRandomSeed;
    }
    for (const uint32_t seed : {kRandomSeed, kRandomSeed + 1}) {
      ASSERT_EQ(run_cut(c, precision, 90, seed), whole) << what << ", seed " << seed;
    }
  }
}

TEST(AttentionTerms, ValuesOfAnotherWidth) {
  for (const auto& [d, dv] : {std::pair<int64_t, int64_t>{24, 16}, {5, 17}, {17, 5}, {80, 1}}) {
    expect_reference(make_case(make_shape(6, 2, d, dv), 150, 150), "widths");
  }
}

TEST(AttentionTerms, OneKeyHeadAndOddGroups) {
  expect_reference(make_case(make_shape(7, 1, 16, 0), 140, 140), "one key head");
  expect_reference(make_case(make_shape(9, 3, 5, 0), 140, 140), "groups of three");
}

TEST(AttentionTerms, AllKeysOfAnEncoder) {
  for (const int64_t length : {1, 63, 129, 200}) {
    auto shape = make_shape(4, 4, 20, 0);
    shape.causal = false;
    shape.window = 7;  // has no meaning here
    expect_reference(make_case(shape, length, length), "length " + std::to_string(length));
  }
}

TEST(AttentionTerms, CrossAttentionFromFewOrManyQueries) {
  auto shape = make_shape(4, 2, 24, 0);
  shape.causal = false;
  expect_reference(make_case(shape, 200, 37), "many queries");
  expect_reference(make_case(shape, 3, 300), "many keys");
}

TEST(AttentionTerms, SoftCap) {
  auto shape = make_shape(4, 2, 16, 0);
  shape.soft_cap = 1.5F;
  expect_reference(make_case(shape, 200, 200), "cap");
  shape.window = 33;
  expect_reference(make_case(shape, 200, 200), "cap and window");
}

TEST(AttentionTerms, BiasByPosition) {
  auto c = make_case(make_shape(6, 2, 16, 0), 200, 200);
  add_key_bias(c);
  expect_reference(c, "causal");
  c.shape.window = 50;
  expect_reference(c, "window");
}

TEST(AttentionTerms, BiasByDistance) {
  auto c = make_case(make_shape(6, 6, 16, 0), 200, 200);
  add_distance_bias(c);
  expect_reference(c, "causal");
  c.shape.causal = false;
  expect_reference(c, "encoder");
}

TEST(AttentionTerms, Sinks) {
  auto c = make_case(make_shape(6, 2, 16, 0), 200, 200);
  add_sinks(c);
  expect_reference(c, "causal");
  c.shape.window = 40;
  expect_reference(c, "window");
}

TEST(AttentionTerms, EverythingTogether) {
  auto shape = make_shape(10, 2, 17, 24);
  shape.soft_cap = 4;
  shape.window = 70;
  auto c = make_case(shape, 260, 260);
  add_key_bias(c);
  add_distance_bias(c);
  add_sinks(c);
  expect_reference(c, "causal");
  c.shape.causal = false;
  expect_reference(c, "encoder");
}

// A bias of minus infinity hides keys, here a whole tile at the beginning.
TEST(AttentionTerms, HiddenKeysCountAsAbsent) {
  auto shape = make_shape(2, 1, 16, 0);
  shape.causal = false;
  auto c = make_case(shape, 5, 300);
  c.terms.positions = 300;
  c.terms.key_bias.assign(600, 0);
  for (size_t head = 0; head < 2; ++head) {
    std::fill_n(c.terms.key_bias.begin() + static_cast<ptrdiff_t>(head * 300), 140,
                -std::numeric_limits<float>::infinity());
  }
  expect_reference(c, "hidden keys");
}

// What comes later must not change a row, not even in its last digit.
TEST(AttentionTerms, LaterKeysChangeNothing) {
  auto c = make_case(make_shape(4, 2, 24, 8), 300, 300);
  add_key_bias(c);
  for (const Precision precision : {Precision::kBf16, Precision::kF32}) {
    const auto whole = run_cut(c, precision, 1000000, kRandomSeed);
    for (const int64_t length : {1, 64, 130, 299}) {
      Case brief = c;
      brief.queries = length;
      brief.keys = length;
      auto expected = whole;
      expected.resize(static_cast<size_t>(length * 4 * 8));
      ASSERT_EQ(run_cut(brief, precision, 1000000, kRandomSeed), expected) << length;
    }
  }
}

TEST(AttentionTerms, CopiesAndTruncatedCachesContinueAlike) {
  const auto c = make_case(make_shape(4, 2, 24, 8), 200, 200);
  const auto other = normal_values(200 * 2 * 24, kRandomSeed + 9);
  for (const Precision precision : {Precision::kBf16, Precision::kF32}) {
    const Attention attention(c.shape, precision);
    AttentionScratch scratch;
    const auto run = [&](const KeyValueCache& cache) {
      std::vector<float> out(static_cast<size_t>(4 * 8), NAN);
      attention.run(c.q.data(), 1, cache.length() - 1, cache, out.data(), scratch);
      return out;
    };
    for (const int64_t length : {1, 127, 128, 150}) {
      KeyValueCache plain(c.shape, 200, precision);
      plain.append(c.k.data(), c.v.data(), length);
      const auto expected = run(plain);
      KeyValueCache wiped(c.shape, 500, precision);
      wiped.append(c.k.data(), c.v.data(), length);
      wiped.append(other.data(), other.data(), 200);
      wiped.truncate(length);
      ASSERT_EQ(run(wiped), expected) << length;
      KeyValueCache copy(c.shape, 200, precision);
      copy.append(other.data(), other.data(), 170);
      copy.copy_from(wiped);
      ASSERT_EQ(copy.length(), length);
      ASSERT_EQ(run(copy), expected) << length;
      copy.append(other.data(), other.data(), 7);
      plain.append(other.data(), other.data(), 7);
      ASSERT_EQ(run(copy), run(plain)) << length;
    }
  }
}

}  // namespace
}  // namespace pare
