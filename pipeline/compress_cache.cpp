#include "pipeline/compress_cache.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "calib/cache_statistics.h"
#include "model/cache_tensors.h"
#include "pare/error.h"
#include "quant/cache_scales.h"

namespace pare {
namespace {

template <typename Visit>
void for_each_cached(const BlockGraph& block, const Visit& visit) {
  for (size_t i = 0; i < block.ops.size(); ++i) {
    if (block.ops[i].kind != OpKind::kAttention) continue;
    const AttentionSpec& spec = block.attentions[static_cast<size_t>(block.ops[i].detail)];
    if (spec.cache.format != CacheFormat::kNone) visit(i, spec);
  }
}

// The part of a block that fills its caches. Values and weights keep their numbers.
BlockGraph up_to_last_attention(const BlockGraph& block) {
  BlockGraph part = block;
  size_t count = 0;
  for (size_t i = 0; i < block.ops.size(); ++i) {
    if (block.ops[i].kind == OpKind::kAttention) count = i + 1;
  }
  part.ops.resize(count);
  part.output = 0;
  part.experts.reset();
  for (AttentionSpec& attention : part.attentions) attention.cache = {};
  return part;
}

const char* format_word(CacheFormat format) {
  return format == CacheFormat::kInt8 ? "int8" : "fp8";
}

std::vector<std::byte> text_bytes(std::string_view text) {
  std::vector<std::byte> bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

void add_tensors(const BlockGraph& block, const Op& op, const KeyValueFormat& format,
                 CompressedBlock& tensors) {
  const std::vector<CacheTensor> names = cache_tensors(block, op);
  const Shape& text_shape = names[0].shape;
  tensors.dense.push_back(
      {names[0].name, DType::kU8, text_shape, text_bytes(cache_format_name(format.format))});
  const std::vector<float>* values[] = {&format.keys.scale, &format.values.scale,
                                        &format.keys.offset, &format.values.offset};
  for (size_t i = 1; i < names.size(); ++i) {
    tensors.dense.push_back(
        {names[i].name, DType::kF32, names[i].shape, encode_values(*values[i - 1], DType::kF32)});
  }
}

CacheReport make_report(const BlockGraph& block, const Op& op, const AttentionSpec& spec) {
  CacheReport report;
  report.name = attention_name(block, op);
  report.format = format_word(spec.cache.format);
  report.scales = spec.cache.per_head ? "head" : "tensor";
  report.affine = spec.cache.affine;
  report.kv_heads = spec.shape.kv_heads;
  return report;
}

CacheFigures figures_of(const CacheRange& range, CacheFormat format, const CacheScales& scales) {
  CacheFigures figures;
  figures.minimum =
      static_cast<double>(*std::min_element(range.minimum.begin(), range.minimum.end()));
  figures.maximum =
      static_cast<double>(*std::max_element(range.maximum.begin(), range.maximum.end()));
  figures.beyond_e4m3 = static_cast<double>(range.beyond_e4m3) /
                        static_cast<double>(std::max<int64_t>(1, range.values));
  figures.sqnr_db = cache_sqnr_db(range, format, scales);
  return figures;
}

}  // namespace

CacheSpec find_cache_spec(const QuantizeOptions& options) {
  const auto refuse = [](const char* option, const std::string& value, const char* known) {
    throw Error(ErrorCode::kUsage,
                std::string(option) + " is \"" + value + "\"; expected " + known);
  };
  CacheSpec spec;
  if (options.kv_cache == "fp8") {
    spec.format = CacheFormat::kFp8E4m3;
  } else if (options.kv_cache == "int8") {
    spec.format = CacheFormat::kInt8;
  } else if (options.kv_cache != "none") {
    refuse("kv_cache", options.kv_cache, "none, fp8 or int8");
  }
  if (options.kv_scales != "tensor" && options.kv_scales != "head") {
    refuse("kv_scales", options.kv_scales, "tensor or head");
  }
  spec.per_head = options.kv_scales == "head";
  spec.affine = options.kv_affine;
  return spec;
}

std::vector<std::string> check_cache_plan(const CacheSpec& spec, const ModelGraph& graph,
                                          const std::string& origin) {
  // Scales that move into the values would leave those of its cache behind.
  if (has_caches(graph)) {
    throw Error(ErrorCode::kUsage,
                origin + ": its KV cache is quantized already; give the original model");
  }
  if (spec.format == CacheFormat::kNone) return {};
  int64_t cached = 0;
  int64_t latent = 0;
  int64_t without = 0;
  for (const BlockGraph& block : graph.blocks) {
    const int64_t before = cached + latent;
    for (const Op& op : block.ops) {
      if (op.kind != OpKind::kAttention) continue;
      const CacheKind kind = cache_kind(block, op);
      cached += kind == CacheKind::kKeysAndValues ? 1 : 0;
      latent += kind == CacheKind::kLatent ? 1 : 0;
    }
    if (cached + latent == before) ++without;
  }
  const std::string option = std::string("kv_cache ") + format_word(spec.format);
  if (cached == 0) {
    throw Error(ErrorCode::kUsage,
                origin + ": " + option + " has nothing to quantize in a " + graph.architecture +
                    (latent > 0 ? ": its attention keeps one latent vector a token instead of keys "
                                  "and values, which has no quantized form here"
                                : ": no layer of it keeps keys and values") +
                    "; leave kv_cache out");
  }
  std::vector<std::string> warnings;
  if (without + latent > 0) {
    warnings.push_back(option + " concerns " + std::to_string(cached) + " attentions of " +
                       std::to_string(graph.blocks.size()) + " layers; " +
                       std::to_string(without + latent) +
                       " layers keep no keys and values (scans, convolutions, latent attention) "
                       "and are left alone");
  }
  return warnings;
}

BlockGraph with_cache(const BlockGraph& block, const CacheSpec& spec) {
  BlockGraph result = block;
  if (spec.format == CacheFormat::kNone) return result;
  for (const Op& op : block.ops) {
    if (op.kind != OpKind::kAttention) continue;
    if (cache_kind(block, op) != CacheKind::kKeysAndValues) continue;
    result.attentions[static_cast<size_t>(op.detail)].cache = spec;
  }
  return result;
}

std::vector<CacheReport> planned_caches(const BlockGraph& block) {
  std::vector<CacheReport> reports;
  for_each_cached(block, [&](size_t op, const AttentionSpec& spec) {
    reports.push_back(make_report(block, block.ops[op], spec));
  });
  return reports;
}

void compress_cache(const BlockGraph& block, const WeightSource& source, CalibrationRun& tokens,
                    ThreadPool& pool, CompressedBlock& tensors) {
  if (planned_caches(block).empty()) return;
  const BlockGraph part = up_to_last_attention(block);
  const BlockWeights weights = make_block_weights(part, tensors, source, Precision::kBf16);
  CacheCollector collector(part, tokens.sequences(), tokens.tokens());
  tokens.look_through(part, weights,
                      [&](int64_t sequence) { return collector.observer(sequence); });
  for_each_cached(block, [&](size_t op, const AttentionSpec& spec) {
    const CacheStatistics statistics = collector.take(op);
    KeyValueFormat format;
    format.format = spec.cache.format;
    format.keys = choose_cache_scales(statistics.keys, spec.cache, pool);
    format.values = choose_cache_scales(statistics.values, spec.cache, pool);
    add_tensors(block, block.ops[op], format, tensors);
    CacheReport report = make_report(block, block.ops[op], spec);
    report.keys = figures_of(statistics.keys, format.format, format.keys);
    report.values = figures_of(statistics.values, format.format, format.values);
    tensors.caches.push_back(std::move(report));
  });
}

int64_t cache_calibration_bytes(const BlockGraph& block, int64_t sequences) {
  int64_t bytes = 0;
  for_each_cached(block, [&](size_t, const AttentionSpec& spec) {
    bytes += CacheCollector::memory_bytes(spec.shape, sequences);
  });
  return bytes;
}

}  // namespace pare
