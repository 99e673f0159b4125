// Which tensor of a TensorRT-LLM checkpoint is made of which rows and columns of which tensors of
// the model, and on which rank it is.
//
// Written down once for the export, for reading such a folder and for checking it. Rank r of a
// folder is tp_rank + pp_rank × tp_size. Layers are numbered from 0 on each pipeline rank; the
// first num_hidden_layers % pp_size of them have one layer more. Values; safe from any thread.
//
//   const TrtLayout layout = make_trt_layout(*family, sizes);
//   for (const TrtLinear& linear : layout.linears) …
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor_view.h"
#include "formats/tensorrt_llm_families.h"

namespace pare {

enum class TrtForm : uint8_t {
  kWhole,
  kPadded,        ///< Rows padded to a multiple of tp_size, and split.
  kColumns,       ///< Columns split.
  kRelativeBias,  ///< [heads of the rank, buckets] of [buckets, heads].
};

struct TrtSizes {
  int64_t layers = 0;
  int64_t hidden = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;  ///< Of the model.
  /// As config.json says: more than the model's where each is written several times, because
  /// tp_size would not divide them.
  int64_t written_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t intermediate = 0;
  int64_t vocab = 0;
  int64_t positions = 0;  ///< Rows of a table of positions, without those before position 0.
  int64_t experts = 0;
  int64_t buckets = 0;  ///< Of T5's bias by distance.
  bool gated = true;
  /// How the tables of tokens and of positions lie: kPadded, kColumns, or whole on every rank.
  TrtForm embedding = TrtForm::kPadded;
  int64_t tp_size = 1;
  int64_t pp_size = 1;
};

/// How a matrix is cut between the ranks of a pipeline rank.
enum class TrtSplit : uint8_t { kWhole, kRows, kColumns };

/// Rows [begin, begin + count) of one of the sources.
struct TrtRun {
  size_t source = 0;
  int64_t begin = 0;
  int64_t count = 0;
};

/// A linear of the checkpoint: "<target>.weight" with its scales and bias.
struct TrtLinear {
  std::string target;  ///< "transformer.layers.0.attention.qkv"
  int64_t pp_rank = 0;
  TrtSplit split = TrtSplit::kRows;
  std::vector<std::string> sources;  ///< Modules of the model: one, q, k and v, or all experts.
  std::vector<int64_t> source_rows;  ///< Of each.
  int64_t columns = 0;               ///< In-features, of all ranks together.
  int64_t experts = 0;               ///< > 0: [experts, rows, columns], one behind the other.
  bool is_qkv = false;
  bool is_router = false;                 ///< F32, never quantized.
  std::vector<std::vector<TrtRun>> runs;  ///< By tp_rank: the rows it has, in order.

  int64_t rows_on(int64_t tp_rank) const;
  /// Of a rank.
  int64_t local_columns() const {
    return split == TrtSplit::kColumns ? columns / static_cast<int64_t>(runs.size()) : columns;
  }
  /// [rows, columns] or [experts, rows, columns] of a rank, in elements.
  Shape local_shape(int64_t tp_rank) const;
};

/// A tensor that is never quantized.
struct TrtTensor {
  std::string target;
  std::string source;
  Shape shape;  ///< Of the source.
  TrtForm form = TrtForm::kWhole;
  int64_t pp_rank = 0;
  int64_t skip = 0;       ///< Rows of the source that are left out: those before position 0.
  bool optional = false;  ///< lm_head, which a model with tied embedding may lack.
  bool owned = true;      ///< False: the source is another tensor's too.
};

/// An attention whose cache of keys and values may be quantized.
struct TrtCache {
  std::string target;  ///< "transformer.layers.0.attention"
  std::string source;  ///< "model.layers.0.self_attn"
  int64_t pp_rank = 0;
};

struct TrtLayout {
  const TrtFamily* family = nullptr;
  TrtSizes sizes;
  std::vector<TrtLinear> linears;
  std::vector<TrtTensor> tensors;
  std::vector<TrtCache> caches;
  std::vector<std::string> layer_norms;  ///< Targets of the modules of layers, all pipeline ranks'.
  std::vector<int64_t> norm_pp_rank;     ///< Of each of them.
};

/// How many KV heads config.json has to say for `tp_size` ranks: kv_heads where one of the two
/// divides the other, else the smallest multiple that does and divides `heads`; 0: there is none.
int64_t written_kv_heads(int64_t heads, int64_t kv_heads, int64_t tp_size);

/// Layers [first, second) of a pipeline rank.
std::pair<int64_t, int64_t> trt_layers(int64_t layers, int64_t pp_size, int64_t pp_rank);

/// Of a tensor on one rank.
Shape local_shape(const TrtTensor& tensor, int64_t tp_size);

/// Why the sizes cannot be split as they say, and what would do; empty when they can.
std::string trt_split_fault(const TrtSizes& sizes);

/// REQUIRES: trt_split_fault() is empty.
TrtLayout make_trt_layout(const TrtFamily& family, const TrtSizes& sizes);

}  // namespace pare
