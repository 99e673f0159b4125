#include "engines/tensorrt_llm_split.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "pare/error.h"

namespace pare {
namespace {

[[noreturn]] void unfit(const ModelGraph& graph, const std::string& what) {
  throw Error(ErrorCode::kInputMalformed,
              graph.architecture + ": " + what + "; --export tensorrt-llm has no place for that");
}

// The name in the tables of an op of a block: of an expert's with {} for its number.
const TrtModule* find_module(const TrtFamily& family, const std::string& name) {
  const auto found = std::ranges::find_if(
      family.modules, [&](const TrtModule& module) { return name == module.source; });
  return found == family.modules.end() ? nullptr : &*found;
}

class Measurer {
 public:
  Measurer(const ModelGraph& graph, const TrtFamily& family, const std::vector<BlockGraph>& blocks,
           const EmbeddingSpec& embedding)
      : graph_(graph), family_(family), blocks_(blocks), embedding_(embedding) {}

  TrtSizes measure(int64_t tp_size, int64_t pp_size) {
    sizes_.tp_size = tp_size;
    sizes_.pp_size = pp_size;
    sizes_.layers = static_cast<int64_t>(blocks_.size());
    sizes_.hidden = blocks_.at(0).widths.at(0);
    sizes_.vocab = embedding_.vocab_size;
    sizes_.gated = false;
    if (embedding_.position_kind == PositionKind::kLearned) {
      sizes_.positions = embedding_.position_rows - family_.position_offset;
    }
    if (embedding_.width != sizes_.hidden) unfit(graph_, "embeddings as wide as no layer");
    for (const BlockGraph& block : blocks_) measure(block);
    if (family_.fixed_mlp && sizes_.intermediate != 4 * sizes_.hidden) {
      unfit(graph_, "an MLP that is not four times as wide as the model");
    }
    const bool half = family_.target_layers != std::string("transformer.layers.");
    sizes_.embedding = half ? TrtForm::kWhole : TrtForm::kPadded;
    sizes_.written_kv_heads = written_kv_heads(sizes_.heads, sizes_.kv_heads, tp_size);
    return sizes_;
  }

 private:
  void set(int64_t& size, int64_t value, const char* what) const {
    if (size == 0) size = value;
    if (size != value) unfit(graph_, std::string("layers differ in ") + what);
  }

  void measure(const BlockGraph& block) {
    for (const AttentionSpec& attention : block.attentions) measure(attention);
    for (const RotaryShape& rotary : block.rotaries) {
      const bool partly = rotary.rotated != rotary.head_dim && !family_.partial_rotary;
      if (rotary.interleaved || partly) {
        unfit(graph_, "rotary embedding of a part of each head, or of neighbours");
      }
      if (family_.fixed_rotary && !has_usual_base(rotary)) {
        unfit(graph_, "rotary embedding with another base than 10,000");
      }
      // It has factors of its own, which its configuration takes in another form.
      if (!rotary.long_inverse_frequency.empty()) unfit(graph_, "rotary embedding by LongRoPE");
    }
    check_residual(block);
    if (block.experts) {
      sizes_.experts = block.experts->count;
      for (const Op& op : block.experts->expert->ops) {
        measure(*block.experts->expert, op, block.experts->expert_prefix + "{}." + op.name);
      }
    }
    for (const Op& op : block.ops) measure(block, op, op.name);
  }

  // The halves of a block, and what each of them reads and is added to.
  void check_residual(const BlockGraph& block) {
    const auto is_add = [](const Op& op) { return op.kind == OpKind::kAdd; };
    const bool to_input = std::ranges::none_of(block.ops, is_add) ||
                          std::ranges::any_of(block.ops, [&](const Op& op) {
                            return is_add(op) && std::ranges::find(op.inputs, 0) != op.inputs.end();
                          });
    int64_t from_input = 0;
    for (const Op& op : block.ops) {
      if (op.kind != OpKind::kNorm || op.norm.width > 0) continue;
      from_input += op.inputs[0] == 0 ? 1 : 0;
      if (family_.fixed_epsilon && op.norm.epsilon != 1e-5F) {
        unfit(graph_, "norms with another epsilon than 1e-5");
      }
    }
    if (!to_input) unfit(graph_, "a residual behind the norm");
    if (family_.input_norms == 2 && from_input != 2) {
      unfit(graph_, "attention and MLP one after the other");
    }
    if (family_.input_norms == 1 && from_input > 1) {
      unfit(graph_, "attention and MLP beside each other");
    }
    const bool half = family_.target_layers != std::string("transformer.layers.");
    if (!half && from_input == 0) unfit(graph_, "norms behind attention and MLP");
  }

  static bool has_usual_base(const RotaryShape& rotary) {
    constexpr double kBase = 10000;
    constexpr double kNear = 1e-5;
    for (size_t i = 0; i < rotary.inverse_frequency.size(); ++i) {
      const double usual =
          std::pow(kBase, -2.0 * static_cast<double>(i) / static_cast<double>(rotary.rotated));
      const auto found = static_cast<double>(rotary.inverse_frequency[i]);
      if (std::abs(found - usual) > kNear * usual) return false;
    }
    return rotary.attention_factor == 1;
  }

  void measure(const AttentionSpec& attention) {
    const AttentionShape& shape = attention.shape;
    set(sizes_.heads, shape.heads, "their number of heads");
    set(sizes_.kv_heads, shape.kv_heads, "their number of KV heads");
    set(sizes_.head_dim, shape.head_dim, "the width of a head");
    if (!attention.relative_bias.table.empty()) {
      set(sizes_.buckets, attention.relative_bias.buckets, "the buckets of their bias");
    }
    const bool relative = family_.position_embedding_type == std::string("relative");
    const float usual = relative ? 1.0F : 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
    const AlibiSpec& alibi = attention.alibi;
    const bool has_alibi = family_.position_embedding_type == std::string("alibi");
    if (shape.scale != usual || shape.soft_cap != 0 || attention.sinks ||
        alibi.slopes.empty() == has_alibi || alibi.scale != 1 || alibi.bf16 ||
        shape.value_width() != shape.head_dim) {
      unfit(graph_, "attention with a scale, cap, sinks or biases of its own");
    }
  }

  void measure(const BlockGraph& block, const Op& op, const std::string& name) {
    const bool by_group = std::ranges::any_of(family_.modules, [](const TrtModule& module) {
      return module.kind == TrtKind::kQkvGroups;
    });
    if (op.kind == OpKind::kSlice && op.slice.stride != block.width(op.inputs[0]) && !by_group) {
      unfit(graph_, "queries, keys and values that alternate by head in one linear");
    }
    // Halves in one tensor have one name for what multiplies them, and that says SiLU.
    const bool halves_in_one = std::ranges::any_of(family_.modules, [](const TrtModule& module) {
      return module.kind == TrtKind::kGateUp || module.kind == TrtKind::kExpertUp;
    });
    if (op.kind == OpKind::kGatedActivation && halves_in_one &&
        op.activation != Activation::kSilu) {
      unfit(graph_, "another activation than SiLU");
    }
    if (op.kind != OpKind::kLinear && op.kind != OpKind::kNorm) return;
    const TrtModule* module = find_module(family_, name);
    if (op.kind == OpKind::kNorm && op.norm.width == 0 &&
        (!op.norm.weight || op.norm.bias != (family_.norms == TrtNorms::kLayerNorm))) {
      unfit(graph_, "norms with other parameters than its family's");
    }
    if (module == nullptr) unfit(graph_, "\"" + block.full_name(op) + "\"");
    if (op.kind == OpKind::kLinear && op.linear.adapter_rank > 0) {
      unfit(graph_, "an adapter beside \"" + block.full_name(op) + "\"");
    }
    if (module->kind == TrtKind::kUp || module->kind == TrtKind::kExpertUp) {
      set(sizes_.intermediate, block.out_features(op), "the width of their MLP");
    }
    if (module->kind == TrtKind::kGateUp) {
      set(sizes_.intermediate, block.out_features(op) / 2, "the width of their MLP");
    }
    if (module->when == TrtWhen::kGated) sizes_.gated = true;
  }

  const ModelGraph& graph_;
  const TrtFamily& family_;
  const std::vector<BlockGraph>& blocks_;
  const EmbeddingSpec& embedding_;
  TrtSizes sizes_;
};

// Of those with the architecture the one that names what the layers have; the first where none
// does, for the message.
const TrtFamily* family_of(const ModelGraph& graph) {
  const std::vector<const TrtFamily*> families = find_trt_families(graph.architecture);
  for (const TrtFamily* family : families) {
    const bool names_all = std::ranges::all_of(graph.blocks, [&](const BlockGraph& block) {
      return std::ranges::all_of(block.ops, [&](const Op& op) {
        const bool has_name = op.kind == OpKind::kLinear || op.kind == OpKind::kNorm;
        return !has_name || find_module(*family, op.name) != nullptr;
      });
    });
    if (names_all) return family;
  }
  return families.empty() ? nullptr : families.front();
}

TrtHalf plan_half(const ModelGraph& graph, const TrtFamily& family, const std::string& label,
                  const std::vector<BlockGraph>& blocks, const EmbeddingSpec& embedding,
                  int64_t tp_size, int64_t pp_size) {
  if (blocks.empty()) unfit(graph, "no layers");
  const TrtSizes sizes = Measurer(graph, family, blocks, embedding).measure(tp_size, pp_size);
  if (const std::string fault = trt_split_fault(sizes); !fault.empty()) {
    throw Error(ErrorCode::kUsage, graph.architecture + ": " + fault);
  }
  return {label, make_trt_layout(family, sizes)};
}

}  // namespace

std::vector<TrtHalf> plan_tensorrt_llm(const ModelGraph& graph, int64_t tp_size, int64_t pp_size) {
  if (graph.head.soft_cap != 0 || graph.head.logit_scale != 1) {
    unfit(graph, "logits that are scaled or capped");
  }
  if (graph.vocab_size != graph.embedding.vocab_size) unfit(graph, "a head of another vocabulary");
  if (graph.encoder) {
    const TrtFamily* encoder = find_trt_encoder(graph.architecture);
    if (encoder != nullptr) {
      return {plan_half(graph, *encoder, "encoder/", graph.encoder->blocks,
                        graph.encoder->embedding, tp_size, pp_size),
              plan_half(graph, *find_trt_decoder(graph.architecture), "decoder/", graph.blocks,
                        graph.embedding, tp_size, pp_size)};
    }
  } else if (const TrtFamily* family = family_of(graph); family != nullptr) {
    return {plan_half(graph, *family, "", graph.blocks, graph.embedding, tp_size, pp_size)};
  }
  throw Error(ErrorCode::kInputMalformed, graph.architecture + ": --export tensorrt-llm writes " +
                                              known_trt_families() +
                                              "; for this model choose another form");
}

void check_trt_linear(const TrtFamily& family, const TrtLinear& linear, const TrtScheme& scheme) {
  const std::string name = linear.sources.at(0);
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorCode::kInputMalformed, "\"" + name + "\": " + what);
  };
  const std::string algo = trt_algo_info(scheme.algo).name;
  if ((scheme.algo == TrtAlgo::kInt8PerToken && !family.plugin_int8) ||
      (scheme.algo == TrtAlgo::kFp8Rowwise && !family.rowwise_fp8)) {
    refuse(
        "TensorRT-LLM has no " + algo + " for " + family.architecture +
        "; quantize with static inputs (--qformat fp8, or int8_sq without --dynamic-activations)");
  }
  const bool in_experts = scheme.algo == TrtAlgo::kNone || scheme.algo == TrtAlgo::kFp8 ||
                          scheme.algo == TrtAlgo::kInt4 || scheme.algo == TrtAlgo::kInt8WeightOnly;
  if (linear.experts > 0 && !in_experts) {
    refuse("TensorRT-LLM has no " + algo + " for experts; quantize them with fp8 or int4_awq");
  }
  const auto unsplittable = [&](const std::string& what) {
    throw Error(ErrorCode::kUsage, "\"" + name + "\": " + what);
  };
  const auto ranks = std::to_string(linear.runs.size());
  if (scheme.group_size > 0 && linear.local_columns() % scheme.group_size != 0) {
    unsplittable(std::to_string(linear.columns) + " columns between " + ranks + " ranks are " +
                 std::to_string(linear.local_columns()) + " each, which groups of " +
                 std::to_string(scheme.group_size) +
                 " do not divide; use another tp_size or --awq_block_size");
  }
  if (scheme.algo != TrtAlgo::kInt4 && scheme.algo != TrtAlgo::kInt4Fp8) return;
  for (size_t rank = 0; rank < linear.runs.size(); ++rank) {
    const Shape shape = linear.local_shape(static_cast<int64_t>(rank));
    const int64_t rows = shape[shape.size() - 2];
    if (rows % 2 == 0) continue;
    unsplittable("has " + std::to_string(rows) +
                 " rows on a rank, but INT4 is packed two rows a byte; use another tp_size");
  }
}

TrtScheme trt_scheme(const LinearScheme& scheme, const std::string& subject) {
  const std::optional<TrtAlgo> algo = find_trt_algo(scheme);
  if (algo) {
    const bool grouped = trt_algo_info(*algo).group_size > 0;
    return {*algo, grouped ? scheme.group_size : 0};
  }
  std::string what = "this format";
  std::string instead = "quantize with fp8, int8_sq or int4_awq";
  if (is_fp4(scheme.weight)) {
    what = scheme.weight == WeightFormat::kNvfp4 ? "NVFP4" : "MXFP4";
  } else if (!scheme.symmetric) {
    what = "INT4 with zero points";
    instead = "quantize without --asym";
  } else if (scheme.weight == WeightFormat::kInt4) {
    what = "INT4 with a scale for a whole channel";
    instead = "quantize with --awq_block_size 128";
  } else if (scheme.weight == WeightFormat::kFp8E4m3 && scheme.block_rows > 1) {
    what = "FP8 in blocks";
    instead = "quantize with fp8 or fp8_pc_pt";
  }
  throw Error(ErrorCode::kInputMalformed,
              subject + ": TensorRT-LLM's checkpoint has no place for " + what + "; " + instead);
}

}  // namespace pare
