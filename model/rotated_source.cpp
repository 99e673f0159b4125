#include "model/rotated_source.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>
#include <utility>
#include <vector>

#include "core/sha256.h"
#include "formats/decoding_source.h"
#include "kernels/hadamard.h"
#include "model/block_weights.h"
#include "pare/error.h"

namespace pare {
namespace {

constexpr int64_t kPieceElements = int64_t{1} << 18;  // of a tensor that are read at once
constexpr int64_t kVectors = 32;                      // that are rotated at once

/// A matrix in memory as vectors: element i of vector v is values[i · element + v · vector].
struct Strides {
  int64_t element = 0;
  int64_t vector = 0;
};

/// Rotates each run of the `length` channels of `vectors` vectors.
void mix(float* values, Strides strides, int64_t length, int64_t vectors,
         const HadamardRotation& rotation, const std::vector<int32_t>& channels) {
  const int64_t width = rotation.width();
  const int64_t mixed = channels.empty() ? length : static_cast<int64_t>(channels.size());
  const auto channel = [&](int64_t i) {
    return channels.empty() ? i : int64_t{channels[static_cast<size_t>(i)]};
  };
  std::vector<float> scratch(static_cast<size_t>(width * kVectors));
  for (int64_t first = 0; first < vectors; first += kVectors) {
    const int64_t count = std::min(kVectors, vectors - first);
    const std::span<float> together(scratch.data(), static_cast<size_t>(width * count));
    for (int64_t run = 0; run < mixed; run += width) {
      const auto at = [&](int64_t i) {
        return values + channel(run + i) * strides.element + first * strides.vector;
      };
      for (int64_t i = 0; i < width; ++i) {
        const float* from = at(i);
        for (int64_t v = 0; v < count; ++v) scratch[i * count + v] = from[v * strides.vector];
      }
      rotation.apply(together, count);
      for (int64_t i = 0; i < width; ++i) {
        float* to = at(i);
        for (int64_t v = 0; v < count; ++v) to[v * strides.vector] = scratch[i * count + v];
      }
    }
  }
}

class RotatedSource final : public DecodingSource {
 public:
  RotatedSource(std::shared_ptr<const WeightSource> source, RotationPlan plan,
                RotatedSourceOptions options)
      : DecodingSource(std::move(source)), plan_(std::move(plan)), options_(std::move(options)) {
    std::vector<std::string> all = names();
    for (const auto& [name, tensor] : plan_.tensors) {
      if (base().is_compressed(tensor.stored)) {
        throw Error(ErrorCode::kInputMalformed,
                    base().file_of(tensor.stored) + ": tensor \"" + tensor.stored +
                        "\" is compressed already; give the original model");
      }
      if (!base().contains(name)) all.push_back(name);
      add_rotation(tensor.inputs.width);
      add_rotation(tensor.outputs.width);
      if (!tensor.gain.empty() && !gains_.contains(tensor.gain)) add_gain(tensor);
    }
    std::sort(all.begin(), all.end());
    set_names(std::move(all));
  }

  const std::string& config_json() const override { return options_.config_json; }
  bool contains(const std::string& name) const override {
    return decodes(name) || base().contains(name);
  }
  bool is_compressed(const std::string& name) const override {
    return !decodes(name) && base().is_compressed(name);
  }
  DType dtype(const std::string& name) const override {
    const auto found = plan_.tensors.find(name);
    if (found == plan_.tensors.end()) return base().dtype(name);
    return options_.in_f32.contains(name) ? DType::kF32 : base().dtype(found->second.stored);
  }
  Shape shape(const std::string& name) const override { return base().shape(stored(name)); }
  std::string file_of(const std::string& name) const override {
    return base().file_of(stored(name));
  }
  using DecodingSource::stored_bytes;
  int64_t stored_bytes(const std::string& name) const override {
    if (!decodes(name)) return base().stored_bytes(name);
    return element_count(shape(name)) * static_cast<int64_t>(dtype_size(dtype(name)));
  }
  std::string sha256() const override {
    std::string text = "base " + base().sha256() + "\nconfig " + sha256_hex(options_.config_json) +
                       "\nseed " + std::to_string(options_.seed) + "\n";
    for (const auto& [name, tensor] : plan_.tensors) {
      text += name + " " + std::to_string(tensor.inputs.width) + " " +
              std::to_string(tensor.outputs.width) + " " + std::string(dtype_name(dtype(name))) +
              "\n";
    }
    return sha256_hex(text);
  }

 protected:
  bool decodes(const std::string& name) const override { return plan_.tensors.contains(name); }

  void decode(const std::string& name, int64_t first, std::span<std::byte> out) const override {
    const TensorRotation& tensor = plan_.tensors.at(name);
    const DType type = dtype(name);
    const auto count = static_cast<int64_t>(out.size() / dtype_size(type));
    if (tensor.fill) {
      const std::vector<float> values(static_cast<size_t>(count), *tensor.fill);
      return store(name, values, type, out.data());
    }
    const Shape whole = base().shape(tensor.stored);
    const int64_t columns = whole.size() == 2 ? whole[1] : 1;
    const int64_t rows = element_count(whole) / columns;
    const bool row_by_row = (tensor.transposed ? tensor.inputs : tensor.outputs).width == 0;
    if (!row_by_row) {
      const std::vector<float> values = rotated_rows(tensor, 0, rows, columns, rows);
      const auto begin = values.begin() + first;
      store(name, {begin, begin + count}, type, out.data());
    } else {
      const int64_t piece = std::max<int64_t>(1, kPieceElements / columns);
      const int64_t end = first + count;
      for (int64_t row = first / columns; row * columns < end; row += piece) {
        const int64_t taken = std::min(piece, rows - row);
        const std::vector<float> values = rotated_rows(tensor, row, taken, columns, rows);
        const int64_t from = std::max(first, row * columns);
        const int64_t to = std::min(end, (row + taken) * columns);
        const auto begin = values.begin() - row * columns;
        store(name, {begin + from, begin + to}, type,
              out.data() + (from - first) * static_cast<int64_t>(dtype_size(type)));
      }
    }
    base().release({tensor.stored});
  }

 private:
  const std::string& stored(const std::string& name) const {
    const auto found = plan_.tensors.find(name);
    return found == plan_.tensors.end() ? name : found->second.stored;
  }

  void add_rotation(int64_t width) {
    if (width > 0) rotations_.try_emplace(width, width, options_.seed);
  }

  void add_gain(const TensorRotation& tensor) {
    std::vector<float> gain = load_vector(base(), tensor.gain);
    for (float& value : gain) value += tensor.gain_offset;
    gains_[tensor.gain] = std::move(gain);
    base().release({tensor.gain});
  }

  std::vector<float> load(const std::string& name, int64_t first, int64_t count) const {
    const DType type = base().dtype(name);
    std::vector<float> values;
    values.reserve(static_cast<size_t>(count));
    std::vector<std::byte> bytes;
    for (int64_t at = first; at < first + count; at += kPieceElements) {
      const int64_t piece = std::min(kPieceElements, first + count - at);
      bytes.resize(static_cast<size_t>(piece) * dtype_size(type));
      base().read(name, at, bytes);
      const std::vector<float> part = to_f32({type, {piece}, bytes}, name);
      values.insert(values.end(), part.begin(), part.end());
    }
    return values;
  }

  /// Rows [first, first + count) of the rotated tensor in FP32, as they are stored. REQUIRES: all
  /// rows where channels are mixed across them.
  std::vector<float> rotated_rows(const TensorRotation& tensor, int64_t first, int64_t count,
                                  int64_t columns, int64_t rows) const {
    std::vector<float> values = load(tensor.stored, first * columns, count * columns);
    if (!tensor.gain.empty()) fold_gain(tensor, columns, values);
    const Strides along{1, columns};
    const Strides across{columns, 1};
    const auto apply = [&](const ChannelMixing& mixing, bool across_rows) {
      if (mixing.width == 0) return;
      const HadamardRotation& rotation = rotations_.at(mixing.width);
      if (across_rows) {
        mix(values.data(), across, rows, columns, rotation, mixing.channels);
      } else {
        mix(values.data(), along, columns, count, rotation, mixing.channels);
      }
    };
    apply(tensor.inputs, tensor.transposed);
    apply(tensor.outputs, !tensor.transposed);
    return values;
  }

  void fold_gain(const TensorRotation& tensor, int64_t columns, std::vector<float>& values) const {
    const std::vector<float>& gain = gains_.at(tensor.gain);
    const auto width = static_cast<size_t>(columns);
    for (size_t begin = 0; begin < values.size(); begin += width) {
      for (size_t i = 0; i < width; ++i) {
        values[begin + i] *= gain[tensor.transposed ? begin / width : i];
      }
    }
  }

  void store(const std::string& name, std::span<const float> values, DType type,
             std::byte* out) const {
    for (size_t i = 0; i < values.size(); ++i) {
      float kept = values[i];
      if (type == DType::kF32) {
        std::memcpy(out + 4 * i, &kept, 4);
      } else {
        const uint16_t bits = type == DType::kF16 ? f32_to_f16(kept) : f32_to_bf16(kept);
        std::memcpy(out + 2 * i, &bits, 2);
        kept = type == DType::kF16 ? f16_to_f32(bits) : bf16_to_f32(bits);
      }
      if (!std::isfinite(kept)) {
        throw Error(ErrorCode::kNonFinite, file_of(name) + ": tensor \"" + name +
                                               "\", rotated, is not finite as " +
                                               std::string(dtype_name(type)));
      }
    }
  }

  RotationPlan plan_;
  RotatedSourceOptions options_;
  std::map<int64_t, HadamardRotation> rotations_;    ///< By width.
  std::map<std::string, std::vector<float>> gains_;  ///< Offsets included.
};

}  // namespace

std::unique_ptr<WeightSource> make_rotated_source(std::shared_ptr<const WeightSource> base,
                                                  RotationPlan plan, RotatedSourceOptions options) {
  return std::make_unique<RotatedSource>(std::move(base), std::move(plan), std::move(options));
}

}  // namespace pare
