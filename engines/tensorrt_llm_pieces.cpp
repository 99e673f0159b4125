#include "engines/tensorrt_llm_pieces.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "engines/engine_export.h"
#include "formats/tensorrt_llm_places.h"
#include "kernels/codec.h"
#include "kernels/engine_layouts.h"
#include "pare/error.h"

namespace pare {
namespace {

using Bytes = std::vector<std::byte>;

// Elements of a dense tensor, read in passing: other threads may look at it too.
std::vector<uint16_t> bf16_values(const WeightSource& source, const std::string& name,
                                  int64_t first, int64_t count) {
  const DType dtype = source.dtype(name);
  Bytes bytes(static_cast<size_t>(count) * dtype_size(dtype));
  source.read(name, first, bytes);
  return to_bf16({dtype, {count}, bytes}, name);
}

// A dense matrix or vector of the source as BF16, [out, in].
std::vector<uint16_t> bf16_values(const WeightSource& source, const std::string& name,
                                  bool turned) {
  const Shape shape = source.shape(name);
  const std::vector<uint16_t> values = bf16_values(source, name, 0, element_count(shape));
  return turned ? transposed(values, shape.at(0), shape.at(1)) : values;
}

template <typename Value>
std::vector<Value> filled(int64_t count) {
  return std::vector<Value>(static_cast<size_t>(count));
}

/// The rows and columns of a linear on one rank, source after source.
class RankMaker {
 public:
  RankMaker(const WeightSource& source, const TrtLinearPlan& plan, int64_t tp_rank)
      : source_(source),
        plan_(plan),
        linear_(plan.linear),
        rank_(tp_rank),
        columns_(linear_.local_columns()),
        first_column_(linear_.split == TrtSplit::kColumns ? tp_rank * columns_ : 0) {}

  // Of a linear that is not quantized.
  Bytes dense() const {
    if (linear_.is_router) return router();
    auto values = filled<uint16_t>(linear_.rows_on(rank_) * columns_);
    size_t at = 0;
    std::vector<uint16_t> all;
    for_each_run([&](const TrtRun& run, bool is_new) {
      if (is_new) all = values_of(run.source);
      at = copy_rows<uint16_t>(all, run, at, values);
    });
    return to_bytes<uint16_t>(values);
  }

  // Codes, one byte each, [rows, columns]; scales go to `scales` where there is one a row or group.
  std::vector<int8_t> codes(std::vector<float>& scales) const {
    auto result = filled<int8_t>(linear_.rows_on(rank_) * columns_);
    size_t at = 0;
    std::vector<int8_t> all;
    CompressedWeight weight;
    for_each_run([&](const TrtRun& run, bool is_new) {
      if (is_new) {
        weight = as_exported(plan_, run.source, compressed(run.source));
        all = dense_codes(weight);
      }
      at = copy_rows<int8_t>(all, run, at, result);
      add_scales(weight, run, scales);
    });
    return result;
  }

  // What multiplies the input of this rank; ones where nothing does.
  std::vector<float> smoothing() const {
    std::vector<float> all(static_cast<size_t>(linear_.columns), 1);
    if (plan_.smooths) all = as_exported(plan_, 0, compressed(0)).pre_quant_scale;
    const auto first = all.begin() + static_cast<std::ptrdiff_t>(first_column_);
    return {first, first + static_cast<std::ptrdiff_t>(columns_)};
  }

  Bytes bias() const {
    auto values = filled<uint16_t>(linear_.rows_on(rank_));
    size_t at = 0;
    std::vector<uint16_t> all;
    for_each_run([&](const TrtRun& run, bool is_new) {
      if (is_new) all = bf16_values(source_, linear_.sources[run.source] + ".bias", false);
      for (int64_t i = 0; i < run.count; ++i) {
        values[at++] = all[static_cast<size_t>(run.begin + i)];
      }
    });
    return to_bytes<uint16_t>(values);
  }

 private:
  // Calls visit(run, whether its source is another than that of the run before).
  template <typename Visit>
  void for_each_run(const Visit& visit) const {
    std::optional<size_t> last;
    for (const TrtRun& run : linear_.runs[static_cast<size_t>(rank_)]) {
      visit(run, last != run.source);
      last = run.source;
    }
  }

  std::string name(size_t source) const { return linear_.sources[source] + ".weight"; }

  CompressedWeight compressed(size_t source) const {
    CompressedWeight weight = source_.compressed(name(source));
    source_.release({name(source)});
    return weight;
  }

  std::vector<uint16_t> values_of(size_t source) const {
    if (source_.is_compressed(name(source))) return dense_values(compressed(source));
    return bf16_values(source_, name(source), plan_.family->transposed);
  }

  Bytes router() const {
    const std::vector<float> values = to_f32(source_.dense(name(0)), name(0));
    source_.release({name(0)});
    return to_bytes<float>(values);
  }

  template <typename Value>
  size_t copy_rows(const std::vector<Value>& all, const TrtRun& run, size_t at,
                   std::vector<Value>& out) const {
    for (int64_t row = run.begin; row < run.begin + run.count; ++row) {
      const auto from = static_cast<size_t>(row * linear_.columns + first_column_);
      std::copy_n(all.begin() + static_cast<std::ptrdiff_t>(from), columns_,
                  out.begin() + static_cast<std::ptrdiff_t>(at));
      at += static_cast<size_t>(columns_);
    }
    return at;
  }

  void add_scales(const CompressedWeight& weight, const TrtRun& run,
                  std::vector<float>& scales) const {
    if (weight.group_size == kPerTensor) return;
    const int64_t groups = weight.group_size > 0 ? columns_ / weight.group_size : 1;
    const int64_t first = weight.group_size > 0 ? first_column_ / weight.group_size : 0;
    for (int64_t row = run.begin; row < run.begin + run.count; ++row) {
      for (int64_t group = 0; group < groups; ++group) {
        scales.push_back(weight.scale[weight.scale_index(row, first + group)]);
      }
    }
  }

  const WeightSource& source_;
  const TrtLinearPlan& plan_;
  const TrtLinear& linear_;
  int64_t rank_;
  int64_t columns_;
  int64_t first_column_;
};

bool packs_rows(TrtAlgo algo) { return algo == TrtAlgo::kInt4 || algo == TrtAlgo::kInt4Fp8; }

// Names, types and shapes of what a linear has on a rank, the weight first.
std::vector<TensorSpec> specs_of(const TrtLinearPlan& plan, int64_t tp_rank) {
  const TrtLinear& linear = plan.linear;
  const TrtAlgo algo = plan.scheme.algo;
  Shape shape = linear.local_shape(tp_rank);
  Shape rows = {shape.begin(), shape.end() - 1};
  const int64_t columns = shape.back();
  std::vector<TensorSpec> specs;
  const auto add = [&](const std::string& suffix, DType dtype, Shape size) {
    specs.push_back({linear.target + suffix, dtype, std::move(size)});
  };
  if (packs_rows(algo)) shape[shape.size() - 2] /= 2;
  DType dtype = DType::kI8;
  if (plan.is_dense()) dtype = linear.is_router ? DType::kF32 : DType::kBf16;
  if (algo == TrtAlgo::kFp8 || algo == TrtAlgo::kFp8Rowwise) dtype = DType::kF8E4m3;
  add(".weight", dtype, shape);
  if (plan.bias) add(".bias", DType::kBf16, rows);
  if (plan.is_dense()) return specs;
  const TrtSuffixes suffixes = trt_suffixes(algo, linear.split == TrtSplit::kColumns);
  if (algo == TrtAlgo::kFp8) {
    add(suffixes.scale, DType::kF32, linear.experts > 0 ? Shape{linear.experts, 1} : Shape{1});
  } else if (packs_rows(algo)) {
    rows.push_back(columns / plan.scheme.group_size);
    add(suffixes.scale, DType::kF32, rows);
  } else {
    const bool two = algo == TrtAlgo::kInt8PerToken;
    add(suffixes.scale, DType::kF32, two ? Shape{1, rows[0]} : rows);
  }
  if (*suffixes.input != '\0') add(suffixes.input, DType::kF32, {1});
  if (*suffixes.second != '\0') add(suffixes.second, DType::kF32, {1});
  if (suffixes.smooth == std::string(".smoother")) {
    add(suffixes.smooth, DType::kF32, {1, columns});
  } else if (*suffixes.smooth != '\0') {
    add(suffixes.smooth, DType::kBf16, {columns});
  }
  return specs;
}

Bytes number(float value) { return to_bytes<float>(std::span<const float>(&value, 1)); }

std::vector<Bytes> make_linear(const WeightSource& source, const TrtLinearPlan& plan,
                               int64_t tp_rank, const std::vector<TensorSpec>& specs) {
  const TrtLinear& linear = plan.linear;
  const RankMaker maker(source, plan, tp_rank);
  std::vector<Bytes> made;
  if (plan.is_dense()) {
    made.push_back(maker.dense());
    if (plan.bias) made.push_back(maker.bias());
    return made;
  }
  std::vector<float> scales;
  const std::vector<int8_t> codes = maker.codes(scales);
  if (packs_rows(plan.scheme.algo)) {
    std::vector<uint8_t> packed(codes.size() / 2);
    pack_row_pairs(codes, {linear.rows_on(tp_rank), linear.local_columns()}, packed);
    made.push_back(to_bytes<uint8_t>(packed));
  } else {
    made.push_back(to_bytes<int8_t>(codes));
  }
  const TrtSuffixes suffixes = trt_suffixes(plan.scheme.algo, linear.split == TrtSplit::kColumns);
  for (size_t i = 1; i < specs.size(); ++i) {
    const std::string suffix = specs[i].name.substr(linear.target.size());
    if (suffix == ".bias") {
      made.push_back(maker.bias());
    } else if (suffix == suffixes.scale) {
      made.push_back(to_bytes<float>(plan.scheme.algo == TrtAlgo::kFp8 ? plan.shared : scales));
    } else if (suffix == suffixes.input) {
      made.push_back(number(plan.input_scale));
    } else if (suffix == suffixes.second) {
      made.push_back(number(plan.second_scale));
    } else {
      std::vector<float> values = maker.smoothing();
      if (suffix == ".smoother") {
        for (float& value : values) value = 1 / value;
        made.push_back(to_bytes<float>(values));
      } else {
        auto rounded = filled<uint16_t>(static_cast<int64_t>(values.size()));
        f32_to_bf16(values, rounded);
        made.push_back(to_bytes<uint16_t>(rounded));
      }
    }
  }
  return made;
}

}  // namespace

TensorPiece trt_linear_piece(std::shared_ptr<const WeightSource> source,
                             std::shared_ptr<const TrtLinearPlan> plan, int64_t tp_rank) {
  TensorPiece piece;
  piece.tensors = specs_of(*plan, tp_rank);
  piece.make = [source = std::move(source), plan = std::move(plan), tp_rank,
                specs = piece.tensors] { return make_linear(*source, *plan, tp_rank, specs); };
  return piece;
}

TensorPiece trt_tensor_piece(std::shared_ptr<const WeightSource> source, const TrtTensor& tensor,
                             const std::string& name, int64_t tp_rank, int64_t tp_size) {
  TensorPiece piece;
  piece.tensors.push_back({tensor.target, DType::kBf16, local_shape(tensor, tp_size)});
  piece.make = [source = std::move(source), tensor, name, tp_rank, local = piece.tensors[0].shape] {
    const int64_t columns = tensor.shape.size() > 1 ? tensor.shape[1] : 1;
    auto values = filled<uint16_t>(element_count(local));
    if (tensor.form == TrtForm::kRelativeBias) {
      const std::vector<uint16_t> all = bf16_values(*source, name, true);
      const auto first = static_cast<std::ptrdiff_t>(tp_rank * element_count(local));
      std::copy_n(all.begin() + first, values.size(), values.begin());
      return std::vector<Bytes>{to_bytes<uint16_t>(values)};
    }
    // The rows of this rank; those that the vocabulary lacks stay zero.
    const bool split = tensor.form == TrtForm::kPadded;
    const int64_t begin = tensor.skip + (split ? tp_rank * local[0] : 0);
    const int64_t rows = std::clamp<int64_t>(tensor.shape[0] - begin, 0, local[0]);
    if (rows > 0) {
      std::ranges::copy(bf16_values(*source, name, begin * columns, rows * columns),
                        values.begin());
    }
    return std::vector<Bytes>{to_bytes<uint16_t>(values)};
  };
  return piece;
}

TensorPiece trt_number_piece(std::vector<std::pair<std::string, float>> numbers) {
  TensorPiece piece;
  for (const auto& [name, value] : numbers) piece.tensors.push_back({name, DType::kF32, {1}});
  piece.make = [numbers = std::move(numbers)] {
    std::vector<Bytes> made;
    for (const auto& [name, value] : numbers) made.push_back(number(value));
    return made;
  };
  return piece;
}

}  // namespace pare
