#include "core/dtype.h"
#include "kernels/codec.h"
#include "kernels/matmul.h"
#include "kernels/onednn_product.h"
#include "kernels/sgemm.h"

namespace pare {
namespace {

using Dims = dnnl::memory::dims;
using Type = dnnl::memory::data_type;
using Tag = dnnl::memory::format_tag;

}  // namespace

struct TileMatmul::State {
  TileShape shape;
  std::shared_ptr<const Product> product;  // null: FP32 through OpenBLAS
};

TileMatmul::TileMatmul(const TileShape& shape) : state_(std::make_unique<State>()) {
  state_->shape = shape;
  const Dims a_strides = shape.transpose_a ? Dims{1, shape.lda} : Dims{shape.lda, 1};
  const Dims b_strides = shape.transpose_b ? Dims{1, shape.ldb} : Dims{shape.ldb, 1};
  try {
    state_->product = make_product({{shape.m, shape.k}, Type::bf16, a_strides},
                                   {{shape.k, shape.n}, Type::bf16, b_strides},
                                   {{shape.m, shape.n}, Type::f32, Tag::ab});
  } catch (const dnnl::error&) {
    state_->product.reset();
  }
}
TileMatmul::~TileMatmul() = default;
TileMatmul::TileMatmul(TileMatmul&&) noexcept = default;
TileMatmul& TileMatmul::operator=(TileMatmul&&) noexcept = default;

void TileMatmul::run(const uint16_t* a, const uint16_t* b, float* c, MatmulScratch& scratch) const {
  MatmulScratch::State& working = scratch.state();
  if (state_->product) {
    working.execute(state_->product, a, static_cast<const void*>(b), c);
    return;
  }
  const TileShape& shape = state_->shape;
  const int64_t a_rows = shape.transpose_a ? shape.k : shape.m;
  const int64_t a_columns = shape.transpose_a ? shape.m : shape.k;
  const int64_t b_rows = shape.transpose_b ? shape.n : shape.k;
  const int64_t b_columns = shape.transpose_b ? shape.k : shape.n;
  working.x.resize(static_cast<size_t>(a_rows * a_columns));
  working.y.resize(static_cast<size_t>(b_rows * b_columns));
  const auto copy = [](const uint16_t* from, int64_t rows, int64_t columns, int64_t stride,
                       std::vector<float>& to) {
    for (int64_t row = 0; row < rows; ++row) {
      bf16_to_f32({from + row * stride, static_cast<size_t>(columns)},
                  {to.data() + row * columns, static_cast<size_t>(columns)});
    }
  };
  copy(a, a_rows, a_columns, shape.lda, working.x);
  copy(b, b_rows, b_columns, shape.ldb, working.y);
  sgemm({.m = shape.m,
         .n = shape.n,
         .k = shape.k,
         .transpose_a = shape.transpose_a,
         .transpose_b = shape.transpose_b,
         .lda = a_columns,
         .ldb = b_columns,
         .ldc = shape.n},
        working.x.data(), working.y.data(), c);
}

}  // namespace pare
