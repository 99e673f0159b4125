// Static scales, and offsets, of a quantized cache of keys and values.
//
// The range of a head, or of all heads, over all calibration tokens gives the scale absmax / 127
// (INT8) or absmax / 448 (FP8). FP8 is a floating-point format, whose error depends on where in an
// octave the values lie: of the scales up to twice as large, the one with the least squared error
// on the sample is taken. An offset of INT8 is the middle of its channel's range, which needs the
// smallest scale; one of FP8 is the mean, from which values are nearest.
//
//   CacheScales keys = choose_cache_scales(statistics.keys, {CacheFormat::kInt8, true}, pool);
#pragma once

#include <optional>

#include "calib/cache_statistics.h"
#include "core/thread_pool.h"
#include "kernels/key_value_format.h"
#include "model/block_graph.h"

namespace pare {

/// REQUIRES: spec.format is not kNone, finite statistics.
CacheScales choose_cache_scales(const CacheRange& range, const CacheSpec& spec, ThreadPool& pool);

/// Signal-to-noise ratio of the sample as the cache gives it back, in decibels; empty without
/// noise. The signal is what differs between tokens: the mean of each channel is taken off, since
/// one that all keys share changes no probability.
std::optional<double> cache_sqnr_db(const CacheRange& range, CacheFormat format,
                                    const CacheScales& scales);

}  // namespace pare
