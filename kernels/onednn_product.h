// One oneDNN matrix product of fixed shape, and what a thread needs to run it. Internal to the
// kernel files: everybody else includes kernels/matmul.h.
//
// A Product is immutable and safe to run from several threads, each with a MatmulScratch.
//
//   std::shared_ptr<const Product> product = make_product(source, weights, destination);
//   scratch.state().execute(product, a, b, c);
#pragma once

#include <array>
#include <cstdlib>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <vector>

#include "kernels/matmul.h"

namespace pare {

struct AlignedFree {
  void operator()(std::byte* pointer) const noexcept { std::free(pointer); }  // NOLINT
};
using AlignedBytes = std::unique_ptr<std::byte[], AlignedFree>;

/// Memory that starts at a cache line. Throws std::bad_alloc.
AlignedBytes allocate_aligned(size_t bytes);

/// Primitives and streams work together only on the same engine object. It has no state of ours.
const dnnl::engine& cpu_engine();

/// oneDNN fixes the number of OpenMP threads of a primitive when it is created, and of a reorder
/// when it runs: while this object lives, it is one.
class SingleThreadedOpenMp {
 public:
  SingleThreadedOpenMp();
  ~SingleThreadedOpenMp();
  SingleThreadedOpenMp(const SingleThreadedOpenMp&) = delete;
  SingleThreadedOpenMp& operator=(const SingleThreadedOpenMp&) = delete;

 private:
  int previous_;
};

struct Product {
  dnnl::matmul primitive;
  dnnl::memory::desc source;
  dnnl::memory::desc weights;
  dnnl::memory::desc destination;
  dnnl::memory::desc scratchpad;
  std::string kernel;  ///< oneDNN's name: "brg:avx512_core_amx".
};

/// Throws dnnl::error when this processor has no fast product of the kind.
std::shared_ptr<const Product> make_product(const dnnl::memory::desc& source,
                                            const dnnl::memory::desc& weights,
                                            const dnnl::memory::desc& destination);

/// What a product of packed weights needs beside its operands.
template <typename Element, typename Sum>
struct ProductBuffers {
  std::vector<Sum> sums;       ///< Of a part of the inputs.
  std::vector<Element> few_x;  ///< Few rows for few outputs, and zeros.
  std::vector<Sum> few_y;
};

struct MatmulScratch::State {
  std::vector<float> x;  ///< For the paths without oneDNN.
  std::vector<float> y;
  ProductBuffers<uint16_t, float> bf16;
  ProductBuffers<int8_t, int32_t> int8;

  /// Weights that stay where they are have a memory object of their own: attaching one to packed
  /// weights writes their padding, which other threads are reading.
  void execute(const std::shared_ptr<const Product>& product, const void* source,
               const dnnl::memory& weights, void* destination);
  void execute(const std::shared_ptr<const Product>& product, const void* source,
               const void* weights, void* destination);

 private:
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

  Binding& bind(const std::shared_ptr<const Product>& product);
  void run(Binding& binding, const void* source, const dnnl::memory& weights, void* destination);
  void* reserve(size_t bytes);

  dnnl::stream stream_{cpu_engine()};
  AlignedBytes scratchpad_;
  size_t scratchpad_size_ = 0;
  std::array<Binding, 8> bindings_;
  size_t next_binding_ = 0;
};

}  // namespace pare
