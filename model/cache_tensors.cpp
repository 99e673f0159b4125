#include "model/cache_tensors.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>

#include "model/block_wiring.h"
#include "pare/error.h"

namespace pare {
namespace {

constexpr std::array<CacheFormat, 2> kFormats{CacheFormat::kFp8E4m3, CacheFormat::kInt8};

// Calls visit(op) for the maker of the keys and for what made its input, up to the linear, which is
// returned.
template <typename Visit>
const Op* walk_to_linear(const BlockGraph& block, const Op& attention, const Visit& visit) {
  const Op* op = maker_of(block, attention.inputs[1]);
  while (op != nullptr && op->kind != OpKind::kLinear) {
    visit(*op);
    op = maker_of(block, op->inputs[0]);
  }
  return op;
}

template <typename Visit>
void for_each_attention(const ModelGraph& graph, const Visit& visit) {
  for (const BlockGraph& block : graph.blocks) {
    for (const Op& op : block.ops) {
      if (op.kind == OpKind::kAttention) visit(block, op);
    }
  }
}

const AttentionSpec& spec_of(const BlockGraph& block, const Op& op) {
  return block.attentions[static_cast<size_t>(op.detail)];
}

[[noreturn]] void malformed(const std::string& file, const std::string& name,
                            const std::string& what) {
  throw Error(ErrorCode::kInputMalformed, file + ": tensor \"" + name + "\" " + what);
}

CacheFormat read_format(const WeightSource& source, const std::string& name) {
  const std::string expected = "expected the bytes of \"float8_e4m3fn\" or \"int8\"";
  if (source.is_compressed(name)) malformed(source.file_of(name), name, "is a weight, " + expected);
  const TensorView view = source.dense(name);
  if (view.dtype != DType::kU8 || view.shape.size() != 1) {
    malformed(source.file_of(name), name,
              "is " + std::string(dtype_name(view.dtype)) + " " + shape_text(view.shape) + ", " +
                  expected);
  }
  const std::string_view text(reinterpret_cast<const char*>(view.bytes.data()), view.bytes.size());
  for (const CacheFormat format : kFormats) {
    if (text == cache_format_name(format)) return format;
  }
  constexpr size_t kShown = 32;
  std::string shown(text.substr(0, kShown));
  std::replace_if(
      shown.begin(), shown.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  malformed(source.file_of(name), name, "says \"" + shown + "\", " + expected);
}

std::vector<float> read_values(const TensorLookup& tensors, const std::string& name) {
  const TensorView view = tensors.dense(name);
  if (view.dtype != DType::kF32) {
    malformed(tensors.file_of(name), name,
              "is " + std::string(dtype_name(view.dtype)) + ", expected float32");
  }
  return to_f32(view, name);
}

std::vector<float> read_scales(const TensorLookup& tensors, const std::string& name) {
  std::vector<float> values = read_values(tensors, name);
  for (const float value : values) {
    // The reciprocal of a smaller one would be no number to multiply by.
    if (std::isfinite(value) && value >= std::numeric_limits<float>::min()) continue;
    malformed(tensors.file_of(name), name,
              "holds the scale " + std::to_string(value) + ", expected positive finite ones");
  }
  return values;
}

std::vector<float> read_offsets(const TensorLookup& tensors, const std::string& name) {
  std::vector<float> values = read_values(tensors, name);
  for (const float value : values) {
    if (std::isfinite(value)) continue;
    malformed(tensors.file_of(name), name,
              "holds the offset " + std::to_string(value) + ", expected finite ones");
  }
  return values;
}

}  // namespace

CacheKind cache_kind(const BlockGraph& block, const Op& op) {
  const AttentionSpec& spec = spec_of(block, op);
  if (!spec.memory && !spec.shape.causal) return CacheKind::kNone;
  CacheKind kind = CacheKind::kKeysAndValues;
  walk_to_linear(block, op, [&](const Op& made) {
    if (made.kind == OpKind::kJoinHeads) kind = CacheKind::kLatent;
  });
  return kind;
}

std::string attention_name(const BlockGraph& block, const Op& op) {
  const Op* linear = walk_to_linear(block, op, [](const Op&) {});
  if (linear == nullptr) {
    throw Error(ErrorCode::kInternal, block.prefix + ": no linear makes the keys of an attention");
  }
  const std::string name = block.full_name(*linear);
  return name.substr(0, name.rfind('.'));
}

std::string_view cache_format_name(CacheFormat format) {
  return format == CacheFormat::kInt8 ? "int8" : "float8_e4m3fn";
}

std::vector<CacheTensor> cache_tensors(const BlockGraph& block, const Op& op) {
  const AttentionSpec& spec = spec_of(block, op);
  if (spec.cache.format == CacheFormat::kNone) return {};
  const std::string name = attention_name(block, op);
  const int64_t heads = spec.shape.kv_heads;
  const Shape scale = spec.cache.per_head ? Shape{heads, 1, 1} : Shape{1};
  std::vector<CacheTensor> tensors = {
      {name + ".kv_cache_dtype",
       {static_cast<int64_t>(cache_format_name(spec.cache.format).size())}},
      {name + ".k_scale", scale},
      {name + ".v_scale", scale}};
  if (spec.cache.affine) {
    tensors.push_back({name + ".k_bias", {heads, 1, spec.shape.head_dim}});
    tensors.push_back({name + ".v_bias", {heads, 1, spec.shape.value_width()}});
  }
  return tensors;
}

void find_caches(ModelGraph& graph, const WeightSource& source) {
  for (BlockGraph& block : graph.blocks) {
    for (const Op& op : block.ops) {
      if (op.kind != OpKind::kAttention) continue;
      if (cache_kind(block, op) != CacheKind::kKeysAndValues) continue;
      const std::string name = attention_name(block, op);
      if (!source.contains(name + ".kv_cache_dtype")) continue;
      CacheSpec& cache = block.attentions[static_cast<size_t>(op.detail)].cache;
      cache.format = read_format(source, name + ".kv_cache_dtype");
      const std::string scale = name + ".k_scale";
      cache.per_head = source.contains(scale) && source.shape(scale).size() != 1;
      cache.affine = source.contains(name + ".k_bias") || source.contains(name + ".v_bias");
    }
  }
}

KeyValueFormat load_cache_format(const BlockGraph& block, const Op& op,
                                 const TensorLookup& tensors) {
  const std::vector<CacheTensor> names = cache_tensors(block, op);
  KeyValueFormat format;
  format.format = spec_of(block, op).cache.format;
  format.keys.scale = read_scales(tensors, names[1].name);
  format.values.scale = read_scales(tensors, names[2].name);
  if (names.size() > 3) {
    format.keys.offset = read_offsets(tensors, names[3].name);
    format.values.offset = read_offsets(tensors, names[4].name);
  }
  return format;
}

void check_caches(const ModelGraph& graph, const WeightSource& source) {
  const SourceLookup tensors(source);
  for_each_attention(graph, [&](const BlockGraph& block, const Op& op) {
    if (spec_of(block, op).cache.format != CacheFormat::kNone) {
      load_cache_format(block, op, tensors);
    }
  });
}

bool has_caches(const ModelGraph& graph) {
  bool any = false;
  for_each_attention(graph, [&](const BlockGraph& block, const Op& op) {
    any = any || spec_of(block, op).cache.format != CacheFormat::kNone;
  });
  return any;
}

std::string cache_label(const ModelGraph& graph) {
  std::set<CacheFormat> formats;
  for_each_attention(graph, [&](const BlockGraph& block, const Op& op) {
    formats.insert(spec_of(block, op).cache.format);
  });
  formats.erase(CacheFormat::kNone);
  std::string label;
  for (const CacheFormat format : formats) {
    label +=
        std::string(label.empty() ? "" : "+") + (format == CacheFormat::kInt8 ? "int8" : "fp8");
  }
  return label.empty() ? "none" : label;
}

}  // namespace pare
