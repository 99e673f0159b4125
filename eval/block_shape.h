// Which blocks can use the same working memory.
#pragma once

#include "model/block_graph.h"

namespace pare {

/// Whether a BlockWorkspace made for one block fits the other.
inline bool same_workspace(const BlockGraph& a, const BlockGraph& b) {
  return a.attention.heads == b.attention.heads && a.attention.kv_heads == b.attention.kv_heads &&
         a.attention.head_dim == b.attention.head_dim && a.widths == b.widths;
}

}  // namespace pare
