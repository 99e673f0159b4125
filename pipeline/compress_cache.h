// The quantized cache of keys and values in a job: which attentions have one, its scales from the
// calibration tokens, its tensors in the checkpoint.
#pragma once

#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "formats/weight_source.h"
#include "model/block_graph.h"
#include "pare/quantize.h"
#include "pipeline/calibration_run.h"
#include "pipeline/compressed_block.h"

namespace pare {

/// What kv_cache, kv_scales and kv_affine ask for. Throws Error(kUsage) for unknown words.
CacheSpec find_cache_spec(const QuantizeOptions& options);

/// Checks that the model can have such a cache: throws Error(kUsage) when no attention keeps keys
/// and values (scans, encoders, latent attention), and, whatever the spec, when the model's cache
/// is quantized already. Returns warnings about layers that are left alone.
std::vector<std::string> check_cache_plan(const CacheSpec& spec, const ModelGraph& graph,
                                          const std::string& origin);

/// The block with the spec in each attention that keeps keys and values.
BlockGraph with_cache(const BlockGraph& block, const CacheSpec& spec);

/// The attentions of a block that has been through with_cache(), without figures.
std::vector<CacheReport> planned_caches(const BlockGraph& block);

/// Runs the calibration tokens to the attentions of the compressed block and adds the tensors of
/// their caches and the reports to it. `block` is one that has been through with_cache().
void compress_cache(const BlockGraph& block, const WeightSource& source, CalibrationRun& tokens,
                    ThreadPool& pool, CompressedBlock& tensors);

/// Bytes that compress_cache() takes at most.
int64_t cache_calibration_bytes(const BlockGraph& block, int64_t sequences);

}  // namespace pare
