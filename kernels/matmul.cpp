#include "kernels/matmul.h"

#include <omp.h>

#include <algorithm>
#include <array>
#include <memory>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>
#include <vector>

#include "core/dtype.h"
#include "kernels/codec.h"
#include "kernels/sgemm.h"
#include "pare/error.h"

namespace pare {
namespace {

using Dims = dnnl::memory::dims;
using Type = dnnl::memory::data_type;
using Tag = dnnl::memory::format_tag;

// Row counts for which kernels are generated; more rows run in pieces of the largest.
constexpr std::array<int64_t, 5> kRowTiers = {16, 32, 64, 128, 256};

// oneDNN fixes the number of OpenMP threads of a primitive when it is created.
class SingleThreadedOpenMp {
 public:
  SingleThreadedOpenMp() : previous_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~SingleThreadedOpenMp() { omp_set_num_threads(previous_); }
  SingleThreadedOpenMp(const SingleThreadedOpenMp&) = delete;
  SingleThreadedOpenMp& operator=(const SingleThreadedOpenMp&) = delete;

 private:
  int previous_;
};

struct AlignedFree {
  void operator()(std::byte* pointer) const noexcept { std::free(pointer); }  // NOLINT
};
using AlignedBytes = std::unique_ptr<std::byte[], AlignedFree>;

AlignedBytes allocate(size_t bytes) {
  const size_t rounded = (std::max<size_t>(bytes, 1) + 63) / 64 * 64;
  auto* pointer = static_cast<std::byte*>(std::aligned_alloc(64, rounded));
  if (pointer == nullptr) throw std::bad_alloc();
  return AlignedBytes(pointer);
}

// Primitives and streams work together only on the same engine object. It has no state of ours.
const dnnl::engine& cpu_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

bool is_reference_kernel(const dnnl::matmul::primitive_desc& description) {
  return std::string(description.impl_info_str()).find("ref") != std::string::npos;
}

// A product of fixed shape with everything that running it needs.
struct Product {
  dnnl::matmul primitive;
  dnnl::memory::desc source;
  dnnl::memory::desc weights;
  dnnl::memory::desc destination;
  dnnl::memory::desc scratchpad;
  std::string kernel;
};

// Throws dnnl::error when this processor has no such product.
std::shared_ptr<const Product> make_product(const dnnl::memory::desc& source,
                                            const dnnl::memory::desc& weights,
                                            const dnnl::memory::desc& destination) {
  const SingleThreadedOpenMp guard;
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(source, weights, destination),
                                                 attributes, cpu_engine());
  if (is_reference_kernel(description)) {
    throw dnnl::error(dnnl_unimplemented, "only the reference kernel is available");
  }
  return std::make_shared<const Product>(
      Product{dnnl::matmul(description), description.src_desc(), description.weights_desc(),
              description.dst_desc(), description.scratchpad_desc(), description.impl_info_str()});
}

}  // namespace

struct MatmulScratch::State {
  dnnl::stream stream{cpu_engine()};
  AlignedBytes scratchpad;
  size_t scratchpad_size = 0;
  std::vector<float> x;  // for the fallback paths
  std::vector<float> y;

  // Products of small tiles take a few microseconds, and making oneDNN's memory objects for them
  // would be a tenth of that: those of the last few products are kept. Owning the product keeps
  // its address from being used again.
  struct Binding {
    std::shared_ptr<const Product> product;
    dnnl::memory source;
    dnnl::memory weights;
    dnnl::memory destination;
    dnnl::memory scratchpad;
  };
  std::array<Binding, 8> bindings;
  size_t next_binding = 0;

  void* reserve(size_t bytes) {
    if (bytes > scratchpad_size) {
      scratchpad = allocate(bytes);
      scratchpad_size = bytes;
    }
    return scratchpad.get();
  }

  Binding& bind(const std::shared_ptr<const Product>& product) {
    for (Binding& binding : bindings) {
      if (binding.product == product) return binding;
    }
    Binding& binding = bindings[next_binding];
    next_binding = (next_binding + 1) % bindings.size();
    binding.product = product;
    binding.source = dnnl::memory(product->source, cpu_engine(), nullptr);
    binding.weights = dnnl::memory(product->weights, cpu_engine(), nullptr);
    binding.destination = dnnl::memory(product->destination, cpu_engine(), nullptr);
    binding.scratchpad = dnnl::memory(product->scratchpad, cpu_engine(), nullptr);
    return binding;
  }

  void run(Binding& binding, const void* source, const dnnl::memory& weights, void* destination) {
    // oneDNN's interface is not const-correct; it does not write to sources.
    binding.source.set_data_handle(const_cast<void*>(source));  // NOLINT
    binding.destination.set_data_handle(destination);
    binding.scratchpad.set_data_handle(reserve(binding.product->scratchpad.get_size()));
    const std::array<dnnl_exec_arg_t, 4> arguments = {
        {{DNNL_ARG_SRC, binding.source.get()},
         {DNNL_ARG_WEIGHTS, weights.get()},
         {DNNL_ARG_DST, binding.destination.get()},
         {DNNL_ARG_SCRATCHPAD, binding.scratchpad.get()}}};
    dnnl::error::wrap_c_api(
        dnnl_primitive_execute(binding.product->primitive.get(), stream.get(),
                               static_cast<int>(arguments.size()), arguments.data()),
        "oneDNN could not run a matrix product");
  }

  // Weights that stay where they are: their memory object belongs to them, for attaching one to
  // packed weights writes their padding, which other threads are reading.
  void execute(const std::shared_ptr<const Product>& product, const void* source,
               const dnnl::memory& weights, void* destination) {
    run(bind(product), source, weights, destination);
  }

  void execute(const std::shared_ptr<const Product>& product, const void* source,
               const void* weights, void* destination) {
    Binding& binding = bind(product);
    binding.weights.set_data_handle(const_cast<void*>(weights));  // NOLINT
    run(binding, source, binding.weights, destination);
  }
};

MatmulScratch::MatmulScratch() : state_(std::make_unique<State>()) {}
MatmulScratch::~MatmulScratch() = default;
MatmulScratch::MatmulScratch(MatmulScratch&&) noexcept = default;
MatmulScratch& MatmulScratch::operator=(MatmulScratch&&) noexcept = default;

int64_t padded_rows(int64_t rows) noexcept {
  const int64_t remainder = rows % kRowTiers.back();
  if (remainder == 0) return rows;
  return rows - remainder + *std::lower_bound(kRowTiers.begin(), kRowTiers.end(), remainder);
}

struct PackedMatrix::State {
  int64_t out_features = 0;
  int64_t in_features = 0;
  Type type = Type::undef;  // undef: FP32 through OpenBLAS
  AlignedBytes packed;
  dnnl::memory weights;      // describes and points to `packed`
  std::vector<float> plain;  // FP32, or the fallback for bf16 and int8
  mutable std::mutex mutex;
  mutable std::unordered_map<int64_t, std::shared_ptr<const Product>> products;  // by row tier

  Type destination_type() const { return type == Type::s8 ? Type::s32 : Type::f32; }

  std::shared_ptr<const Product> make(int64_t rows, const dnnl::memory::desc& layout) const {
    return make_product({{rows, in_features}, type, Tag::ab}, layout,
                        {{rows, out_features}, destination_type(), Tag::ab});
  }

  std::shared_ptr<const Product> product(int64_t rows) const {
    const std::lock_guard lock(mutex);
    std::shared_ptr<const Product>& slot = products[rows];
    if (!slot) slot = make(rows, weights.get_desc());
    return slot;
  }

  // Repacks w [out, in]; false when this processor has no fast product of the type.
  bool pack(const void* w, Type element) {
    type = element;
    try {
      const SingleThreadedOpenMp guard;
      const dnnl::memory::desc layout =
          make(kRowTiers.back(), {{in_features, out_features}, type, Tag::any})->weights;
      packed = allocate(layout.get_size());
      weights = dnnl::memory(layout, cpu_engine(), packed.get());
      dnnl::memory source({{in_features, out_features}, type, Tag::ba}, cpu_engine(),
                          const_cast<void*>(w));  // NOLINT: only read
      dnnl::stream stream(cpu_engine());
      dnnl::reorder(source, weights).execute(stream, source, weights);
      return true;
    } catch (const dnnl::error&) {
      packed.reset();
      type = Type::undef;
      return false;
    }
  }
};

PackedMatrix::PackedMatrix() = default;
PackedMatrix::~PackedMatrix() = default;
PackedMatrix::PackedMatrix(PackedMatrix&&) noexcept = default;
PackedMatrix& PackedMatrix::operator=(PackedMatrix&&) noexcept = default;

int64_t PackedMatrix::out_features() const noexcept { return state_ ? state_->out_features : 0; }
int64_t PackedMatrix::in_features() const noexcept { return state_ ? state_->in_features : 0; }

namespace {

// INT8 kernels of processors without VNNI saturate pairs of products at 16 bits. Extreme values
// show it; the answer is the same for all shapes.
bool int8_is_exact() {
  static const bool exact = [] {
    constexpr int64_t kRows = 16;
    constexpr int64_t kWidth = 64;
    const std::vector<int8_t> ones(kRows * kWidth, 127);
    try {
      const std::shared_ptr<const Product> product =
          make_product({{kRows, kWidth}, Type::s8, Tag::ab}, {{kWidth, kRows}, Type::s8, Tag::ba},
                       {{kRows, kRows}, Type::s32, Tag::ab});
      std::vector<int32_t> y(kRows * kRows);
      MatmulScratch scratch;
      scratch.state().execute(product, ones.data(), static_cast<const void*>(ones.data()),
                              y.data());
      return std::all_of(y.begin(), y.end(), [](int32_t sum) { return sum == 127 * 127 * kWidth; });
    } catch (const dnnl::error&) {
      return false;
    }
  }();
  return exact;
}

}  // namespace

PackedMatrix PackedMatrix::bf16(std::span<const uint16_t> w, int64_t out_features,
                                int64_t in_features) {
  PackedMatrix matrix;
  matrix.state_ = std::make_unique<State>();
  State& state = *matrix.state_;
  state.out_features = out_features;
  state.in_features = in_features;
  if (!state.pack(w.data(), Type::bf16)) {
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
  if (!int8_is_exact() || !state.pack(w.data(), Type::s8)) {
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
  MatmulScratch::State& working = scratch.state();
  if (state_->type == Type::undef) {
    working.x.resize(static_cast<size_t>(rows * state_->in_features));
    bf16_to_f32({x, working.x.size()}, working.x);
    multiply_f32(working.x.data(), rows, y);
    return;
  }
  for (int64_t begin = 0; begin < rows;) {
    const int64_t tier = std::min(padded_rows(rows - begin), kRowTiers.back());
    working.execute(state_->product(tier), x + begin * state_->in_features, state_->weights,
                    y + begin * state_->out_features);
    begin += tier;
  }
}

void PackedMatrix::multiply_int8(const int8_t* x, int64_t rows, int32_t* y,
                                 MatmulScratch& scratch) const {
  MatmulScratch::State& working = scratch.state();
  const int64_t in = state_->in_features;
  const int64_t out = state_->out_features;
  if (state_->type != Type::undef) {
    for (int64_t begin = 0; begin < rows;) {
      const int64_t tier = std::min(padded_rows(rows - begin), kRowTiers.back());
      working.execute(state_->product(tier), x + begin * in, state_->weights, y + begin * out);
      begin += tier;
    }
    return;
  }
  // FP32 sums of at most 1024 products of 127 × 127 stay below 2²⁴: exact.
  constexpr int64_t kExact = 1024;
  working.x.assign(x, x + rows * in);
  working.y.resize(static_cast<size_t>(rows * out));
  std::fill(y, y + rows * out, 0);
  for (int64_t begin = 0; begin < in; begin += kExact) {
    sgemm({.m = rows,
           .n = out,
           .k = std::min(kExact, in - begin),
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

std::string matmul_kernels() {
  const auto kernel = [](Type type) -> std::string {
    try {
      return make_product({{256, 256}, type, Tag::ab}, {{256, 256}, type, Tag::any},
                          {{256, 256}, type == Type::s8 ? Type::s32 : Type::f32, Tag::ab})
          ->kernel;
    } catch (const dnnl::error&) {
      return "openblas f32";
    }
  };
  return "bf16 " + kernel(Type::bf16) + ", int8 " +
         (int8_is_exact() ? kernel(Type::s8) : "openblas f32");
}

}  // namespace pare
