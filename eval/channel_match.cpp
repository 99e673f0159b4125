#include "eval/channel_match.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <optional>

#include "core/dtype.h"
#include "core/permutation.h"
#include "formats/beside_source.h"
#include "formats/forwarding_source.h"
#include "kernels/codec.h"
#include "kernels/sgemm.h"
#include "model/block_runner.h"
#include "model/channel_order.h"

namespace pare {
namespace {

// Columns that rows are compared by, at most: evenly spread, enough to tell thousands apart.
constexpr size_t kColumns = 512;
constexpr size_t kRows = 256;  // of the candidate, compared at a time

// Row r of the tensor shown is row rows[r] of the one that is there, likewise columns.
struct TensorOrder {
  Order rows;     // empty: as they are
  Order columns;  // the same
};

class ReorderedSource final : public ForwardingSource {
 public:
  ReorderedSource(std::shared_ptr<const WeightSource> base,
                  std::map<std::string, TensorOrder> order)
      : ForwardingSource(std::move(base)), order_(std::move(order)) {}

  TensorView dense(const std::string& name) const override {
    TensorView view = base().dense(name);
    const auto known = order_.find(name);
    if (known == order_.end()) return view;
    const std::lock_guard lock(mutex_);
    std::vector<std::byte>& bytes = reordered_[name];
    if (bytes.empty()) bytes = reorder(view, known->second);
    return {view.dtype, view.shape, bytes};
  }
  TensorView dense_part(const std::string& name, int64_t first, int64_t count) const override {
    if (!order_.contains(name)) return base().dense_part(name, first, count);
    // Pieces of what dense() gives. NOLINTNEXTLINE(bugprone-parent-virtual-call)
    return WeightSource::dense_part(name, first, count);
  }
  void read(const std::string& name, int64_t first, std::span<std::byte> out) const override {
    if (!order_.contains(name)) return base().read(name, first, out);
    WeightSource::read(name, first, out);  // NOLINT(bugprone-parent-virtual-call)
  }
  void release(const std::vector<std::string>& names) const override {
    {
      const std::lock_guard lock(mutex_);
      for (const std::string& name : names) reordered_.erase(name);
    }
    base().release(names);
  }
  void release_part(const std::string& name, int64_t first, int64_t count) const override {
    if (!order_.contains(name)) base().release_part(name, first, count);
  }

 private:
  static std::vector<std::byte> reorder(const TensorView& view, const TensorOrder& order) {
    const auto rows = static_cast<size_t>(view.shape[0]);
    const size_t columns = view.shape.size() > 1 ? static_cast<size_t>(view.shape[1]) : 1;
    return permute_elements(view.bytes, rows, columns, dtype_size(view.dtype), order.rows,
                            order.columns);
  }

  std::map<std::string, TensorOrder> order_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::vector<std::byte>> reordered_;
};

// Some columns of a linear, the same in both models; each row of length 1, or 0.
struct RowSample {
  int64_t columns = 0;
  std::vector<float> values;  // [out, columns]
};

// Column c of the linear is column order[c] of the source.
RowSample sample_rows(const WeightSource& source, const BlockGraph& block, const Op& op,
                      const Order& order) {
  const std::string name = block.full_name(op) + ".weight";
  const auto width = static_cast<size_t>(block.in_features(op));
  const auto out = static_cast<size_t>(block.out_features(op));
  const size_t count = std::min(kColumns, width);
  RowSample sample{static_cast<int64_t>(count), std::vector<float>(out * count)};
  std::vector<float> dense;
  std::optional<CompressedWeight> compressed;
  if (source.is_compressed(name)) {
    compressed = source.compressed(name);
    dense.resize(width);
  } else {
    dense = load_dense_weight(block, op, source.dense(name));
  }
  for (size_t row = 0; row < out; ++row) {
    const auto index = static_cast<int64_t>(row);
    if (compressed) dequantize_rows(*compressed, index, index + 1, dense);
    const float* from = dense.data() + (compressed ? 0 : row * width);
    float* to = sample.values.data() + row * count;
    double square = 0;
    for (size_t i = 0; i < count; ++i) {
      const size_t column = i * width / count;
      to[i] = from[order.empty() ? column : static_cast<size_t>(order[column])];
      square += static_cast<double>(to[i]) * static_cast<double>(to[i]);
    }
    if (!(square > 0)) continue;
    const auto inverse = static_cast<float>(1 / std::sqrt(square));
    for (size_t i = 0; i < count; ++i) to[i] *= inverse;
  }
  source.release({name});
  return sample;
}

std::vector<float> take_rows(const RowSample& sample, std::span<const int32_t> rows) {
  std::vector<float> taken;
  for (const int32_t row : rows) {
    const auto first = sample.values.begin() + row * sample.columns;
    taken.insert(taken.end(), first, first + sample.columns);
  }
  return taken;
}

class BlockMatch {
 public:
  BlockMatch(const BlockGraph& block, const WeightSource& baseline, const WeightSource& candidate,
             ThreadPool& pool, std::map<std::string, TensorOrder>& order)
      : block_(block), baseline_(baseline), candidate_(candidate), pool_(pool), order_(order) {}

  void run() {
    for (const ReorderableInput& input : reorderable_inputs(block_)) {
      if (!is_dense(input)) continue;
      const Order order = channel_order(input, unit_order(input));
      if (std::is_sorted(order.begin(), order.end())) continue;
      for (const ChannelSource& source : input.sources) {
        add_rows(source, row_order(source, block_.width(block_.ops[source.op].output), order));
      }
      for (const size_t index : input.linears) add_columns(block_.ops[index], order);
    }
  }

 private:
  bool is_dense(const ReorderableInput& input) const {
    const auto dense = [&](size_t index) {
      return block_.ops[index].kind != OpKind::kLinear ||
             !baseline_.is_compressed(block_.full_name(block_.ops[index]) + ".weight");
    };
    return std::all_of(input.linears.begin(), input.linears.end(), dense) &&
           std::all_of(input.sources.begin(), input.sources.end(),
                       [&](const ChannelSource& source) { return dense(source.op); });
  }

  const Order& columns_of(const Op& op) const {
    const auto known = columns_.find(op.name);
    return known == columns_.end() ? none_ : known->second;
  }

  // For each unit of the candidate, the baseline's that its rows are most like.
  Order unit_order(const ReorderableInput& input) const {
    const auto members = static_cast<size_t>(input.pool_size);
    Order order(static_cast<size_t>(input.pools()) * members);
    std::vector<std::pair<RowSample, RowSample>> samples;  // of the baseline, of the candidate
    std::vector<const ChannelSource*> sources;
    for (const ChannelSource& source : input.sources) {
      const Op& op = block_.ops[source.op];
      if (op.kind != OpKind::kLinear) continue;
      samples.emplace_back(sample_rows(baseline_, block_, op, columns_of(op)),
                           sample_rows(candidate_, block_, op, {}));
      sources.push_back(&source);
    }
    for (int64_t p = 0; p < input.pools(); ++p) {
      const auto first = static_cast<size_t>(input.begin[static_cast<size_t>(p * input.copies)]);
      std::vector<Pair> pairs;
      for (size_t i = 0; i < samples.size(); ++i) {
        const std::span<const int32_t> rows(sources[i]->row.data() + first, members);
        pairs.push_back({take_rows(samples[i].first, rows), take_rows(samples[i].second, rows),
                         samples[i].first.columns});
      }
      const Order found = match(pairs, members);
      const auto begin = static_cast<size_t>(p) * members;
      for (size_t i = 0; i < members; ++i) {
        order[begin + i] = static_cast<int32_t>(begin) + found[i];
      }
    }
    return order;
  }

  struct Pair {
    std::vector<float> baseline;  // [members, columns]
    std::vector<float> candidate;
    int64_t columns = 0;
  };

  Order match(const std::vector<Pair>& pairs, size_t members) const {
    Order best(members, -1);
    const auto count = static_cast<int64_t>(members);
    pool_.parallel_for((members + kRows - 1) / kRows, [&](size_t part, size_t) {
      const size_t begin = part * kRows;
      const size_t rows = std::min(kRows, members - begin);
      std::vector<float> like(rows * members);
      std::vector<float> product(rows * members);
      for (const Pair& pair : pairs) {
        sgemm({.m = static_cast<int64_t>(rows),
               .n = count,
               .k = pair.columns,
               .transpose_b = true,
               .lda = pair.columns,
               .ldb = pair.columns,
               .ldc = count},
              pair.candidate.data() + static_cast<int64_t>(begin) * pair.columns,
              pair.baseline.data(), product.data());
        for (size_t i = 0; i < like.size(); ++i) like[i] += product[i];
      }
      for (size_t row = 0; row < rows; ++row) {
        const float* values = like.data() + row * members;
        size_t most = begin + row;  // of equal ones its own place
        for (size_t i = 0; i < members; ++i) {
          if (values[i] > values[most]) most = i;
        }
        if (values[most] > 0) best[begin + row] = static_cast<int32_t>(most);
      }
    });
    return completed(best);
  }

  // Rows that nothing is like, or that are like one that is taken, get what is left: their own
  // place where they can.
  static Order completed(const Order& best) {
    Order order(best.size(), -1);
    std::vector<bool> taken(best.size(), false);
    const auto take = [&](size_t i, int32_t from) {
      if (from < 0 || order[i] >= 0 || taken[static_cast<size_t>(from)]) return;
      order[i] = from;
      taken[static_cast<size_t>(from)] = true;
    };
    for (size_t i = 0; i < best.size(); ++i) take(i, best[i]);
    for (size_t i = 0; i < best.size(); ++i) take(i, static_cast<int32_t>(i));
    size_t next = 0;
    for (size_t i = 0; i < best.size(); ++i) {
      if (order[i] >= 0) continue;
      while (taken[next]) ++next;
      take(i, static_cast<int32_t>(next));
    }
    return order;
  }

  void add_rows(const ChannelSource& source, const Order& order) {
    const Op& op = block_.ops[source.op];
    const std::string name = block_.full_name(op);
    const bool linear = op.kind == OpKind::kLinear;
    if (linear || op.norm.weight) {
      TensorOrder& weight = order_[name + ".weight"];
      Order& rows = linear && op.linear.transposed ? weight.columns : weight.rows;
      rows = compose(rows, order);
    }
    const auto add = [&](const std::string& vector) {
      order_[vector].rows = compose(order_[vector].rows, order);
    };
    if (linear ? op.linear.bias : op.norm.bias) add(name + ".bias");
    if (linear && op.linear.adapter_rank > 0) add(name + kLoraBSuffix);
  }

  void add_columns(const Op& op, const Order& order) {
    const std::string name = block_.full_name(op);
    TensorOrder& weight = order_[name + ".weight"];
    (op.linear.transposed ? weight.rows : weight.columns) = order;
    if (op.linear.adapter_rank > 0) order_[name + kLoraASuffix].columns = order;
    columns_[op.name] = order;
  }

  const BlockGraph& block_;
  const WeightSource& baseline_;
  const WeightSource& candidate_;
  ThreadPool& pool_;
  std::map<std::string, TensorOrder>& order_;
  std::map<std::string, Order> columns_;  // of linears of this block
  const Order none_;
};

}  // namespace

EvaluatedModel in_order_of(const EvaluatedModel& candidate, const EvaluatedModel& baseline,
                           ThreadPool& pool) {
  EvaluatedModel same = baseline;
  if (!may_be_permuted(candidate)) return same;
  std::map<std::string, TensorOrder> order;
  for (const BlockGraph& block : baseline.graph.blocks) {
    BlockMatch(block, *baseline.source, *candidate.source, pool, order).run();
  }
  if (!order.empty()) same.source = std::make_shared<ReorderedSource>(baseline.source, order);
  return same;
}

}  // namespace pare
