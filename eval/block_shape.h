// Which blocks can use the same working memory.
#pragma once

#include <algorithm>

#include "model/block_graph.h"

namespace pare {

inline bool same_cache(const AttentionSpec& a, const AttentionSpec& b) {
  return a.shape.heads == b.shape.heads && a.shape.kv_heads == b.shape.kv_heads &&
         a.shape.head_dim == b.shape.head_dim && a.shape.value_width() == b.shape.value_width() &&
         a.memory == b.memory;
}

/// Whether a BlockWorkspace made for one block fits the other.
inline bool same_workspace(const BlockGraph& a, const BlockGraph& b) {
  const auto same_op = [](const Op& x, const Op& y) {
    return x.kind == y.kind && x.inputs == y.inputs && x.output == y.output && x.detail == y.detail;
  };
  return a.widths == b.widths && a.output == b.output && a.bidirectional() == b.bidirectional() &&
         std::equal(a.ops.begin(), a.ops.end(), b.ops.begin(), b.ops.end(), same_op) &&
         std::equal(a.attentions.begin(), a.attentions.end(), b.attentions.begin(),
                    b.attentions.end(), same_cache) &&
         std::equal(a.convolutions.begin(), a.convolutions.end(), b.convolutions.begin(),
                    b.convolutions.end(),
                    [](const ConvolutionSpec& x, const ConvolutionSpec& y) {
                      return x.kernel == y.kernel;
                    }) &&
         std::equal(
             a.scans.begin(), a.scans.end(), b.scans.begin(), b.scans.end(),
             [](const ScanSpec& x, const ScanSpec& y) { return x.state_size == y.state_size; });
}

}  // namespace pare
