#include "formats/merged_source.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "core/sha256.h"
#include "formats/decoding_source.h"
#include "formats/resolve_names.h"
#include "pare/error.h"

namespace pare {
namespace {

constexpr int64_t kPieceElements = int64_t{1} << 18;  ///< Of a weight that are worked on at once.

/// scale·B·A in the layout of the stored weight: element (i, j) = scale · Σ_k left(i, k) right(k,
/// j).
struct Delta {
  int64_t rank = 0;
  float scale = 0;
  std::vector<float> left;   ///< [rows, rank]
  std::vector<float> right;  ///< [rank, columns]
};

std::vector<float> transposed(const std::vector<float>& matrix, int64_t rows, int64_t columns) {
  std::vector<float> result(matrix.size());
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      result[static_cast<size_t>(j * rows + i)] = matrix[static_cast<size_t>(i * columns + j)];
    }
  }
  return result;
}

Delta make_delta(LoraFactors factors, bool stored_in_out) {
  Delta delta{.rank = factors.rank, .scale = factors.scale, .left = {}, .right = {}};
  if (stored_in_out) {
    delta.left = transposed(factors.a, factors.rank, factors.in_features);
    delta.right = transposed(factors.b, factors.out_features, factors.rank);
  } else {
    delta.left = std::move(factors.b);
    delta.right = std::move(factors.a);
  }
  return delta;
}

/// weight (`columns` values of row `row`) += delta.
void add_delta(const Delta& delta, int64_t row, std::span<float> weight, std::vector<float>& sum) {
  const size_t columns = weight.size();
  sum.assign(columns, 0.0F);
  for (int64_t k = 0; k < delta.rank; ++k) {
    const float left = delta.left[static_cast<size_t>(row * delta.rank + k)];
    const float* right = delta.right.data() + static_cast<size_t>(k) * columns;
    for (size_t j = 0; j < columns; ++j) sum[j] += left * right[j];
  }
  for (size_t j = 0; j < columns; ++j) weight[j] += delta.scale * sum[j];
}

void store(std::span<const float> values, DType type, std::byte* out) {
  if (type == DType::kF32) {
    std::memcpy(out, values.data(), values.size_bytes());
    return;
  }
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t bits = type == DType::kBf16 ? f32_to_bf16(values[i]) : f32_to_f16(values[i]);
    std::memcpy(out + 2 * i, &bits, 2);
  }
}

class MergedSource final : public DecodingSource {
 public:
  MergedSource(std::shared_ptr<const WeightSource> source,
               std::shared_ptr<const LoraAdapter> adapter)
      : DecodingSource(std::move(source)), adapter_(std::move(adapter)) {
    std::map<std::string, std::string> wanted;  // Weight → module.
    for (const std::string& module : adapter_->modules()) wanted[module + ".weight"] = module;
    for (const auto& [name, view] : adapter_->replacements()) wanted[name];
    std::vector<std::string> names;
    for (const auto& [name, module] : wanted) names.push_back(name);
    const auto found = match_names(names, base().names(), adapter_->file());
    for (const auto& [name, module] : wanted) {
      const auto other = found.find(name);
      const std::string& stored = other == found.end() ? name : other->second;
      const std::string& origin = module.empty() ? name : module;
      if (!base().contains(stored)) {
        malformed(origin, "matches no tensor of " + base().path() + " (expected \"" + name + "\")");
      }
      check_dense(origin, stored);
      Change& change = changes_[stored];
      if (adapter_->replacements().contains(name)) add_replacement(name, stored, change);
      if (!module.empty()) add_module(module, stored, change);
    }
  }

  std::string sha256() const override {
    return sha256_hex("base " + base().sha256() + "\nadapter " + adapter_->sha256() + "\n");
  }

 protected:
  bool decodes(const std::string& name) const override { return changes_.contains(name); }

  void decode(const std::string& name, int64_t first, std::span<std::byte> out) const override {
    const Change& change = changes_.at(name);
    const DType type = base().dtype(name);
    const auto size = static_cast<int64_t>(dtype_size(type));
    const int64_t end = first + static_cast<int64_t>(out.size()) / size;
    const auto put = [&](int64_t begin, std::span<const float> values) {
      const int64_t from = std::max(begin, first);
      const int64_t to = std::min(begin + static_cast<int64_t>(values.size()), end);
      const auto part =
          values.subspan(static_cast<size_t>(from - begin), static_cast<size_t>(to - from));
      store(part, type, out.data() + (from - first) * size);
      check_stored(name, {out.data() + (from - first) * size, part.size() * dtype_size(type)});
    };
    if (change.module.empty()) {
      for (int64_t at = first; at < end; at += kPieceElements) {
        put(at, load(name, change, at, std::min(kPieceElements, end - at)));
      }
      return;
    }
    const Shape shape = base().shape(name);
    const LoraFactors factors = *adapter_->find(change.module);
    const Delta delta = make_delta(factors, change.stored_in_out);
    const int64_t last_row = (end - 1) / shape[1];
    if (factors.magnitude.empty()) {
      merge_rows(name, change, delta, {first / shape[1], last_row + 1}, put);
    } else {
      merge_dora(name, change, factors, delta, {first / shape[1], last_row + 1}, put);
    }
  }

 private:
  /// What happens to one tensor of the base.
  struct Change {
    const TensorView* replacement = nullptr;  ///< In the adapter's mapping.
    std::string module;                       ///< The adapter's; empty when there are no factors.
    bool stored_in_out = false;
  };
  struct Rows {
    int64_t begin = 0;
    int64_t end = 0;
  };

  [[noreturn]] void malformed(const std::string& origin, const std::string& what) const {
    throw Error(ErrorCode::kInputMalformed,
                adapter_->file() + ": tensor \"" + adapter_->tensor_of(origin) + "\" " + what);
  }

  void check_dense(const std::string& origin, const std::string& stored) const {
    if (base().is_compressed(stored)) {
      malformed(origin, "cannot be merged into \"" + stored + "\" of " + base().file_of(stored) +
                            ", which is compressed; keep the adapter beside it");
    }
    const DType type = base().dtype(stored);
    if (type != DType::kF32 && type != DType::kF16 && type != DType::kBf16) {
      malformed(origin, "cannot be merged into \"" + stored + "\" of " + base().file_of(stored) +
                            ", which is " + std::string(dtype_name(type)));
    }
  }

  void add_replacement(const std::string& name, const std::string& stored, Change& change) const {
    change.replacement = &adapter_->replacements().at(name);
    if (change.replacement->shape != base().shape(stored)) {
      malformed(name, "has shape " + shape_text(change.replacement->shape) + ", \"" + stored +
                          "\" of " + base().file_of(stored) + " has " +
                          shape_text(base().shape(stored)));
    }
  }

  void add_module(const std::string& module, const std::string& stored, Change& change) const {
    const LoraFactors factors = *adapter_->find(module);
    const Shape shape = base().shape(stored);
    const Shape out_in{factors.out_features, factors.in_features};
    const Shape in_out{factors.in_features, factors.out_features};
    // Whether a weight lies [in, out] is a matter of its layer (GPT-2's Conv1D does, embeddings
    // do); the adapter's flag decides where the shape leaves it open.
    const bool flag = factors.embedding || adapter_->config().fan_in_fan_out;
    change.stored_in_out = shape == in_out && (flag || shape != out_in);
    if (shape != in_out && shape != out_in) {
      malformed(module, "adapts " + std::to_string(factors.in_features) + " inputs and " +
                            std::to_string(factors.out_features) + " outputs, \"" + stored +
                            "\" of " + base().file_of(stored) + " has shape " + shape_text(shape));
    }
    change.module = module;
  }

  /// Elements of the weight before the factors are added.
  std::vector<float> load(const std::string& name, const Change& change, int64_t first,
                          int64_t count) const {
    if (change.replacement != nullptr) {
      const size_t size = dtype_size(change.replacement->dtype);
      return to_f32({change.replacement->dtype,
                     {count},
                     change.replacement->bytes.subspan(static_cast<size_t>(first) * size,
                                                       static_cast<size_t>(count) * size)},
                    name);
    }
    const DType type = base().dtype(name);
    std::vector<std::byte> bytes(static_cast<size_t>(count) * dtype_size(type));
    base().read(name, first, bytes);
    return to_f32({type, {count}, bytes}, name);
  }

  /// Calls put(first element, values) with W + scale·B·A of the rows, some whole rows at a time.
  template <typename Put>
  void merge_rows(const std::string& name, const Change& change, const Delta& delta, Rows rows,
                  const Put& put) const {
    const int64_t columns = base().shape(name)[1];
    const int64_t piece = std::max<int64_t>(1, kPieceElements / columns);
    std::vector<float> sum;
    for (int64_t row = rows.begin; row < rows.end; row += piece) {
      const int64_t count = std::min(piece, rows.end - row);
      std::vector<float> values = load(name, change, row * columns, count * columns);
      for (int64_t i = 0; i < count; ++i) {
        add_delta(delta, row + i,
                  std::span(values).subspan(static_cast<size_t>(i * columns),
                                            static_cast<size_t>(columns)),
                  sum);
      }
      put(row * columns, std::span<float>(values));
    }
  }

  /// The same, with every output feature scaled to its magnitude.
  template <typename Put>
  void merge_dora(const std::string& name, const Change& change, const LoraFactors& factors,
                  const Delta& delta, Rows rows, const Put& put) const {
    const int64_t columns = base().shape(name)[1];
    // An output feature lies along a row, or down all rows.
    const Rows needed = change.stored_in_out ? Rows{0, base().shape(name)[0]} : rows;
    std::vector<double> squares(factors.magnitude.size());
    const auto output_of = [&](int64_t element) {
      return static_cast<size_t>(change.stored_in_out ? element % columns : element / columns);
    };
    merge_rows(name, change, delta, needed, [&](int64_t first, std::span<const float> values) {
      for (size_t i = 0; i < values.size(); ++i) {
        const auto value = static_cast<double>(values[i]);
        squares[output_of(first + static_cast<int64_t>(i))] += value * value;
      }
    });
    merge_rows(name, change, delta, rows, [&](int64_t first, std::span<float> values) {
      for (size_t i = 0; i < values.size(); ++i) {
        const size_t output = output_of(first + static_cast<int64_t>(i));
        values[i] *= factors.magnitude[output] / static_cast<float>(std::sqrt(squares[output]));
      }
      put(first, values);
    });
  }

  void check_stored(const std::string& name, std::span<const std::byte> bytes) const {
    const DType type = base().dtype(name);
    const auto count = static_cast<int64_t>(bytes.size() / dtype_size(type));
    for (const float value : to_f32({type, {count}, bytes}, name)) {
      if (!std::isfinite(value)) {
        throw Error(ErrorCode::kNonFinite, base().file_of(name) + ": tensor \"" + name +
                                               "\" with the adapter " + adapter_->file() +
                                               " is not finite");
      }
    }
  }

  std::shared_ptr<const LoraAdapter> adapter_;
  std::map<std::string, Change> changes_;  ///< By the base's name.
};

}  // namespace

std::unique_ptr<WeightSource> make_merged_source(std::shared_ptr<const WeightSource> base,
                                                 std::shared_ptr<const LoraAdapter> adapter) {
  return std::make_unique<MergedSource>(std::move(base), std::move(adapter));
}

}  // namespace pare
