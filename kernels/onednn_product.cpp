#include "kernels/onednn_product.h"

#include <omp.h>

#include <algorithm>
#include <new>

namespace pare {

AlignedBytes allocate_aligned(size_t bytes) {
  const size_t rounded = (std::max<size_t>(bytes, 1) + 63) / 64 * 64;
  auto* pointer = static_cast<std::byte*>(std::aligned_alloc(64, rounded));
  if (pointer == nullptr) throw std::bad_alloc();
  return AlignedBytes(pointer);
}

const dnnl::engine& cpu_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

SingleThreadedOpenMp::SingleThreadedOpenMp() : previous_(omp_get_max_threads()) {
  omp_set_num_threads(1);
}
SingleThreadedOpenMp::~SingleThreadedOpenMp() { omp_set_num_threads(previous_); }

std::shared_ptr<const Product> make_product(const dnnl::memory::desc& source,
                                            const dnnl::memory::desc& weights,
                                            const dnnl::memory::desc& destination) {
  const SingleThreadedOpenMp guard;
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(source, weights, destination),
                                                 attributes, cpu_engine());
  const std::string kernel = description.impl_info_str();
  if (kernel.find("ref") != std::string::npos) {
    throw dnnl::error(dnnl_unimplemented, "only the reference kernel is available");
  }
  return std::make_shared<const Product>(Product{dnnl::matmul(description), description.src_desc(),
                                                 description.weights_desc(), description.dst_desc(),
                                                 description.scratchpad_desc(), kernel});
}

void* MatmulScratch::State::reserve(size_t bytes) {
  if (bytes > scratchpad_size_) {
    scratchpad_ = allocate_aligned(bytes);
    scratchpad_size_ = bytes;
  }
  return scratchpad_.get();
}

MatmulScratch::State::Binding& MatmulScratch::State::bind(
    const std::shared_ptr<const Product>& product) {
  for (Binding& binding : bindings_) {
    if (binding.product == product) return binding;
  }
  Binding& binding = bindings_[next_binding_];
  next_binding_ = (next_binding_ + 1) % bindings_.size();
  binding.product = product;
  binding.source = dnnl::memory(product->source, cpu_engine(), nullptr);
  binding.weights = dnnl::memory(product->weights, cpu_engine(), nullptr);
  binding.destination = dnnl::memory(product->destination, cpu_engine(), nullptr);
  binding.scratchpad = dnnl::memory(product->scratchpad, cpu_engine(), nullptr);
  return binding;
}

void MatmulScratch::State::run(Binding& binding, const void* source, const dnnl::memory& weights,
                               void* destination) {
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
      dnnl_primitive_execute(binding.product->primitive.get(), stream_.get(),
                             static_cast<int>(arguments.size()), arguments.data()),
      "oneDNN could not run a matrix product");
}

void MatmulScratch::State::execute(const std::shared_ptr<const Product>& product,
                                   const void* source, const dnnl::memory& weights,
                                   void* destination) {
  run(bind(product), source, weights, destination);
}

void MatmulScratch::State::execute(const std::shared_ptr<const Product>& product,
                                   const void* source, const void* weights, void* destination) {
  Binding& binding = bind(product);
  binding.weights.set_data_handle(const_cast<void*>(weights));  // NOLINT
  run(binding, source, binding.weights, destination);
}

MatmulScratch::MatmulScratch() : state_(std::make_unique<State>()) {}
MatmulScratch::~MatmulScratch() = default;
MatmulScratch::MatmulScratch(MatmulScratch&&) noexcept = default;
MatmulScratch& MatmulScratch::operator=(MatmulScratch&&) noexcept = default;

}  // namespace pare
