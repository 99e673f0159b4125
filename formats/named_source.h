// A WeightSource under the names that a model's description expects, and parts as tensors.
//
// Files name the same tensor differently from one release to the next, and fuse what a description
// wants one by one: all experts of a layer in one tensor, say. A named source maps each presented
// tensor to a whole stored one, or to a contiguous part of it. Parts are views where the base has
// the bytes; where the base decodes, a part decodes no more than itself, and releasing it frees no
// more than itself. Shares ownership of the base; thread-safe.
//
//   std::map<std::string, StoredTensor> map = resolve_names(wanted, *base);
//   map["experts.3.down"] = index_part(whole_tensor(*base, "experts.down"), 3);
//   auto source = make_named_source(base, map);
#pragma once

#include <map>
#include <memory>
#include <string>

#include "formats/weight_source.h"

namespace pare {

/// Where a presented tensor lies in the source.
struct StoredTensor {
  std::string name;   ///< In the source.
  int64_t first = 0;  ///< Element of the stored tensor, in row-major order, at which it begins.
  Shape shape;        ///< Of the presented tensor: the elements follow each other without gaps.
};

/// All of a tensor, in its own shape. Throws Error(kInputMalformed) when it is missing.
StoredTensor whole_tensor(const WeightSource& source, const std::string& name);

/// Number `index` of the outermost dimension, which goes: expert e of [experts, out, in] is
/// [out, in]. Throws Error(kInputMalformed), naming the tensor, when there is no such index.
StoredTensor index_part(const StoredTensor& tensor, int64_t index);

/// Numbers [begin, end) of the outermost dimension, which stays: rows of a matrix. Throws
/// Error(kInputMalformed) when they are not there.
StoredTensor range_part(const StoredTensor& tensor, int64_t begin, int64_t end);

/// Presents the tensors of `names` by their keys. Stored tensors that no key refers to keep their
/// own names; those that one refers to are seen by the keys alone. A tensor that the base holds
/// compressed can be renamed, not cut. stored_bytes() of a part is its share of what the stored
/// tensor takes, scales included; sha256() is the base's. Throws Error(kInputMalformed) when a
/// stored tensor is missing, a part does not lie inside it, or a key is the name of another stored
/// tensor, which would then be hidden.
std::unique_ptr<WeightSource> make_named_source(std::shared_ptr<const WeightSource> base,
                                                const std::map<std::string, StoredTensor>& names);

}  // namespace pare
