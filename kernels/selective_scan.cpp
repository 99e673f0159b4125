#include "kernels/selective_scan.h"

#include <cassert>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/selective_scan.cpp"
#include "hwy/foreach_target.h"
// After foreach_target: both are read again for each instruction set.
#include "hwy/highway.h"
#include "kernels/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace pare {
namespace HWY_NAMESPACE {
namespace {

// A vector holds one state number of neighbouring channels, so that reading out needs no sum
// across lanes. States are transposed into blocks of at most 64 numbers of 16 channels, which all
// rows pass before the next block: with the decay rates they take 8 KiB.
constexpr size_t kBlock = 64;
constexpr size_t kLanes = 16;

// Rows whose decays are made in one go.
constexpr size_t kRows = 256;

/// exp(x) for x ≤ 0, to about 1 ulp, not less than exp(−87): what decays that far is gone anyway,
/// and without zeros and subnormals 2ⁿ is an addition to the exponent.
template <class DF, class VF = hn::Vec<DF>>
HWY_INLINE VF exp_decay(DF df, VF x) {
  const hn::RebindToSigned<DF> di;
  const auto kept = hn::Max(x, hn::Set(df, -87.0F));
  // Adding 1.5 × 2²³ rounds to a whole number, which is then in the lowest bits of the sum.
  const auto magic = hn::Set(df, 12582912.0F);
  const auto shifted = hn::MulAdd(kept, hn::Set(df, 1.44269504F), magic);
  const auto r = reduce_by_ln2(df, kept, hn::Sub(shifted, magic));
  const auto p = hn::Add(expm1_near_zero(df, r), hn::Set(df, 1.0F));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  return hn::BitCast(df, hn::Add(hn::BitCast(di, p), exponent));
}

/// Loads `count` floats, all of a vector where there are as many.
template <class DF>
HWY_INLINE hn::Vec<DF> load_some(DF df, const float* HWY_RESTRICT in, size_t count) {
  return count == hn::Lanes(df) ? hn::LoadU(df, in) : load_part(df, in, count, 0.0F);
}

template <class DF, class VF>
HWY_INLINE void store_some(DF df, VF value, float* HWY_RESTRICT out, size_t count) {
  if (count == hn::Lanes(df)) {
    hn::StoreU(value, df, out);
  } else {
    store_part(df, value, out, count);
  }
}

/// to[column, row] = from[row, column], in squares of four.
void transpose(const float* HWY_RESTRICT from, size_t from_stride, size_t rows, size_t columns,
               float* HWY_RESTRICT to, size_t to_stride) {
  size_t row = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::FixedTag<float, 4> d;
  for (; row + 4 <= rows; row += 4) {
    size_t column = 0;
    for (; column + 4 <= columns; column += 4) {
      const float* in = from + row * from_stride + column;
      const auto r0 = hn::LoadU(d, in);
      const auto r1 = hn::LoadU(d, in + from_stride);
      const auto r2 = hn::LoadU(d, in + 2 * from_stride);
      const auto r3 = hn::LoadU(d, in + 3 * from_stride);
      const auto low01 = hn::InterleaveLower(d, r0, r1);
      const auto low23 = hn::InterleaveLower(d, r2, r3);
      const auto high01 = hn::InterleaveUpper(d, r0, r1);
      const auto high23 = hn::InterleaveUpper(d, r2, r3);
      float* out = to + column * to_stride + row;
      hn::StoreU(hn::ConcatLowerLower(d, low23, low01), d, out);
      hn::StoreU(hn::ConcatUpperUpper(d, low23, low01), d, out + to_stride);
      hn::StoreU(hn::ConcatLowerLower(d, high23, high01), d, out + 2 * to_stride);
      hn::StoreU(hn::ConcatUpperUpper(d, high23, high01), d, out + 3 * to_stride);
    }
    for (; column < columns; ++column) {
      for (size_t i = row; i < row + 4; ++i) {
        to[column * to_stride + i] = from[i * from_stride + column];
      }
    }
  }
#endif
  for (; row < rows; ++row) {
    for (size_t column = 0; column < columns; ++column) {
      to[column * to_stride + row] = from[row * from_stride + column];
    }
  }
}

/// block[n, lane] = rows[lane, n] for the first `count` lanes, zero for the others.
void gather_block(const float* rows, size_t stride, size_t count, size_t lanes, size_t numbers,
                  float* HWY_RESTRICT block) {
  if (count < lanes) std::memset(block, 0, lanes * numbers * sizeof(float));
  transpose(rows, stride, count, numbers, block, lanes);
}

void scatter_block(const float* HWY_RESTRICT block, size_t stride, size_t count, size_t lanes,
                   size_t numbers, float* rows) {
  transpose(block, lanes, numbers, count, rows, stride);
}

/// One block of states: `count` channels, `numbers` state numbers from `first` on. Outputs are
/// begun by the first block of a channel, and added to by the others.
struct StateBlock {
  size_t count;
  size_t first;
  size_t numbers;
};

/// One row of one vector of Mamba's channels; pointers at their first channel, or first number.
struct SelectiveRow {
  const float* x;
  const float* dt;
  const float* b;
  const float* c;
  const float* d;  // or null
  float* y;
};

HWY_INLINE void selective_row(const SelectiveRow& in, const StateBlock& block,
                              const float* HWY_RESTRICT rates, float* HWY_RESTRICT states) {
  const hn::CappedTag<float, kLanes> df;
  const size_t lanes = hn::Lanes(df);
  const auto step = load_some(df, in.dt, block.count);
  const auto value = load_some(df, in.x, block.count);
  const auto input = hn::Mul(step, value);
  auto sum = hn::Zero(df);
  if (block.first > 0) {
    sum = load_some(df, in.y, block.count);
  } else if (in.d != nullptr) {
    sum = hn::Mul(load_some(df, in.d, block.count), value);
  }
  for (size_t n = 0; n < block.numbers; ++n) {
    const auto decay = exp_decay(df, hn::Mul(step, hn::Load(df, rates + n * lanes)));
    auto h = hn::Mul(decay, hn::Load(df, states + n * lanes));
    h = hn::MulAdd(input, hn::Set(df, in.b[n]), h);
    hn::Store(h, df, states + n * lanes);
    sum = hn::MulAdd(h, hn::Set(df, in.c[n]), sum);
  }
  store_some(df, sum, in.y, block.count);
}

/// All rows of a stripe of channels. Where there are few state numbers, several vectors of channels
/// fit a block: a row's part of them is then a few whole cache lines, which processors prefetch.
void selective_stripe(const SelectiveScanInput& in, const float* a, const float* d, size_t channels,
                      size_t width, size_t state_size, float* state, float* y) {
  const size_t lanes = hn::Lanes(hn::CappedTag<float, kLanes>());
  HWY_ALIGN float rates[kBlock * kLanes];
  HWY_ALIGN float states[kBlock * kLanes];
  for (size_t first = 0; first < state_size; first += kBlock) {
    const size_t numbers = HWY_MIN(kBlock, state_size - first);
    const size_t vector_size = numbers * lanes;
    const auto each_vector = [&](const auto& body) {
      for (size_t channel = 0; channel < width; channel += lanes) {
        body(channel, StateBlock{HWY_MIN(lanes, width - channel), first, numbers},
             channel / lanes * vector_size);
      }
    };
    each_vector([&](size_t channel, const StateBlock& block, size_t place) {
      const size_t corner = channel * state_size + first;
      gather_block(a + corner, state_size, block.count, lanes, numbers, rates + place);
      gather_block(state + corner, state_size, block.count, lanes, numbers, states + place);
    });
    for (size_t row = 0; row < static_cast<size_t>(in.rows); ++row) {
      each_vector([&](size_t channel, const StateBlock& block, size_t place) {
        selective_row({.x = in.x + row * static_cast<size_t>(in.x_stride) + channel,
                       .dt = in.dt + row * static_cast<size_t>(in.dt_stride) + channel,
                       .b = in.b + row * static_cast<size_t>(in.b_stride) + first,
                       .c = in.c + row * static_cast<size_t>(in.c_stride) + first,
                       .d = d == nullptr ? nullptr : d + channel,
                       .y = y + row * channels + channel},
                      block, rates + place, states + place);
      });
    }
    each_vector([&](size_t channel, const StateBlock& block, size_t place) {
      scatter_block(states + place, state_size, block.count, lanes, numbers,
                    state + channel * state_size + first);
    });
  }
}

void selective_scan_kernel(const SelectiveScanInput& input, const float* a, const float* d,
                           size_t channels, size_t state_size, float* state, float* y) {
  const size_t lanes = hn::Lanes(hn::CappedTag<float, kLanes>());
  // 64 channels are four cache lines.
  const size_t vectors =
      HWY_MIN(64 / lanes, kBlock * kLanes / (HWY_MIN(kBlock, state_size) * lanes));
  const size_t stripe = vectors * lanes;
  for (size_t channel = 0; channel < channels; channel += stripe) {
    SelectiveScanInput in = input;
    in.x += channel;
    in.dt += channel;
    selective_stripe(in, a + channel * state_size, d == nullptr ? nullptr : d + channel, channels,
                     HWY_MIN(stripe, channels - channel), state_size, state + channel * state_size,
                     y + channel);
  }
}

/// Rows of one head of Mamba-2, of which the decays and the step sizes are known.
struct HeadRows {
  const float* x;
  const float* b;
  const float* c;
  float* y;
  size_t rows;
  size_t x_stride;
  size_t b_stride;
  size_t c_stride;
  size_t y_stride;
  const float* decays;
  const float* steps;
  float skip;
};

/// All rows of a block of states of one head. Two rows at a time: a state is then loaded and stored
/// once for two steps, which are six operations.
void state_space_block(const HeadRows& in, const StateBlock& block, float* HWY_RESTRICT states) {
  const hn::CappedTag<float, kLanes> df;
  const size_t lanes = hn::Lanes(df);
  const auto skip = hn::Set(df, in.skip);
  const auto begin = [&](const float* x, const float* y) HWY_ATTR {
    return block.first == 0 ? hn::Mul(skip, load_some(df, x, block.count))
                            : load_some(df, y, block.count);
  };
  size_t row = 0;
  for (; row + 2 <= in.rows; row += 2) {
    const float* x0 = in.x + row * in.x_stride;
    const float* x1 = x0 + in.x_stride;
    const float* b0 = in.b + row * in.b_stride;
    const float* b1 = b0 + in.b_stride;
    const float* c0 = in.c + row * in.c_stride;
    const float* c1 = c0 + in.c_stride;
    float* y0 = in.y + row * in.y_stride;
    float* y1 = y0 + in.y_stride;
    const auto input0 = hn::Mul(hn::Set(df, in.steps[row]), load_some(df, x0, block.count));
    const auto input1 = hn::Mul(hn::Set(df, in.steps[row + 1]), load_some(df, x1, block.count));
    const auto decay0 = hn::Set(df, in.decays[row]);
    const auto decay1 = hn::Set(df, in.decays[row + 1]);
    auto sum0 = begin(x0, y0);
    auto sum1 = begin(x1, y1);
    for (size_t n = 0; n < block.numbers; ++n) {
      auto h = hn::Mul(decay0, hn::Load(df, states + n * lanes));
      h = hn::MulAdd(input0, hn::Set(df, b0[n]), h);
      sum0 = hn::MulAdd(h, hn::Set(df, c0[n]), sum0);
      h = hn::Mul(decay1, h);
      h = hn::MulAdd(input1, hn::Set(df, b1[n]), h);
      sum1 = hn::MulAdd(h, hn::Set(df, c1[n]), sum1);
      hn::Store(h, df, states + n * lanes);
    }
    store_some(df, sum0, y0, block.count);
    store_some(df, sum1, y1, block.count);
  }
  if (row == in.rows) return;
  const float* x = in.x + row * in.x_stride;
  const float* b = in.b + row * in.b_stride;
  const float* c = in.c + row * in.c_stride;
  float* y = in.y + row * in.y_stride;
  const auto input = hn::Mul(hn::Set(df, in.steps[row]), load_some(df, x, block.count));
  const auto decay = hn::Set(df, in.decays[row]);
  auto sum = begin(x, y);
  for (size_t n = 0; n < block.numbers; ++n) {
    auto h = hn::Mul(decay, hn::Load(df, states + n * lanes));
    h = hn::MulAdd(input, hn::Set(df, b[n]), h);
    sum = hn::MulAdd(h, hn::Set(df, c[n]), sum);
    hn::Store(h, df, states + n * lanes);
  }
  store_some(df, sum, y, block.count);
}

void state_space_head(const HeadRows& head, size_t head_dim, size_t state_size, float* state) {
  const hn::CappedTag<float, kLanes> df;
  const size_t lanes = hn::Lanes(df);
  HWY_ALIGN float states[kBlock * kLanes];
  for (size_t channel = 0; channel < head_dim; channel += lanes) {
    const size_t count = HWY_MIN(lanes, head_dim - channel);
    for (size_t first = 0; first < state_size; first += kBlock) {
      const StateBlock block{count, first, HWY_MIN(kBlock, state_size - first)};
      float* corner = state + channel * state_size + first;
      gather_block(corner, state_size, count, lanes, block.numbers, states);
      HeadRows in = head;
      in.x += channel;
      in.y += channel;
      in.b += first;
      in.c += first;
      state_space_block(in, block, states);
      scatter_block(states, state_size, count, lanes, block.numbers, corner);
    }
  }
}

/// At most kRows rows of all heads. Strides of the shape are not 0.
void state_space_kernel(const float* x, const float* dt, const float* b, const float* c,
                        size_t rows, const float* a, const float* d, const StateSpaceShape& shape,
                        float* state, float* y) {
  const hn::CappedTag<float, kLanes> df;
  const auto heads = static_cast<size_t>(shape.heads);
  const auto head_dim = static_cast<size_t>(shape.head_dim);
  const auto state_size = static_cast<size_t>(shape.state_size);
  const size_t heads_per_group = heads / static_cast<size_t>(shape.groups);
  HWY_ALIGN float steps[kRows];
  HWY_ALIGN float decays[kRows];
  for (size_t head = 0; head < heads; ++head) {
    for (size_t row = 0; row < rows; ++row) {
      steps[row] = dt[row * static_cast<size_t>(shape.dt_stride) + head];
    }
    for (size_t row = rows; row % kLanes != 0; ++row) steps[row] = 0;
    for (size_t row = 0; row < rows; row += hn::Lanes(df)) {
      const auto rate = hn::Mul(hn::Load(df, steps + row), hn::Set(df, a[head]));
      hn::Store(exp_decay(df, rate), df, decays + row);
    }
    const size_t group = head / heads_per_group * state_size;
    state_space_head({.x = x + head * head_dim,
                      .b = b + group,
                      .c = c + group,
                      .y = y + head * head_dim,
                      .rows = rows,
                      .x_stride = static_cast<size_t>(shape.x_stride),
                      .b_stride = static_cast<size_t>(shape.b_stride),
                      .c_stride = static_cast<size_t>(shape.c_stride),
                      .y_stride = heads * head_dim,
                      .decays = decays,
                      .steps = steps,
                      .skip = d == nullptr ? 0.0F : d[head]},
                     head_dim, state_size, state + head * head_dim * state_size);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace pare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pare {

HWY_EXPORT(selective_scan_kernel);
HWY_EXPORT(state_space_kernel);

void selective_scan(const SelectiveScanInput& input, std::span<const float> a,
                    std::span<const float> d, int64_t channels, int64_t state_size,
                    std::span<float> state, float* y) {
  assert(state_size > 0);
  assert(a.size() == static_cast<size_t>(channels * state_size) && state.size() == a.size());
  assert(d.empty() || d.size() == static_cast<size_t>(channels));
  if (input.rows == 0) return;
  SelectiveScanInput in = input;
  if (in.x_stride == 0) in.x_stride = channels;
  if (in.dt_stride == 0) in.dt_stride = channels;
  if (in.b_stride == 0) in.b_stride = state_size;
  if (in.c_stride == 0) in.c_stride = state_size;
  HWY_DYNAMIC_DISPATCH(selective_scan_kernel)
  (in, a.data(), d.empty() ? nullptr : d.data(), static_cast<size_t>(channels),
   static_cast<size_t>(state_size), state.data(), y);
}

void state_space_scan(const float* x, const float* dt, const float* b, const float* c, int64_t rows,
                      std::span<const float> a, std::span<const float> d,
                      const StateSpaceShape& shape, std::span<float> state, float* y) {
  assert(a.size() == static_cast<size_t>(shape.heads));
  assert(d.empty() || d.size() == a.size());
  assert(state.size() == static_cast<size_t>(shape.heads * shape.head_dim * shape.state_size));
  StateSpaceShape dense = shape;
  if (dense.x_stride == 0) dense.x_stride = shape.heads * shape.head_dim;
  if (dense.dt_stride == 0) dense.dt_stride = shape.heads;
  if (dense.b_stride == 0) dense.b_stride = shape.groups * shape.state_size;
  if (dense.c_stride == 0) dense.c_stride = shape.groups * shape.state_size;
  // Also keeps a chunk's b and c in the second-level cache while the heads read them.
  constexpr int64_t kChunk = HWY_NAMESPACE::kRows;
  for (int64_t row = 0; row < rows; row += kChunk) {
    const int64_t count = rows - row < kChunk ? rows - row : kChunk;
    HWY_DYNAMIC_DISPATCH(state_space_kernel)
    (x + row * dense.x_stride, dt + row * dense.dt_stride, b + row * dense.b_stride,
     c + row * dense.c_stride, static_cast<size_t>(count), a.data(), d.empty() ? nullptr : d.data(),
     dense, state.data(), y + row * shape.heads * shape.head_dim);
  }
}

}  // namespace pare
#endif  // HWY_ONCE
