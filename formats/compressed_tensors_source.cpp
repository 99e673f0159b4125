#include "formats/compressed_tensors_source.h"

#include <utility>

#include "formats/engine_source.h"
#include "kernels/codec.h"
#include "kernels/engine_layouts.h"
#include "pare/error.h"

namespace pare {
namespace {

constexpr std::string_view kScale = ".weight_scale";
constexpr const char* kCacheText = "float8_e4m3fn";

class CompressedTensorsSource final : public EngineSource {
 public:
  CompressedTensorsSource(std::shared_ptr<const WeightSource> source,
                          CompressedTensorsConfig config)
      : EngineSource(std::move(source)), config_(std::move(config)) {
    for (const std::string& name : base().names()) {
      if (name.ends_with(kScale)) add(name.substr(0, name.size() - kScale.size()));
      if (config_.kv_cache_fp8 && name.ends_with(".k_scale")) {
        const std::string attention = name.substr(0, name.rfind('.'));
        add_cache(attention, name, attention + ".v_scale", kCacheText);
      }
    }
    show_names();
  }

 protected:
  CompressedWeight read_linear(const std::string& module) const override {
    const CompressedTensorsGroup& group = *config_.find(module);
    const LinearScheme& scheme = group.scheme;
    const Shape shape = this->shape(module + ".weight");
    CompressedWeight weight;
    weight.format = scheme.weight;
    weight.activation = scheme.activation;
    weight.out_features = shape[0];
    weight.in_features = shape[1];
    weight.group_size = scheme.group_size;
    weight.block_rows = scheme.block_rows;
    weight.symmetric = scheme.symmetric;
    weight.scale = read_scales(module, weight);
    read_codes(module, group, weight);
    if (scheme.weight == WeightFormat::kNvfp4) {
      weight.global_scale = 1.0F / scales(module + ".weight_global_scale", 1)[0];
    }
    if (scheme.activation == ActivationFormat::kNvfp4) {
      weight.input_scale = 1.0F / scales(module + ".input_global_scale", 1)[0];
    } else if (has_input_scale(scheme.activation)) {
      weight.input_scale = scales(module + ".input_scale", 1)[0];
    }
    return weight;
  }

 private:
  static bool is_packed(const CompressedTensorsGroup& group) {
    return group.format.find("pack-quantized") != std::string::npos;
  }

  // [out, in] of a module, from the tensor that says so.
  Shape size_of(const std::string& module, const CompressedTensorsGroup& group) const {
    const std::string shape_name = module + ".weight_shape";
    if (is_packed(group) && !is_fp4(group.scheme.weight)) {
      auto sizes = values_of<int64_t>(part(shape_name, DType::kI64, {2}));
      if (sizes[0] <= 0 || sizes[1] <= 0 || sizes[0] > (int64_t{1} << 31) ||
          sizes[1] > (int64_t{1} << 31)) {
        malformed(shape_name, "says " + shape_text(sizes) + ", expected the sizes of a matrix");
      }
      return sizes;
    }
    Shape shape = matrix_shape(module + (is_packed(group) ? ".weight_packed" : ".weight"));
    if (is_fp4(group.scheme.weight)) shape[1] *= 2;
    return shape;
  }

  void add(const std::string& module) {
    const CompressedTensorsGroup* group = config_.find(module);
    if (group == nullptr) {
      malformed(module + std::string(kScale),
                "belongs to a module that quantization_config does not quantize");
    }
    const Shape shape = size_of(module, *group);
    std::vector<std::string> parts = {module + (is_packed(*group) ? ".weight_packed" : ".weight")};
    for (const char* suffix :
         {".weight_scale", ".weight_shape", ".weight_zero_point", ".weight_global_scale",
          ".input_scale", ".input_global_scale", ".weight_g_idx"}) {
      if (base().contains(module + suffix)) parts.push_back(module + suffix);
    }
    if (base().contains(module + ".weight_g_idx")) {
      malformed(module + ".weight_g_idx",
                "puts input channels in another order, which is not read");
    }
    add_linear(module, shape, std::move(parts));
  }

  std::vector<float> read_scales(const std::string& module, const CompressedWeight& weight) const {
    const std::string name = module + std::string(kScale);
    const int64_t rows = weight.scale_rows();
    const int64_t groups = weight.groups();
    if (!is_fp4(weight.format)) return scales(name, rows * groups);
    const bool nvfp4 = weight.format == WeightFormat::kNvfp4;
    std::vector<float> values;
    const TensorView codes = part(name, nvfp4 ? DType::kF8E4m3 : DType::kU8, {rows, groups});
    for (const std::byte code : codes.bytes) {
      const auto bits = static_cast<uint8_t>(code);
      values.push_back(nvfp4 ? e4m3_to_f32(bits) : e8m0_to_f32(bits));
    }
    return values;
  }

  void read_codes(const std::string& module, const CompressedTensorsGroup& group,
                  CompressedWeight& weight) const {
    const int64_t out = weight.out_features;
    const int64_t in = weight.in_features;
    if (is_fp4(weight.format)) {
      weight.codes = values_of<uint8_t>(
          part(module + ".weight_packed", DType::kU8, {out, weight.row_bytes()}));
      return;
    }
    if (!is_packed(group)) {
      const DType dtype = weight.format == WeightFormat::kInt8 ? DType::kI8 : DType::kF8E4m3;
      weight.codes = values_of<uint8_t>(part(module + ".weight", dtype, {out, in}));
      return;
    }
    const int64_t words = bit_stream_words(in, group.bits);
    const auto packed =
        values_of<uint32_t>(part(module + ".weight_packed", DType::kI32, {out, words}));
    std::vector<int8_t> codes(static_cast<size_t>(out * in));
    unpack_bit_stream(packed, {out, in}, group.bits, codes);
    if (!weight.symmetric) {
      for (int8_t& code : codes) code = static_cast<int8_t>(code + 8);
      weight.zero_point = read_zero_points(module, weight);
    }
    pack_codes(codes, {}, weight);
  }

  // Stored with the outputs packed: words [ceil(out / 8), groups].
  std::vector<uint8_t> read_zero_points(const std::string& module,
                                        const CompressedWeight& weight) const {
    const int64_t out = weight.out_features;
    const int64_t groups = weight.groups();
    const int64_t words = bit_stream_words(out, 4);
    const auto packed =
        values_of<uint32_t>(part(module + ".weight_zero_point", DType::kI32, {words, groups}));
    std::vector<uint32_t> turned(packed.size());
    for (int64_t word = 0; word < words; ++word) {
      for (int64_t group = 0; group < groups; ++group) {
        turned[static_cast<size_t>(group * words + word)] =
            packed[static_cast<size_t>(word * groups + group)];
      }
    }
    std::vector<int8_t> zeros(static_cast<size_t>(groups * out));
    unpack_bit_stream(turned, {groups, out}, 4, zeros);
    std::vector<uint8_t> result(zeros.size());
    for (int64_t group = 0; group < groups; ++group) {
      for (int64_t row = 0; row < out; ++row) {
        result[static_cast<size_t>(row * groups + group)] =
            static_cast<uint8_t>(zeros[static_cast<size_t>(group * out + row)] + 8);
      }
    }
    return result;
  }

  CompressedTensorsConfig config_;
};

}  // namespace

std::unique_ptr<WeightSource> make_compressed_tensors_source(
    std::shared_ptr<const WeightSource> base, CompressedTensorsConfig config) {
  return std::make_unique<CompressedTensorsSource>(std::move(base), std::move(config));
}

}  // namespace pare
