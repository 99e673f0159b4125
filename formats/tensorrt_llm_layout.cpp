#include "formats/tensorrt_llm_layout.h"

#include <algorithm>
#include <numeric>

namespace pare {
namespace {

std::string with_expert(const char* name, int64_t expert) {
  std::string text = name;
  const size_t at = text.find("{}");
  return at == std::string::npos ? text : text.replace(at, 2, std::to_string(expert));
}

class Builder {
 public:
  Builder(const TrtFamily& family, const TrtSizes& sizes) {
    layout_.family = &family;
    layout_.sizes = sizes;
  }

  TrtLayout build() {
    const TrtFamily& family = *layout_.family;
    const TrtSizes& sizes = layout_.sizes;
    const int64_t last = sizes.pp_size - 1;
    const Shape vocabulary = {sizes.vocab, sizes.hidden};
    add({family.target_embedding, family.embedding, vocabulary, sizes.embedding, 0});
    if (*family.positions != '\0') {
      TrtTensor positions{family.target_positions,
                          family.positions,
                          {sizes.positions + family.position_offset, sizes.hidden},
                          sizes.embedding,
                          0};
      positions.skip = family.position_offset;
      add(positions);
    }
    add_norm(family.embedding_norm, family.target_embedding_norm, sizes.hidden, 0);
    for (int64_t rank = 0; rank < sizes.pp_size; ++rank) {
      const auto [begin, end] = trt_layers(sizes.layers, sizes.pp_size, rank);
      for (int64_t layer = begin; layer < end; ++layer) add_layer(layer, layer - begin, rank);
    }
    add_norm(family.final_norm, family.target_final_norm, sizes.hidden, last);
    if (*family.head != '\0') {
      TrtTensor head{"lm_head.weight", family.head, vocabulary, TrtForm::kPadded, last};
      head.optional = true;
      add(head);
    }
    arrange_experts();
    return std::move(layout_);
  }

 private:
  void add(TrtTensor tensor) { layout_.tensors.push_back(std::move(tensor)); }

  void add_norm(const std::string& source, const std::string& target, int64_t width,
                int64_t pp_rank) {
    if (source.empty()) return;
    add({target + ".weight", source + ".weight", {width}, TrtForm::kWhole, pp_rank});
    if (layout_.family->norms != TrtNorms::kLayerNorm) return;
    add({target + ".bias", source + ".bias", {width}, TrtForm::kWhole, pp_rank});
  }

  void add_layer(int64_t layer, int64_t local, int64_t pp_rank) {
    const TrtFamily& family = *layout_.family;
    const TrtSizes& sizes = layout_.sizes;
    const std::string source = family.layers + std::to_string(layer) + ".";
    const std::string target = family.target_layers + std::to_string(local) + ".";
    TrtLinear* open = nullptr;  // The linear that the last module began.
    for (const TrtModule& module : family.modules) {
      if (!has_module(module, sizes.gated)) continue;
      const std::string to = target + module.target;
      switch (module.kind) {
        case TrtKind::kNorm:
          layout_.layer_norms.push_back(to);
          layout_.norm_pp_rank.push_back(pp_rank);
          add_norm(source + module.source, to, sizes.hidden, pp_rank);
          break;
        case TrtKind::kHeadNorm:
          add_norm(source + module.source, to, sizes.head_dim, pp_rank);
          break;
        case TrtKind::kRelativeBias: {
          // All layers use the first one's table, and each has a copy here.
          TrtTensor table{to,
                          std::string(family.layers) + "0." + module.source + ".weight",
                          {sizes.buckets, sizes.heads},
                          TrtForm::kRelativeBias,
                          pp_rank};
          table.owned = layer == 0;
          add(table);
          break;
        }
        default:
          if (open == nullptr || open->target != to) {
            open = &layout_.linears.emplace_back();
            open->target = to;
            open->pp_rank = pp_rank;
            open->runs.resize(static_cast<size_t>(sizes.tp_size));
          }
          add_module(module, source, *open);
      }
      if (module.kind == TrtKind::kKey || module.kind == TrtKind::kQkv ||
          module.kind == TrtKind::kQkvGroups) {
        const std::string name = source + module.source;
        layout_.caches.push_back(
            {to.substr(0, to.rfind('.')), name.substr(0, name.rfind('.')), pp_rank});
      }
    }
  }

  void add_module(const TrtModule& module, const std::string& prefix, TrtLinear& linear) {
    const TrtSizes& sizes = layout_.sizes;
    const int64_t queries = sizes.heads * sizes.head_dim;
    const int64_t keys = sizes.kv_heads * sizes.head_dim;
    const std::string source = prefix + module.source;
    linear.split = TrtSplit::kRows;
    linear.columns = sizes.hidden;
    switch (module.kind) {
      case TrtKind::kQuery:
        linear.is_qkv = true;
        return add_rows(source, queries, linear);
      case TrtKind::kKey:
      case TrtKind::kValue:
        add_source(source, keys, linear);
        return add_heads(linear.sources.size() - 1, 0, linear);
      case TrtKind::kQkv:
        linear.is_qkv = true;
        add_source(source, queries + 2 * keys, linear);
        add_even(0, 0, queries, linear);
        add_heads(0, queries, linear);
        return add_heads(0, queries + keys, linear);
      case TrtKind::kQkvGroups:
        linear.is_qkv = true;
        add_source(source, queries + 2 * keys, linear);
        return add_groups(linear);
      case TrtKind::kGateUp:
        add_source(source, 2 * sizes.intermediate, linear);
        add_even(0, sizes.intermediate, sizes.intermediate, linear);
        return add_even(0, 0, sizes.intermediate, linear);
      case TrtKind::kAttentionOut:
        return add_columns(source, sizes.hidden, queries, linear);
      case TrtKind::kUp:
        return add_rows(source, sizes.intermediate, linear);
      case TrtKind::kDown:
        return add_columns(source, sizes.hidden, sizes.intermediate, linear);
      case TrtKind::kRouter:
        linear.is_router = true;
        add_columns(source, sizes.experts, sizes.hidden, linear);
        linear.split = TrtSplit::kWhole;
        return;
      case TrtKind::kExpertUp:
      case TrtKind::kExpertDown:
        linear.experts = sizes.experts;
        for (int64_t expert = 0; expert < sizes.experts; ++expert) {
          const std::string name = with_expert(source.c_str(), expert);
          if (module.kind == TrtKind::kExpertUp) {
            add_rows(name, sizes.intermediate, linear);
          } else {
            add_columns(name, sizes.hidden, sizes.intermediate, linear);
          }
        }
        return;
      default:
        return;
    }
  }

  static void add_source(const std::string& source, int64_t rows, TrtLinear& linear) {
    linear.sources.push_back(source);
    linear.source_rows.push_back(rows);
  }

  // `rows` rows of a source from `first` on, in equal parts.
  static void add_even(size_t source, int64_t first, int64_t rows, TrtLinear& linear) {
    const auto ranks = static_cast<int64_t>(linear.runs.size());
    for (int64_t rank = 0; rank < ranks; ++rank) {
      linear.runs[static_cast<size_t>(rank)].push_back(
          {source, first + rank * (rows / ranks), rows / ranks});
    }
  }

  static void add_rows(const std::string& source, int64_t rows, TrtLinear& linear) {
    add_source(source, rows, linear);
    add_even(linear.sources.size() - 1, 0, rows, linear);
  }

  // All rows on every rank, which has some of the columns.
  static void add_columns(const std::string& source, int64_t rows, int64_t columns,
                          TrtLinear& linear) {
    add_source(source, rows, linear);
    linear.split = TrtSplit::kColumns;
    linear.columns = columns;
    for (std::vector<TrtRun>& runs : linear.runs) {
      runs.push_back({linear.sources.size() - 1, 0, rows});
    }
  }

  // Of each KV head its queries, its key and its value follow each other in the source.
  void add_groups(TrtLinear& linear) const {
    const TrtSizes& sizes = layout_.sizes;
    const int64_t width = sizes.head_dim;
    const int64_t queries = sizes.heads / sizes.kv_heads;
    const int64_t stride = (queries + 2) * width;
    const int64_t local = sizes.heads / sizes.tp_size;
    for (int64_t rank = 0; rank < sizes.tp_size; ++rank) {
      std::vector<TrtRun>& runs = linear.runs[static_cast<size_t>(rank)];
      for (int64_t head = rank * local; head < (rank + 1) * local; ++head) {
        runs.push_back({0, head / queries * stride + head % queries * width, width});
      }
      for (const int64_t part : {queries, queries + 1}) {
        for (const int64_t head : kv_heads_of(rank)) {
          runs.push_back({0, head * stride + part * width, width});
        }
      }
    }
  }

  // KV heads of the model that a rank has, in its order.
  std::vector<int64_t> kv_heads_of(int64_t rank) const {
    const TrtSizes& sizes = layout_.sizes;
    const int64_t written = sizes.written_kv_heads;
    const int64_t copies = written / sizes.kv_heads;
    const int64_t local = std::max<int64_t>(1, written / sizes.tp_size);
    std::vector<int64_t> heads;
    for (int64_t i = 0; i < local; ++i) {
      const int64_t place =
          written >= sizes.tp_size ? rank * local + i : rank / (sizes.tp_size / written);
      heads.push_back(place / copies);
    }
    return heads;
  }

  // The KV heads of each rank; they begin at row `first` of the source.
  void add_heads(size_t source, int64_t first, TrtLinear& linear) const {
    const TrtSizes& sizes = layout_.sizes;
    const bool copied = sizes.written_kv_heads != sizes.kv_heads;
    for (int64_t rank = 0; rank < sizes.tp_size; ++rank) {
      std::vector<TrtRun>& runs = linear.runs[static_cast<size_t>(rank)];
      bool is_first = true;
      for (const int64_t head : kv_heads_of(rank)) {
        // Heads that are there once follow each other; copies are runs of one head, so that two are
        // the same or have nothing in common.
        if (!is_first && !copied) {
          runs.back().count += sizes.head_dim;
        } else {
          runs.push_back({source, first + head * sizes.head_dim, sizes.head_dim});
        }
        is_first = false;
      }
    }
  }

  // Experts were added module by module: w3 of all, then w1 of all. Each expert's follow each other
  // in the tensor.
  void arrange_experts() {
    for (TrtLinear& linear : layout_.linears) {
      if (linear.experts == 0) continue;
      const auto experts = static_cast<size_t>(linear.experts);
      for (std::vector<TrtRun>& runs : linear.runs) {
        std::stable_sort(runs.begin(), runs.end(), [&](const TrtRun& a, const TrtRun& b) {
          return a.source % experts < b.source % experts;
        });
      }
    }
  }

  TrtLayout layout_;
};

}  // namespace

int64_t TrtLinear::rows_on(int64_t tp_rank) const {
  const std::vector<TrtRun>& own = runs[static_cast<size_t>(tp_rank)];
  return std::accumulate(own.begin(), own.end(), int64_t{0},
                         [](int64_t total, const TrtRun& run) { return total + run.count; });
}

Shape TrtLinear::local_shape(int64_t tp_rank) const {
  const int64_t rows = rows_on(tp_rank);
  if (experts > 0) return {experts, rows / experts, local_columns()};
  return {rows, local_columns()};
}

Shape local_shape(const TrtTensor& tensor, int64_t tp_size) {
  Shape shape = tensor.shape;
  shape[0] -= tensor.skip;
  if (tensor.form == TrtForm::kPadded) shape[0] = (shape[0] + tp_size - 1) / tp_size;
  if (tensor.form == TrtForm::kColumns) shape[1] /= tp_size;
  if (tensor.form == TrtForm::kRelativeBias) shape = {shape[1] / tp_size, shape[0]};
  return shape;
}

int64_t written_kv_heads(int64_t heads, int64_t kv_heads, int64_t tp_size) {
  if (tp_size % kv_heads == 0) return kv_heads;
  for (int64_t written = kv_heads; written <= heads; written += kv_heads) {
    if (written % tp_size == 0 && heads % written == 0) return written;
  }
  return 0;
}

std::pair<int64_t, int64_t> trt_layers(int64_t layers, int64_t pp_size, int64_t pp_rank) {
  const int64_t each = layers / pp_size;
  const int64_t more = layers % pp_size;
  const int64_t begin = pp_rank * each + std::min(pp_rank, more);
  return {begin, begin + each + (pp_rank < more ? 1 : 0)};
}

std::string trt_split_fault(const TrtSizes& sizes) {
  constexpr int64_t kMostRanks = 1024;
  const int64_t tp = sizes.tp_size;
  if (tp < 1 || sizes.pp_size < 1 || tp > kMostRanks || sizes.pp_size > kMostRanks) {
    return "tp_size " + std::to_string(tp) + " and pp_size " + std::to_string(sizes.pp_size) +
           " are not both from 1 to " + std::to_string(kMostRanks);
  }
  if (sizes.pp_size > sizes.layers) {
    return std::to_string(sizes.layers) + " layers are too few for pp_size " +
           std::to_string(sizes.pp_size);
  }
  const auto undivided = [&](int64_t count, const char* what) {
    return std::to_string(count) + " " + what + " cannot be split between " + std::to_string(tp) +
           " ranks; use a tp_size that divides them";
  };
  if (sizes.heads % tp != 0) return undivided(sizes.heads, "attention heads");
  if (sizes.written_kv_heads == 0 ||
      (sizes.written_kv_heads % tp != 0 && tp % sizes.written_kv_heads != 0)) {
    return undivided(sizes.kv_heads, "KV heads");
  }
  if (sizes.intermediate % tp != 0) return undivided(sizes.intermediate, "channels of the MLP");
  return "";
}

TrtLayout make_trt_layout(const TrtFamily& family, const TrtSizes& sizes) {
  return Builder(family, sizes).build();
}

}  // namespace pare
