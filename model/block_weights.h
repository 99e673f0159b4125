// The parameters of one block, ready to run.
//
//   BlockWeights weights = load_block(graph.blocks[3], source, Precision::kBf16);
//
// Immutable once loaded, and then safe to share between threads. Experts are loaded one by one, as
// the blocks that they are (expert_block()).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/compressed_weight.h"
#include "core/tensor_view.h"
#include "formats/weight_source.h"
#include "model/block_graph.h"
#include "model/linear.h"

namespace pare {

/// A LoRA adapter beside a linear: its output grows by b(a(x)).
struct LowRankAdapter {
  Linear a;  ///< [rank, in]
  Linear b;  ///< [out, rank], the adapter's scale in it
};

/// All by index into BlockGraph::ops; what an op does not have is empty.
struct BlockWeights {
  std::vector<Linear> linears;
  std::vector<std::optional<LowRankAdapter>> adapters;
  std::vector<std::vector<float>> weight;  ///< Of norms, offset included; of convolutions; A of
                                           ///< scans; sinks of attention.
  std::vector<std::vector<float>> bias;    ///< Of norms, convolutions; dt_bias of scans.
  std::vector<std::vector<float>> skip;    ///< D of scans.
  std::vector<std::vector<float>> table;   ///< Relative bias of attention, [buckets, heads].
  std::vector<float> correction;           ///< Of the router.
  std::vector<std::optional<KeyValueFormat>> caches;  ///< Of attention.

  /// How the op's keys and values are rounded; null: not at all.
  const KeyValueFormat* cache_format(size_t op) const {
    return op < caches.size() && caches[op] ? &*caches[op] : nullptr;
  }
};

/// Where tensors are looked up by name: a WeightSource, or what was compressed just now.
class TensorLookup {
 public:
  virtual ~TensorLookup() = default;
  virtual bool is_compressed(const std::string& name) const = 0;
  virtual TensorView dense(const std::string& name) const = 0;
  virtual CompressedWeight compressed(const std::string& name) const = 0;
  /// The file that holds the tensor, for messages.
  virtual std::string file_of(const std::string& name) const = 0;
};

/// The tensors of a source.
class SourceLookup : public TensorLookup {
 public:
  explicit SourceLookup(const WeightSource& source) : source_(source) {}
  bool is_compressed(const std::string& name) const override {
    return source_.contains(name) && source_.is_compressed(name);
  }
  TensorView dense(const std::string& name) const override { return source_.dense(name); }
  CompressedWeight compressed(const std::string& name) const override {
    return source_.compressed(name);
  }
  std::string file_of(const std::string& name) const override { return source_.file_of(name); }

 private:
  const WeightSource& source_;
};

/// Reads and packs all parameters of the block but its experts'.
BlockWeights load_block(const BlockGraph& block, const TensorLookup& tensors, Precision precision);

/// The same from a source; the mapped pages are released again.
BlockWeights load_block(const BlockGraph& block, const WeightSource& source, Precision precision);

/// The linear of one op of the block, packed. Does not release the mapped pages.
Linear load_linear(const BlockGraph& block, const Op& op, const TensorLookup& tensors,
                   Precision precision);
Linear load_linear(const BlockGraph& block, const Op& op, const WeightSource& source,
                   Precision precision);

/// A tensor's values as float; checks that they are finite (Error(kNonFinite) names it).
std::vector<float> load_vector(const TensorLookup& tensors, const std::string& name);
std::vector<float> load_vector(const WeightSource& source, const std::string& name);

/// A dense linear weight as [out, in] floats, whichever way it is stored.
std::vector<float> load_dense_weight(const BlockGraph& block, const Op& op,
                                     const TensorView& stored);

}  // namespace pare
