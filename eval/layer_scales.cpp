#include "eval/layer_scales.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "kernels/codec.h"
#include "kernels/vector_math.h"
#include "model/block_runner.h"
#include "model/input_groups.h"
#include "pare/error.h"

namespace pare {
namespace {

// Rows that a thread takes at a time; fixed, so that sums do not depend on threads.
constexpr int64_t kBlockRows = 64;

// Squared deviations from 1 in units of their error average 1 where there is no scale, and
// thousands where there is one. Below this a scale can hardly be told from rounding, and leaving it
// out adds to the error of a linear no more than kNoise / width of it.
constexpr double kNoise = 9;
constexpr double kLeastVariance = 1e-14;  // what rounding to float does to a sum
constexpr double kLargestLog = 40;        // of a scale: far from the end of float's range

// Rows of a linear's weight [out, in], dense or compressed.
class WeightRows {
 public:
  WeightRows(const WeightSource& source, const BlockGraph& block, const Op& op)
      : source_(source), name_(block.full_name(op) + ".weight") {
    if (source.is_compressed(name_)) {
      compressed_ = source.compressed(name_);
      return;
    }
    dense_ = source.dense(name_);
    if (op.linear.transposed) turned_ = load_dense_weight(block, op, dense_);
  }

  bool sparse() const { return compressed_ && compressed_->sparse; }

  /// Multiplies the input, and so the columns; empty: ones.
  std::span<const float> column_scale() const {
    return compressed_ ? std::span<const float>(compressed_->pre_quant_scale)
                       : std::span<const float>();
  }

  void read(int64_t row, std::span<float> values) const {
    if (compressed_) {
      dequantize_rows(*compressed_, row, row + 1, values);
      return;
    }
    if (!turned_.empty()) {
      const size_t begin = static_cast<size_t>(row) * values.size();
      std::copy_n(turned_.begin() + static_cast<ptrdiff_t>(begin), values.size(), values.begin());
      return;
    }
    const size_t bytes = values.size() * dtype_size(dense_.dtype);
    const TensorView view{dense_.dtype,
                          {static_cast<int64_t>(values.size())},
                          dense_.bytes.subspan(static_cast<size_t>(row) * bytes, bytes)};
    const std::vector<float> wide = to_f32(view, name_);
    std::copy(wide.begin(), wide.end(), values.begin());
  }

  void release() const { source_.release({name_}); }

 private:
  const WeightSource& source_;
  std::string name_;
  TensorView dense_;
  std::vector<float> turned_;  // of a dense weight that is stored [in, out]
  std::optional<CompressedWeight> compressed_;
};

// Least squares through the origin: how many times the baseline's values the candidate's are.
struct Slope {
  double cross = 0;
  double base = 0;
  double own = 0;
  double count = 0;

  void add(double baseline, double candidate) {
    cross += baseline * candidate;
    base += baseline * baseline;
    own += candidate * candidate;
    count += 1;
  }
  void add(const Slope& other) {
    cross += other.cross;
    base += other.base;
    own += other.own;
    count += other.count;
  }
  bool known() const { return base > 0 && cross > 0 && count > 1; }
  double log() const { return std::log(cross / base); }
  /// Of log(), from the residuals.
  double variance() const {
    const double residual = std::max(0.0, own - cross * cross / base);
    return std::max(residual / (count - 1) * base / (cross * cross), kLeastVariance);
  }
};

// factors /= scale, where 0 takes a column out.
void divide(std::span<float> factors, std::span<const float> scale) {
  for (size_t i = 0; i < scale.size(); ++i) {
    factors[i] = scale[i] == 0 ? 0 : factors[i] / scale[i];
  }
}

// A block in both models.
struct Sources {
  const BlockGraph& block;
  const WeightSource& baseline;
  const WeightSource& candidate;
};

// Slopes of all rows or of all columns of one linear. `scale` multiplies the candidate's input;
// empty: ones. The baseline's weights are taken to the candidate's scales, not the other way
// around, for there all columns of a row are rounded alike and so count alike.
std::vector<Slope> slopes(const Sources& sources, const Op& op, std::span<const float> scale,
                          bool of_rows, ThreadPool& pool) {
  const WeightRows expected(sources.baseline, sources.block, op);
  const WeightRows found(sources.candidate, sources.block, op);
  const int64_t out = sources.block.out_features(op);
  const auto width = static_cast<size_t>(sources.block.in_features(op));
  const auto blocks = static_cast<size_t>((out + kBlockRows - 1) / kBlockRows);
  std::vector<float> factors(width, 1.0F);
  if (!expected.column_scale().empty()) multiply_in_place(factors, expected.column_scale());
  divide(factors, found.column_scale());
  divide(factors, scale);
  std::vector<Slope> total(of_rows ? static_cast<size_t>(out) : width);
  std::vector<std::vector<Slope>> partial(of_rows ? 0 : blocks);
  pool.parallel_for(blocks, [&](size_t block, size_t) {
    std::vector<float> base_row(width);
    std::vector<float> row(width);
    if (!of_rows) partial[block].resize(width);
    const int64_t first = static_cast<int64_t>(block) * kBlockRows;
    for (int64_t r = first; r < std::min(first + kBlockRows, out); ++r) {
      expected.read(r, base_row);
      found.read(r, row);
      multiply_in_place(base_row, factors);
      for (size_t i = 0; i < width; ++i) {
        if (found.sparse() && row[i] == 0) continue;  // pruned: it says nothing about scales
        Slope& slope = of_rows ? total[static_cast<size_t>(r)] : partial[block][i];
        slope.add(static_cast<double>(base_row[i]), static_cast<double>(row[i]));
      }
    }
  });
  for (const std::vector<Slope>& part : partial) {
    for (size_t i = 0; i < width; ++i) total[i].add(part[i]);
  }
  expected.release();
  found.release();
  return total;
}

// What the norm multiplies by, and then its bias, which both shrink by the scale.
std::vector<float> norm_scale(const Sources& sources, const Op& op) {
  const std::string name = sources.block.full_name(op) + ".weight";
  const std::vector<float> before = load_vector(sources.baseline, name);
  const std::vector<float> after = load_vector(sources.candidate, name);
  const std::string bias_name = sources.block.full_name(op) + ".bias";
  std::vector<float> bias_before;
  std::vector<float> bias_after;
  if (op.norm.bias) {
    bias_before = load_vector(sources.baseline, bias_name);
    bias_after = load_vector(sources.candidate, bias_name);
  }
  if (before == after && bias_before == bias_after) return {};
  const float offset = op.norm.weight_offset;
  std::vector<float> scale(before.size(), 1.0F);
  for (size_t i = 0; i < scale.size(); ++i) {
    const bool silent = before[i] + offset == 0 && after[i] + offset == 0;  // the bias alone speaks
    if (silent && op.norm.bias && bias_before[i] != bias_after[i]) {
      scale[i] = bias_after[i] / bias_before[i];
    } else if (before[i] != after[i]) {
      scale[i] = (after[i] + offset) / (before[i] + offset);
    }
    if (std::isfinite(scale[i])) continue;
    throw Error(ErrorCode::kInputMalformed,
                sources.candidate.file_of(name) + ": tensor \"" + (silent ? bias_name : name) +
                    "\": channel " + std::to_string(i) + " is " +
                    std::to_string(silent ? bias_after[i] : after[i]) + ", in " +
                    sources.baseline.path() + " it is " +
                    std::to_string(silent ? bias_before[i] : before[i]) +
                    ": the linears after it cannot be compared one by one; leave out the errors "
                    "by layer");
  }
  return scale;
}

// Whether pare's own quantizer can have moved a scale between these two: it needs rows with scales
// of their own, and a reader that is quantized. Unknown tools can always have done it.
bool may_hold_scale(const WeightSource& candidate, const std::string& producer,
                    const std::vector<std::string>& readers) {
  if (candidate.recipe_json().find("\"pare.recipe/") == std::string::npos) return true;
  const auto integer = [&](const std::string& name) {
    if (!candidate.is_compressed(name)) return false;
    const WeightFormat format = candidate.compressed(name).format;
    return format != WeightFormat::kBf16 && format != WeightFormat::kFp8E4m3;
  };
  return integer(producer) && std::all_of(readers.begin(), readers.end(), integer);
}

// What both weights shrank by, in logarithms: rounding and pruning bring the slopes of a row and of
// its readers' columns below s and 1 / s, whose product is 1. Each gets its part by how far it is
// off: a weight that is exact did not shrink.
struct Shrinkage {
  double rows = 0;
  double readers = 0;
  double dispersion = 1;  ///< Variance of what is left of the products, in units of the expected.
};

Shrinkage find_shrinkage(const std::vector<Slope>& rows, const std::vector<Slope>& readers) {
  double log = 0;
  double weights = 0;
  double share = 0;
  double known = 0;
  for (size_t row = 0; row < rows.size(); ++row) {
    if (!rows[row].known() || !readers[row].known()) continue;
    const double variance = rows[row].variance() + readers[row].variance();
    log += (rows[row].log() + readers[row].log()) / variance;
    weights += 1 / variance;
    share += rows[row].variance() / variance;
    known += 1;
  }
  if (known == 0) return {};
  const double both = log / weights;
  double square = 0;
  for (size_t row = 0; row < rows.size(); ++row) {
    if (!rows[row].known() || !readers[row].known()) continue;
    const double left = rows[row].log() + readers[row].log() - both;
    square += left * left / (rows[row].variance() + readers[row].variance());
  }
  return {both * (share / known), both * (1 - share / known), std::max(1.0, square / known)};
}

// Scale of each row of the producer, or nothing where there is none.
std::vector<float> row_scale(const std::vector<Slope>& rows, const std::vector<Slope>& readers) {
  const Shrinkage shrinkage = find_shrinkage(rows, readers);
  std::vector<float> scale(rows.size(), 1.0F);
  double deviation = 0;
  double known = 0;
  for (size_t row = 0; row < rows.size(); ++row) {
    if (readers[row].count == 0) continue;  // of a fused linear, read by others than these
    // Weighed by their precision: columns that were scaled down may hardly survive rounding.
    double sum = 0;
    double weights = 0;
    if (rows[row].known()) {
      sum += (rows[row].log() - shrinkage.rows) / rows[row].variance();
      weights += 1 / rows[row].variance();
    }
    if (readers[row].known()) {
      sum -= (readers[row].log() - shrinkage.readers) / readers[row].variance();
      weights += 1 / readers[row].variance();
    }
    if (weights == 0) continue;  // nothing goes through this channel
    const double log = sum / weights;
    scale[row] = static_cast<float>(std::exp(std::clamp(log, -kLargestLog, kLargestLog)));
    deviation += log * log * weights;
    known += 1;
  }
  // Weights that were updated after pruning are off by more than their residuals tell; that the two
  // slopes disagree shows it (Birge 1932, Phys. Rev. 40:207).
  if (deviation <= kNoise * known * shrinkage.dispersion) return {};
  return scale;
}

void set_linear_scale(const Sources& sources, const InputGroup& group, ThreadPool& pool,
                      BlockScales& scales) {
  const auto op = [&](size_t index) -> const Op& { return sources.block.ops[index]; };
  const auto name = [&](size_t index) { return sources.block.full_name(op(index)) + ".weight"; };
  std::vector<std::string> readers;
  for (const size_t reader : group.linears) readers.push_back(name(reader));
  if (!may_hold_scale(sources.candidate, name(group.producer_op), readers)) return;
  const std::vector<Slope> rows =
      slopes(sources, op(group.producer_op), scales.input[group.producer_op], true, pool);
  std::vector<Slope> columns(rows.size());
  for (const size_t reader : group.linears) {
    const std::vector<Slope> found = slopes(sources, op(reader), {}, false, pool);
    for (size_t i = 0; i < found.size(); ++i) {
      columns[static_cast<size_t>(group.producer_row[i])].add(found[i]);
    }
  }
  const std::vector<float> scale = row_scale(rows, columns);
  if (scale.empty()) return;
  scales.output[group.producer_op] = scale;
  for (const size_t reader : group.linears) {
    for (const int32_t row : group.producer_row) {
      scales.input[reader].push_back(scale[static_cast<size_t>(row)]);
    }
  }
}

}  // namespace

BlockScales block_scales(const BlockGraph& block, const WeightSource& baseline,
                         const WeightSource& candidate, ThreadPool& pool) {
  const Sources sources{block, baseline, candidate};
  BlockScales scales;
  scales.input.resize(block.ops.size());
  scales.output.resize(block.ops.size());
  // In the order in which inputs are made: a producer's own input is known before its readers'.
  for (const InputGroup& group : input_groups(block)) {
    if (group.producer == Producer::kNorm) {
      const std::vector<float> scale = norm_scale(sources, block.ops[group.producer_op]);
      for (const size_t op : group.linears) scales.input[op] = scale;
    } else if (group.producer == Producer::kLinear) {
      set_linear_scale(sources, group, pool, scales);
    }
  }
  return scales;
}

}  // namespace pare
