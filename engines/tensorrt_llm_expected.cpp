#include "engines/tensorrt_llm_expected.h"

#include "formats/tensorrt_llm_places.h"

namespace pare {
namespace {

class Lister {
 public:
  Lister(const TrtConfig& config, const TrtLayout& layout, int64_t rank)
      : config_(config),
        layout_(layout),
        tp_rank_(rank % config.sizes.tp_size),
        pp_rank_(rank / config.sizes.tp_size) {
    const std::string dtype = config.json.at("dtype").get<std::string>();
    float_ = dtype == "bfloat16" ? DType::kBf16 : dtype == "float16" ? DType::kF16 : DType::kF32;
  }

  std::vector<TrtExpected> list() {
    const bool plugin = config_.quantization.scheme.algo == TrtAlgo::kInt8PerToken;
    for (const TrtTensor& tensor : layout_.tensors) {
      if (tensor.pp_rank != pp_rank_) continue;
      add(tensor.target, {float_}, {local_shape(tensor, config_.sizes.tp_size)});
      // The builder takes the table of tokens for a head that is not there, where a rank has it.
      list_.back().optional = tensor.optional && config_.sizes.pp_size == 1;
    }
    for (const TrtLinear& linear : layout_.linears) {
      if (linear.pp_rank == pp_rank_) add_linear(linear);
    }
    for (const TrtCache& cache : layout_.caches) {
      if (cache.pp_rank != pp_rank_ || config_.quantization.cache.empty()) continue;
      for (const char* kind : {"kv", "k", "v"}) {
        add_scale(cache.target + "." + kind + "_cache_scaling_factor", {{1}});
        list_.back().optional = true;
      }
    }
    for (size_t i = 0; plugin && i < layout_.layer_norms.size(); ++i) {
      if (layout_.norm_pp_rank[i] != pp_rank_) continue;
      add_scale(layout_.layer_norms[i] + ".scale_to_int", {{1}});
    }
    return std::move(list_);
  }

 private:
  void add(const std::string& name, std::vector<DType> dtypes, std::vector<Shape> shapes) {
    list_.push_back({name, std::move(dtypes), std::move(shapes)});
  }
  void add_scale(const std::string& name, std::vector<Shape> shapes) {
    add(name, {DType::kF32}, std::move(shapes));
    list_.back().is_scale = true;
  }

  bool flag(const char* key, bool otherwise) const {
    const auto found = config_.json.find(key);
    return found != config_.json.end() && found->is_boolean() ? found->get<bool>() : otherwise;
  }

  // As the family's model builds the module.
  bool has_bias(const TrtLinear& linear) const {
    const TrtFamily& family = *layout_.family;
    if (linear.is_router || linear.experts > 0) return false;
    const bool mlp = linear.target.find(".mlp.") != std::string::npos;
    if (family.target_layers != std::string("transformer.layers.")) {
      return flag(mlp ? "has_mlp_bias" : "has_attention_qkvo_bias", false);
    }
    if (family.norms != TrtNorms::kRms) return flag("bias", true);
    if (mlp) return flag("mlp_bias", false);
    const bool qwen = family.decoder == std::string("qwen");
    if (qwen && !linear.is_qkv) return false;
    return flag("attn_bias", qwen);
  }

  void add_linear(const TrtLinear& linear) {
    const TrtScheme scheme =
        linear.is_router ? TrtScheme{} : config_.quantization.algo_of(linear.target);
    const bool dense = scheme.algo == TrtAlgo::kNone || scheme.algo == TrtAlgo::kInt8WeightOnly;
    const bool packed = scheme.algo == TrtAlgo::kInt4 || scheme.algo == TrtAlgo::kInt4Fp8;
    const bool row_layer = linear.split == TrtSplit::kColumns;
    Shape shape = linear.local_shape(tp_rank_);
    Shape rows(shape.begin(), shape.end() - 1);
    const int64_t columns = shape.back();
    if (packed) shape[shape.size() - 2] /= 2;
    std::vector<DType> dtypes = {DType::kI8};
    if (dense) dtypes = {linear.is_router ? DType::kF32 : float_};
    if (scheme.algo == TrtAlgo::kFp8 || scheme.algo == TrtAlgo::kFp8Rowwise) {
      dtypes = {DType::kF8E4m3, DType::kI8};
    }
    add(linear.target + ".weight", std::move(dtypes), {shape});
    list_.back().is_quantized = !dense;
    if (has_bias(linear)) add(linear.target + ".bias", {float_}, {rows});
    if (dense) return;
    const TrtSuffixes suffixes = trt_suffixes(scheme.algo, row_layer);
    const std::string scale = linear.target + suffixes.scale;
    if (scheme.algo == TrtAlgo::kFp8) {
      add_scale(scale, {linear.experts > 0 ? Shape{linear.experts, 1} : Shape{1}});
    } else if (packed) {
      rows.push_back(columns / std::max<int64_t>(1, scheme.group_size));
      add_scale(scale, {rows});
    } else {
      add_scale(scale, {scheme.algo == TrtAlgo::kInt8PerToken ? Shape{1, rows[0]} : rows});
    }
    if (*suffixes.input != '\0') add_scale(linear.target + suffixes.input, {{1}});
    if (*suffixes.second != '\0') add_scale(linear.target + suffixes.second, {{1}});
    if (*suffixes.smooth == '\0') return;
    const bool smoother = suffixes.smooth == std::string(".smoother");
    add(linear.target + suffixes.smooth, {smoother ? DType::kF32 : float_},
        {smoother ? Shape{1, columns} : Shape{columns}, Shape{1, columns}});
    list_.back().is_scale = true;
    list_.back().optional = scheme.algo == TrtAlgo::kInt4 && !asks_smoothing();
  }

  bool asks_smoothing() const {
    const auto found = config_.json.find("quantization");
    return found != config_.json.end() && found->is_object() &&
           found->value("pre_quant_scale", config_.quantization.mixed);
  }

  const TrtConfig& config_;
  const TrtLayout& layout_;
  int64_t tp_rank_;
  int64_t pp_rank_;
  DType float_ = DType::kBf16;
  std::vector<TrtExpected> list_;
};

}  // namespace

std::vector<TrtExpected> expected_tensors(const TrtConfig& config, const TrtLayout& layout,
                                          int64_t rank) {
  return Lister(config, layout, rank).list();
}

}  // namespace pare
