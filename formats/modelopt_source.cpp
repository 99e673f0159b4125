#include "formats/modelopt_source.h"

#include <array>
#include <utility>

#include "formats/engine_source.h"
#include "kernels/codec.h"
#include "kernels/engine_layouts.h"
#include "pare/error.h"

namespace pare {
namespace {

constexpr std::string_view kScale = ".weight_scale";
constexpr std::string_view kKeyScale = ".k_proj.k_scale";
constexpr std::string_view kKeyWeight = ".k_proj.weight";

DType stored_type(WeightFormat format) {
  if (format == WeightFormat::kFp8E4m3) return DType::kF8E4m3;
  return format == WeightFormat::kInt8 ? DType::kI8 : DType::kU8;
}

class ModeloptSource final : public EngineSource {
 public:
  ModeloptSource(std::shared_ptr<const WeightSource> source, ModeloptConfig config)
      : EngineSource(std::move(source)), config_(std::move(config)) {
    for (const std::string& name : base().names()) {
      if (name.ends_with(kScale)) add(name.substr(0, name.size() - kScale.size()));
    }
    if (!config_.algo.quant_algo.empty()) expect_linears(kScale);
    add_caches();
    show_names();
  }

 protected:
  CompressedWeight read_linear(const std::string& module) const override {
    const LinearScheme scheme = scheme_of_module(module);
    const Shape shape = this->shape(module + ".weight");
    CompressedWeight weight;
    weight.format = scheme.weight;
    weight.activation = scheme.activation;
    weight.out_features = shape[0];
    weight.in_features = shape[1];
    // A group as wide as the matrix is a channel.
    weight.group_size = scheme.group_size == shape[1] ? kPerChannel : scheme.group_size;
    read_scales(module, weight);
    read_codes(module, weight);
    if (has_input_scale(scheme.activation)) {
      weight.input_scale = scales(module + ".input_scale", 1)[0];
    }
    if (const std::string name = module + ".pre_quant_scale"; base().contains(name)) {
      weight.pre_quant_scale = scales(name, weight.in_features);
    }
    return weight;
  }

 private:
  LinearScheme scheme_of_module(const std::string& module) const {
    return config_.scheme(module, path() + ": quantization_config");
  }

  void add(const std::string& module) {
    const LinearScheme scheme = scheme_of_module(module);
    Shape shape = matrix_shape(module + ".weight");
    if (is_fp4(scheme.weight)) shape[1] *= 2;
    if (scheme.weight == WeightFormat::kInt4) shape[0] *= 2;
    std::vector<std::string> parts = {module + ".weight"};
    for (const char* suffix :
         {".weight_scale", ".weight_scale_2", ".input_scale", ".pre_quant_scale"}) {
      if (base().contains(module + suffix)) parts.push_back(module + suffix);
    }
    add_linear(module, shape, std::move(parts));
  }

  // Without tensors the cache is used with scales of 1.
  void add_caches() {
    if (config_.kv_cache_algo.empty()) return;
    if (config_.kv_cache_algo != "FP8" && config_.kv_cache_algo != "INT8") {
      throw Error(ErrorCode::kInputMalformed, path() + ": kv_cache_quant_algo is \"" +
                                                  config_.kv_cache_algo +
                                                  "\"; read are FP8 and INT8");
    }
    const char* format = config_.kv_cache_algo == "FP8" ? "float8_e4m3fn" : "int8";
    bool found = false;
    for (const std::string& name : base().names()) {
      if (!name.ends_with(kKeyScale)) continue;
      found = true;
      const std::string attention = name.substr(0, name.size() - kKeyScale.size());
      for (const char* suffix : {".k_proj.k_bias", ".v_proj.v_bias"}) {
        if (base().contains(attention + suffix)) {
          malformed(attention + suffix, "is an offset of the cache, which is not read");
        }
      }
      add_cache(attention, name, attention + ".v_proj.v_scale", format);
    }
    if (found) return;
    for (const std::string& name : base().names()) {
      if (!name.ends_with(kKeyWeight)) continue;
      add_cache(name.substr(0, name.size() - kKeyWeight.size()), {}, {}, format);
    }
  }

  void read_scales(const std::string& module, CompressedWeight& weight) const {
    const std::string name = module + std::string(kScale);
    const int64_t rows = weight.scale_rows();
    const int64_t groups = weight.groups();
    if (weight.format != WeightFormat::kNvfp4) {
      weight.scale = scales(name, rows * groups);
      return;
    }
    for (const std::byte code : part(name, DType::kF8E4m3, {rows, groups}).bytes) {
      weight.scale.push_back(e4m3_to_f32(static_cast<uint8_t>(code)));
    }
    weight.global_scale = scales(module + ".weight_scale_2", 1)[0];
  }

  void read_codes(const std::string& module, CompressedWeight& weight) const {
    const std::string name = module + ".weight";
    const int64_t out = weight.out_features;
    const int64_t in = weight.in_features;
    const DType dtype = stored_type(weight.format);
    if (weight.format != WeightFormat::kInt4) {
      weight.codes = values_of<uint8_t>(part(name, dtype, {out, weight.row_bytes()}));
      return;
    }
    const auto bytes = values_of<uint8_t>(part(name, dtype, {out / 2, in}));
    std::vector<int8_t> codes(static_cast<size_t>(out * in));
    unpack_row_pairs(bytes, {out, in}, codes);
    pack_codes(codes, {}, weight);
  }

  ModeloptConfig config_;
};

}  // namespace

std::unique_ptr<WeightSource> make_modelopt_source(std::shared_ptr<const WeightSource> base,
                                                   ModeloptConfig config) {
  return std::make_unique<ModeloptSource>(std::move(base), std::move(config));
}

}  // namespace pare
