#include "kernels/matmul.h"

#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "core/dtype.h"
#include "kernels/codec.h"
#include "kernels/onednn_product.h"
#include "kernels/sgemm.h"

namespace pare {
namespace {

using Type = dnnl::memory::data_type;
using Tag = dnnl::memory::format_tag;

// Row counts for which kernels are generated; more rows run in pieces of the largest.
constexpr std::array<int64_t, 5> kRowTiers = {16, 32, 64, 128, 256};

// oneDNN's INT8 kernels hand their sums through FP32, which rounds beyond 2²⁴. 1024 products of
// 127 × 127 stay below: longer sums are made of such spans, added as integers.
constexpr int64_t kExactProducts = 1024;

// With AMX oneDNN cuts longer sums into parts whose length depends on the number of rows, and the
// parts' sums round differently: a row would not be the same in other company. Sums of BF16 are
// made of spans that it does not cut, added in their order.
constexpr int64_t kUncutProducts = 896;

// It also has another kernel for few rows of few outputs, for which rows are added.
constexpr int64_t kFewOutputs = 32;
constexpr int64_t kEnoughRows = 64;

// Spans of about the same width, which is a whole number of the widest kernel's steps (AMX).
int64_t span_width(int64_t in_features, int64_t longest) {
  constexpr int64_t kStep = 64;
  const int64_t spans = std::max<int64_t>(1, (in_features + longest - 1) / longest);
  return ((in_features + spans - 1) / spans + kStep - 1) / kStep * kStep;
}

Type destination_type(Type type) { return type == Type::s8 ? Type::s32 : Type::f32; }

// The part of a packed matrix that multiplies inputs [begin, begin + width).
class PackedSpan {
 public:
  // Repacks these columns of w [out, in]. Throws dnnl::error when this processor has no fast
  // product of the type.
  template <typename Element>
  PackedSpan(const Element* w, Type type, int64_t out, int64_t in, int64_t begin, int64_t width)
      : begin_(begin), type_(type), out_(out), in_(in), width_(width) {
    const SingleThreadedOpenMp guard;
    const dnnl::memory::desc layout =
        make(kRowTiers.back(), {{width, out}, type, Tag::any})->weights;
    packed_ = allocate_aligned(layout.get_size());
    weights_ = dnnl::memory(layout, cpu_engine(), packed_.get());
    dnnl::memory source({{width, out}, type, dnnl::memory::dims{1, in}}, cpu_engine(),
                        const_cast<Element*>(w + begin));  // NOLINT: only read
    dnnl::stream stream(cpu_engine());
    dnnl::reorder(source, weights_).execute(stream, source, weights_);
  }

  // y [rows, out] for as many rows as a tier has; x points to rows of all `in` inputs.
  template <typename Element, typename Sum>
  void multiply(const Element* x, int64_t tier, Sum* y, MatmulScratch& scratch) const {
    scratch.state().execute(product(tier), x + begin_, weights_, y);
  }

 private:
  std::shared_ptr<const Product> make(int64_t rows, const dnnl::memory::desc& layout) const {
    return make_product({{rows, width_}, type_, dnnl::memory::dims{in_, 1}}, layout,
                        {{rows, out_}, destination_type(type_), Tag::ab});
  }

  std::shared_ptr<const Product> product(int64_t rows) const {
    const std::lock_guard lock(mutex_);
    std::shared_ptr<const Product>& slot = products_[rows];
    if (!slot) slot = make(rows, weights_.get_desc());
    return slot;
  }

  int64_t begin_;
  Type type_;
  int64_t out_;
  int64_t in_;
  int64_t width_;
  AlignedBytes packed_;
  dnnl::memory weights_;  // describes and points to packed_
  mutable std::mutex mutex_;
  mutable std::unordered_map<int64_t, std::shared_ptr<const Product>> products_;  // by row tier
};

// Extreme values whose sums do not fit in 16 bits: INT8 kernels of processors without VNNI saturate
// pairs of products there. Asked with as many rows as few outputs get, too.
bool int8_is_exact() {
  static const bool exact = [] {
    constexpr int64_t kRows = kEnoughRows;
    std::vector<int8_t> codes(kRows * kExactProducts, 127);
    for (size_t row = 0; row < kRows; ++row) codes[row * kExactProducts] = 126;
    try {
      const PackedSpan span(codes.data(), Type::s8, kRows, kExactProducts, 0, kExactProducts);
      std::vector<int32_t> y(kRows * kRows);
      MatmulScratch scratch;
      span.multiply(codes.data(), kRows, y.data(), scratch);
      constexpr int64_t kLargest = 127;
      constexpr int64_t kExpected =
          kLargest * kLargest * (kExactProducts - 1) + (kLargest - 1) * (kLargest - 1);
      return std::all_of(y.begin(), y.end(), [](int32_t sum) { return sum == kExpected; });
    } catch (const dnnl::error&) {
      return false;
    }
  }();
  return exact;
}

}  // namespace

int64_t padded_rows(int64_t rows) noexcept {
  const int64_t remainder = rows % kRowTiers.back();
  if (remainder == 0) return rows;
  return rows - remainder + *std::lower_bound(kRowTiers.begin(), kRowTiers.end(), remainder);
}

struct PackedMatrix::State {
  int64_t out_features = 0;
  int64_t in_features = 0;
  std::vector<std::unique_ptr<PackedSpan>> spans;  // empty: through OpenBLAS
  std::vector<float> plain;                        // FP32, or the fallback for bf16 and int8

  // False when this processor has no fast product of the type.
  template <typename Element>
  bool pack(const Element* w, Type type, int64_t longest) {
    const int64_t width = span_width(in_features, longest);
    try {
      for (int64_t begin = 0; begin < in_features; begin += width) {
        spans.push_back(std::make_unique<PackedSpan>(w, type, out_features, in_features, begin,
                                                     std::min(width, in_features - begin)));
      }
      return true;
    } catch (const dnnl::error&) {
      spans.clear();
      return false;
    }
  }

  template <typename Element, typename Sum>
  void multiply(const Element* x, int64_t rows, Sum* y, ProductBuffers<Element, Sum>& buffers,
                MatmulScratch& scratch) const {
    const int64_t rest = rows % kRowTiers.back();
    if (out_features >= kFewOutputs || rest == 0 || padded_rows(rest) >= kEnoughRows) {
      multiply_tiers(x, rows, y, buffers.sums, scratch);
      return;
    }
    const int64_t whole = rows - rest;
    multiply_tiers(x, whole, y, buffers.sums, scratch);
    buffers.few_x.assign(x + whole * in_features, x + rows * in_features);
    buffers.few_x.resize(static_cast<size_t>(kEnoughRows * in_features));
    buffers.few_y.resize(static_cast<size_t>(kEnoughRows * out_features));
    multiply_tiers(buffers.few_x.data(), kEnoughRows, buffers.few_y.data(), buffers.sums, scratch);
    std::copy_n(buffers.few_y.begin(), rest * out_features, y + whole * out_features);
  }

 private:
  // `sums` holds those of the spans behind the first.
  template <typename Element, typename Sum>
  void multiply_tiers(const Element* x, int64_t rows, Sum* y, std::vector<Sum>& sums,
                      MatmulScratch& scratch) const {
    for (int64_t begin = 0; begin < rows;) {
      const int64_t tier = std::min(padded_rows(rows - begin), kRowTiers.back());
      Sum* target = y + begin * out_features;
      spans[0]->multiply(x + begin * in_features, tier, target, scratch);
      for (size_t i = 1; i < spans.size(); ++i) {
        sums.resize(static_cast<size_t>(tier * out_features));
        spans[i]->multiply(x + begin * in_features, tier, sums.data(), scratch);
        std::transform(sums.begin(), sums.end(), target, target, std::plus<>());
      }
      begin += tier;
    }
  }
};

PackedMatrix::PackedMatrix() = default;
PackedMatrix::~PackedMatrix() = default;
PackedMatrix::PackedMatrix(PackedMatrix&&) noexcept = default;
PackedMatrix& PackedMatrix::operator=(PackedMatrix&&) noexcept = default;

int64_t PackedMatrix::out_features() const noexcept { return state_ ? state_->out_features : 0; }
int64_t PackedMatrix::in_features() const noexcept { return state_ ? state_->in_features : 0; }

PackedMatrix PackedMatrix::bf16(std::span<const uint16_t> w, int64_t out_features,
                                int64_t in_features) {
  PackedMatrix matrix;
  matrix.state_ = std::make_unique<State>();
  State& state = *matrix.state_;
  state.out_features = out_features;
  state.in_features = in_features;
  if (!state.pack(w.data(), Type::bf16, kUncutProducts)) {
    state.plain.resize(w.size());
    bf16_to_f32(w, state.plain);
  }
  return matrix;
}

PackedMatrix PackedMatrix::int8(std::span<const int8_t> w, int64_t out_features,
                                int64_t in_features) {
  PackedMatrix matrix;
  matrix.state_ = std::make_unique<State>();
  State& state = *matrix.state_;
  state.out_features = out_features;
  state.in_features = in_features;
  if (!int8_is_exact() || !state.pack(w.data(), Type::s8, kExactProducts)) {
    state.plain.assign(w.begin(), w.end());
  }
  return matrix;
}

PackedMatrix PackedMatrix::f32(std::span<const float> w, int64_t out_features,
                               int64_t in_features) {
  PackedMatrix matrix;
  matrix.state_ = std::make_unique<State>();
  matrix.state_->out_features = out_features;
  matrix.state_->in_features = in_features;
  matrix.state_->plain.assign(w.begin(), w.end());
  return matrix;
}

void PackedMatrix::multiply_bf16(const uint16_t* x, int64_t rows, float* y,
                                 MatmulScratch& scratch) const {
  if (state_->spans.empty()) {
    std::vector<float>& wide = scratch.state().x;
    wide.resize(static_cast<size_t>(rows * state_->in_features));
    bf16_to_f32({x, wide.size()}, wide);
    multiply_f32(wide.data(), rows, y);
    return;
  }
  state_->multiply(x, rows, y, scratch.state().bf16, scratch);
}

void PackedMatrix::multiply_int8(const int8_t* x, int64_t rows, int32_t* y,
                                 MatmulScratch& scratch) const {
  MatmulScratch::State& working = scratch.state();
  const int64_t in = state_->in_features;
  const int64_t out = state_->out_features;
  if (!state_->spans.empty()) {
    state_->multiply(x, rows, y, working.int8, scratch);
    return;
  }
  // FP32 sums are exact for as many products.
  working.x.assign(x, x + rows * in);
  working.y.resize(static_cast<size_t>(rows * out));
  std::fill(y, y + rows * out, 0);
  for (int64_t begin = 0; begin < in; begin += kExactProducts) {
    sgemm({.m = rows,
           .n = out,
           .k = std::min(kExactProducts, in - begin),
           .transpose_b = true,
           .lda = in,
           .ldb = in,
           .ldc = out},
          working.x.data() + begin, state_->plain.data() + begin, working.y.data());
    for (size_t i = 0; i < working.y.size(); ++i) y[i] += static_cast<int32_t>(working.y[i]);
  }
}

void PackedMatrix::multiply_f32(const float* x, int64_t rows, float* y) const {
  sgemm({.m = rows,
         .n = state_->out_features,
         .k = state_->in_features,
         .transpose_b = true,
         .lda = state_->in_features,
         .ldb = state_->in_features,
         .ldc = state_->out_features},
        x, state_->plain.data(), y);
}

std::string matmul_kernels() {
  const auto kernel = [](Type type) -> std::string {
    try {
      return make_product({{256, 256}, type, Tag::ab}, {{256, 256}, type, Tag::any},
                          {{256, 256}, type == Type::s8 ? Type::s32 : Type::f32, Tag::ab})
          ->kernel;
    } catch (const dnnl::error&) {
      return sgemm_kernels();
    }
  };
  return "bf16 " + kernel(Type::bf16) + ", int8 " +
         (int8_is_exact() ? kernel(Type::s8) : sgemm_kernels());
}

}  // namespace pare
