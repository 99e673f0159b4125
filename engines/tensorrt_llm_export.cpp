#include "engines/tensorrt_llm_export.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "engines/tensorrt_llm_config.h"
#include "engines/tensorrt_llm_pieces.h"
#include "formats/tensorrt_llm_source.h"
#include "model/block_parameters.h"
#include "pare/error.h"

namespace pare {
namespace {

using Json = nlohmann::ordered_json;
using Plans = std::vector<std::shared_ptr<const TrtLinearPlan>>;

struct RankPieces {
  std::string file;  // "encoder/rank0.safetensors"
  std::vector<TensorPiece> pieces;
};

// By the name of a source's weight: its plan, and which of the plan's sources it is.
using PlanOf = std::map<std::string, std::pair<std::shared_ptr<const TrtLinearPlan>, size_t>>;

class Exporter {
 public:
  Exporter(const ModelFiles& model, const EngineOptions& options)
      : source_(model.source),
        graph_(model.graph),
        halves_(plan_tensorrt_llm(model.graph, options.tp_size, options.pp_size)) {}

  EngineExport make() {
    check_head_bias();
    warn_of_windows();
    Json source_config = Json::parse(source_->config_json());
    result_.files = source_->text_files();
    result_.files[kSourceConfig] = source_config.dump(2) + "\n";
    for (const TrtHalf& half : halves_) add_half(half, source_config);
    for (const RankPieces& rank : ranks_) {
      for (const TensorPiece& piece : rank.pieces) result_.bytes += piece.bytes();
    }
    result_.write = [ranks = std::move(ranks_)](const std::string& folder, ThreadPool& pool,
                                                ProgressMeter& meter) {
      std::vector<std::string> names;
      for (const RankPieces& rank : ranks) {
        const std::filesystem::path path = folder + "/" + rank.file;
        std::filesystem::create_directories(path.parent_path());
        write_pieces(path.string(), rank.pieces, {{"format", "pt"}}, pool, meter);
        names.push_back(rank.file);
      }
      return names;
    };
    result_.is_same = [plans = std::move(plan_of_)](const WeightSource& made,
                                                    const std::string& name,
                                                    const CompressedWeight& weight, bool turned) {
      const auto found = plans.find(name);
      if (found == plans.end()) return false;
      const auto& [plan, index] = found->second;
      if (plan->is_dense()) return is_same_weight(made, name, weight, turned);
      if (!made.is_compressed(name)) return false;
      const CompressedWeight expected = as_exported(*plan, index, weight);
      const CompressedWeight read = made.compressed(name);
      const bool smooths =
          std::ranges::any_of(expected.pre_quant_scale, [](float value) { return value != 1; });
      return is_same_weight(made, name, expected, turned) &&
             read.input_scale == expected.input_scale &&
             (smooths ? read.pre_quant_scale == expected.pre_quant_scale
                      : read.pre_quant_scale.empty());
    };
    return std::move(result_);
  }

 private:
  void warn(const std::string& text) {
    if (std::ranges::find(result_.warnings, text) == result_.warnings.end()) {
      result_.warnings.push_back(text);
    }
  }

  // TensorRT-LLM's heads have no bias; one of zeros is none.
  void check_head_bias() const {
    if (graph_.head.bias.empty() || !source_->contains(graph_.head.bias)) return;
    const std::vector<float> bias = to_f32(source_->dense(graph_.head.bias), graph_.head.bias);
    source_->release({graph_.head.bias});
    if (std::ranges::all_of(bias, [](float value) { return value == 0; })) return;
    throw Error(ErrorCode::kInputMalformed, source_->file_of(graph_.head.bias) + ": tensor \"" +
                                                graph_.head.bias +
                                                "\" is not zero; TensorRT-LLM's head has no bias");
  }

  void warn_of_windows() {
    for (const BlockGraph& block : graph_.blocks) {
      for (const AttentionSpec& attention : block.attentions) {
        if (attention.shape.window == 0) continue;
        warn(
            "the window of attention is not in this form: give the engine "
            "max_attention_window_size " +
            std::to_string(attention.shape.window));
      }
    }
  }

  void add_half(const TrtHalf& half, const Json& source_config) {
    const TrtLayout& layout = half.layout;
    const TrtSizes& sizes = layout.sizes;
    std::vector<TrtLinearPlan> plans;
    Plans shared;
    for (const TrtLinear& linear : layout.linears) {
      plans.push_back(plan_trt_linear(*source_, *layout.family, linear));
      const TrtLinearPlan& plan = plans.back();
      shared.push_back(std::make_shared<const TrtLinearPlan>(plan));
      for (const std::string& warning : plan.warnings) warn(warning);
      // Its Qwen models add none there, whatever the files hold.
      if (plan.bias && layout.family->decoder == std::string("qwen") && !linear.is_qkv) {
        throw Error(ErrorCode::kInputMalformed, "\"" + linear.sources[0] +
                                                    "\" has a bias; TensorRT-LLM's " +
                                                    layout.family->target + " has none there");
      }
      for (size_t i = 0; i < linear.sources.size(); ++i) {
        plan_of_[linear.sources[i] + ".weight"] = {shared.back(), i};
      }
    }
    warn_of_schemes(plans, sizes);
    const std::string cache = cache_format(half);
    const TrtQuantizationText quantization = trt_quantization(plans, layout, cache);
    for (const std::string& warning : quantization.warnings) warn(warning);
    const bool has_head = add_ranks(half, shared);
    const Json config = trt_config_json(layout, halves_[0].layout.sizes, source_config,
                                        quantization.quantization, plans, has_head);
    result_.files[half.label + "config.json"] = config.dump(2) + "\n";
    if (!quantization.layers.is_null()) {
      result_.files[half.label + "quant_cfg.json"] = quantization.layers.dump(2) + "\n";
    }
  }

  void warn_of_schemes(const std::vector<TrtLinearPlan>& plans, const TrtSizes& sizes) {
    if (sizes.written_kv_heads != sizes.kv_heads) {
      warn("tp_size " + std::to_string(sizes.tp_size) + " does not divide " +
           std::to_string(sizes.kv_heads) + " KV heads: each is written " +
           std::to_string(sizes.written_kv_heads / sizes.kv_heads) +
           " times, and the cache of keys and values grows with them");
    }
    for (const TrtLinearPlan& plan : plans) {
      if (plan.scheme.algo == TrtAlgo::kInt8WeightOnly) {
        warn(
            "INT8 weights alone are written as what they are worth, in BF16: TensorRT-LLM's "
            "builder rounds them to INT8 itself (W8A16)");
      }
      if (plan.smooths && plan.scheme.algo != TrtAlgo::kInt8PerToken) {
        warn("scales of inputs that nothing absorbed are rounded to BF16");
      }
      if (plan.scheme.algo == TrtAlgo::kInt4) {
        warn("TensorRT-LLM rounds INT4 scales to BF16 when it loads them");
      }
    }
  }

  // Of the half's caches: "FP8", "INT8", or "" where there is none.
  std::string cache_format(const TrtHalf& half) const {
    std::string format;
    size_t count = 0;
    for (const TrtCache& cache : half.layout.caches) {
      const std::string name = cache.source + ".kv_cache_dtype";
      if (!source_->contains(name)) continue;
      const TensorView text = source_->dense(name);
      const std::string_view found(reinterpret_cast<const char*>(text.bytes.data()),
                                   text.bytes.size());
      const std::string own = found == "int8" ? "INT8" : "FP8";
      if (count++ > 0 && own != format) refuse_cache(name, "differs between layers");
      format = own;
      for (const char* offset : {".k_bias", ".v_bias"}) {
        if (source_->contains(cache.source + offset)) {
          refuse_cache(cache.source + offset,
                       "has offsets, which TensorRT-LLM does not; quantize without --kv-affine");
        }
      }
    }
    if (count != 0 && count != half.layout.caches.size()) {
      refuse_cache(half.layout.caches[0].source + ".kv_cache_dtype", "is not there in all layers");
    }
    return format;
  }

  [[noreturn]] void refuse_cache(const std::string& name, const std::string& what) const {
    throw Error(ErrorCode::kInputMalformed, source_->path() + ": tensor \"" + name + "\" " + what);
  }

  float largest_scale(const std::string& name) {
    const std::vector<float> scales = to_f32(source_->dense(name), name);
    if (scales.size() > 1) {
      warn("scales of the cache for each head: TensorRT-LLM has one, the largest");
    }
    return *std::ranges::max_element(scales);
  }

  // Returns whether there is a head of its own.
  bool add_ranks(const TrtHalf& half, const Plans& plans) {
    const TrtLayout& layout = half.layout;
    const TrtSizes& sizes = layout.sizes;
    bool has_head = false;
    for (int64_t rank = 0; rank < sizes.tp_size * sizes.pp_size; ++rank) {
      const int64_t tp_rank = rank % sizes.tp_size;
      const int64_t pp_rank = rank / sizes.tp_size;
      RankPieces& made = ranks_.emplace_back();
      made.file = half.label + "rank" + std::to_string(rank) + ".safetensors";
      for (const TrtTensor& tensor : layout.tensors) {
        if (tensor.pp_rank != pp_rank) continue;
        std::string name = tensor.source;
        if (tensor.optional) {
          name = graph_.head.matrix;
          // The builder shares the table where one rank has both.
          const bool tied = name == graph_.embedding.tokens;
          if (tied && sizes.pp_size == 1 && half.label.empty()) continue;
          has_head = true;
        }
        made.pieces.push_back(trt_tensor_piece(source_, tensor, name, tp_rank, sizes.tp_size));
      }
      for (const auto& plan : plans) {
        if (plan->linear.pp_rank != pp_rank) continue;
        made.pieces.push_back(trt_linear_piece(source_, plan, tp_rank));
      }
      add_numbers(layout, plans, pp_rank, made.pieces);
    }
    return has_head || *layout.family->head == '\0';
  }

  // Scales of the cache, and what the plugin of INT8 asks of norms.
  void add_numbers(const TrtLayout& layout, const Plans& plans, int64_t pp_rank,
                   std::vector<TensorPiece>& pieces) {
    for (const TrtCache& cache : layout.caches) {
      if (cache.pp_rank != pp_rank || !source_->contains(cache.source + ".kv_cache_dtype"))
        continue;
      const float keys = largest_scale(cache.source + ".k_scale");
      const float values = largest_scale(cache.source + ".v_scale");
      if (keys != values) {
        warn("keys and values of the cache have one scale in TensorRT-LLM, the larger");
      }
      pieces.push_back(
          trt_number_piece({{cache.target + ".k_cache_scaling_factor", keys},
                            {cache.target + ".kv_cache_scaling_factor", std::max(keys, values)},
                            {cache.target + ".v_cache_scaling_factor", values}}));
    }
    if (plans.empty() || plans[0]->scheme.algo != TrtAlgo::kInt8PerToken) return;
    std::vector<std::pair<std::string, float>> norms;
    for (size_t i = 0; i < layout.layer_norms.size(); ++i) {
      if (layout.norm_pp_rank[i] != pp_rank) continue;
      norms.emplace_back(layout.layer_norms[i] + ".scale_to_int", 1.0F);
    }
    pieces.push_back(trt_number_piece(std::move(norms)));
  }

  std::shared_ptr<const WeightSource> source_;
  const ModelGraph& graph_;
  std::vector<TrtHalf> halves_;
  std::vector<RankPieces> ranks_;
  PlanOf plan_of_;
  EngineExport result_;
};

}  // namespace

void require_tensorrt_llm(const LinearSurvey& survey, const EngineOptions& options) {
  std::map<std::string, LinearScheme> schemes;
  for (const SurveyedLinear& linear : survey.quantized) schemes[linear.module] = linear.scheme;
  for (const TrtHalf& half :
       plan_tensorrt_llm(survey.model.graph, options.tp_size, options.pp_size)) {
    for (const TrtLinear& linear : half.layout.linears) {
      for (const std::string& module : linear.sources) {
        const TrtScheme scheme = trt_scheme(schemes[module], "\"" + module + "\"");
        check_trt_linear(*half.layout.family, linear, scheme);
      }
    }
  }
  refuse_cache(survey.cache, "TensorRT-LLM's checkpoint", /*holds_int8=*/true);
}

EngineExport export_tensorrt_llm(const LinearSurvey& survey, const EngineOptions& options) {
  return Exporter(survey.model, options).make();
}

}  // namespace pare
