#include "formats/tensorrt_llm_weight.h"

#include <algorithm>

#include "kernels/codec.h"
#include "pare/error.h"

namespace pare {
namespace {

[[noreturn]] void malformed(const SafetensorsFile& file, const std::string& tensor,
                            const std::string& what) {
  throw Error(ErrorCode::kInputMalformed, file.path() + ": tensor \"" + tensor + "\" " + what);
}

class WeightReader {
 public:
  WeightReader(const TrtFolder& folder, const TrtPlaced& tensor)
      : folder_(folder), tensor_(tensor), info_(trt_algo_info(tensor.scheme.algo)) {}

  CompressedWeight read() {
    const TrtSuffixes suffixes =
        trt_suffixes(tensor_.scheme.algo, tensor_.linear->split == TrtSplit::kColumns);
    weight_.format = info_.weight;
    weight_.activation = info_.activation;
    weight_.out_features = tensor_.rows;
    weight_.in_features = tensor_.columns;
    weight_.group_size = info_.group_size > 0 ? tensor_.scheme.group_size : info_.group_size;
    read_scales(tensor_.linear->target + suffixes.scale);
    read_codes();
    if (*suffixes.input != '\0') {
      weight_.input_scale = read_number(tensor_.linear->target + suffixes.input);
    }
    if (*suffixes.smooth != '\0') read_smoothing(suffixes.smooth);
    return std::move(weight_);
  }

 private:
  const SafetensorsFile& file(const TrtPlace& place) const {
    return folder_.files[place.file].file;
  }

  // Rows of a tensor of a rank, in elements of the weight: INT4 has two in one.
  int64_t local_rows(const TrtPlace& place) const {
    const TensorView& view = file(place).get(place.tensor);
    const int64_t packed = weight_.format == WeightFormat::kInt4 ? 2 : 1;
    return element_count(view.shape) / view.shape.back() * packed;
  }

  void read_codes() {
    std::vector<int8_t> codes(static_cast<size_t>(tensor_.rows * tensor_.columns));
    if (weight_.format != WeightFormat::kInt4) {
      gather_rows(folder_, tensor_, 0, tensor_.rows, std::as_writable_bytes(std::span(codes)));
    } else {
      for (const TrtPlace& place : tensor_.places) read_nibbles(place, codes);
    }
    pack_codes(codes, {}, weight_);
  }

  // Rows 2j and 2j + 1 share their bytes.
  void read_nibbles(const TrtPlace& place, std::vector<int8_t>& codes) const {
    const TensorView& view = file(place).get(place.tensor);
    const int64_t local = view.shape.back();
    for (int64_t i = 0; i < place.count; ++i) {
      const int64_t row = place.row + i;
      const std::byte* bytes = view.bytes.data() + row / 2 * local;
      int8_t* to = codes.data() + (place.begin + i) * tensor_.columns + place.column;
      for (int64_t column = 0; column < local; ++column) {
        const int nibble = static_cast<int>(bytes[column]) >> (row % 2 == 0 ? 0 : 4) & 15;
        const auto code = static_cast<int8_t>(nibble >= 8 ? nibble - 16 : nibble);
        if (place.copy && to[column] != code) {
          malformed(file(place), place.tensor,
                    "repeats rows that are others where they come first");
        }
        to[column] = code;
      }
    }
    file(place).release(place.tensor);
  }

  void read_scales(const std::string& name) {
    weight_.scale.assign(static_cast<size_t>(weight_.scale_rows() * weight_.groups()), 0);
    known_.assign(weight_.scale.size(), false);
    for (const TrtPlace& place : tensor_.places) {
      if (weight_.group_size == kPerTensor) {
        read_shared_scale(place, name);
      } else {
        read_row_scales(place, name);
      }
    }
  }

  void set_scale(const TrtPlace& place, const std::string& name, size_t at, float value) {
    if (known_[at] && weight_.scale[at] != value) {
      malformed(file(place), name, "has another scale than an earlier rank for the same weights");
    }
    known_[at] = true;
    weight_.scale[at] = value;
  }

  void read_shared_scale(const TrtPlace& place, const std::string& name) {
    const int64_t experts = tensor_.linear->experts;
    const auto scales = read_numbers(file(place), name, std::max<int64_t>(1, experts));
    // Rows of an expert follow each other.
    const int64_t expert = experts > 0 ? place.row / (local_rows(place) / experts) : 0;
    set_scale(place, name, 0, scales[static_cast<size_t>(expert)]);
  }

  void read_row_scales(const TrtPlace& place, const std::string& name) {
    const int64_t local = file(place).get(place.tensor).shape.back();
    const bool grouped = weight_.group_size > 0;
    const int64_t groups = grouped ? local / weight_.group_size : 1;
    const int64_t first = grouped ? place.column / weight_.group_size : 0;
    const auto scales = read_numbers(file(place), name, local_rows(place) * groups);
    for (int64_t i = 0; i < place.count; ++i) {
      for (int64_t group = 0; group < groups; ++group) {
        set_scale(place, name, weight_.scale_index(place.begin + i, first + group),
                  scales[static_cast<size_t>((place.row + i) * groups + group)]);
      }
    }
  }

  float read_number(const std::string& name) const {
    const float value = read_numbers(file(tensor_.places.at(0)), name, 1)[0];
    for (const TrtPlace& place : tensor_.places) {
      if (read_numbers(file(place), name, 1)[0] != value) {
        malformed(file(place), name, "is not the same on all ranks");
      }
    }
    return value;
  }

  // Each rank has those of its own columns, or all.
  void read_smoothing(const std::string& suffix) {
    const std::string name = tensor_.linear->target + suffix;
    std::vector<float> scales(static_cast<size_t>(tensor_.columns), 1);
    std::vector<bool> known(scales.size(), false);
    for (const TrtPlace& place : tensor_.places) {
      const int64_t local = file(place).get(place.tensor).shape.back();
      std::vector<float> own(static_cast<size_t>(local), 1);
      if (file(place).contains(name)) own = read_numbers(file(place), name, local);
      for (size_t i = 0; i < own.size(); ++i) {
        const size_t at = static_cast<size_t>(place.column) + i;
        if (known[at] && scales[at] != own[i]) {
          malformed(file(place), name, "is not the same on all ranks");
        }
        known[at] = true;
        scales[at] = own[i];
      }
    }
    if (std::ranges::all_of(scales, [](float scale) { return scale == 1; })) return;
    // A smoother divides.
    if (suffix == ".smoother") {
      for (float& scale : scales) scale = 1 / scale;
    }
    weight_.pre_quant_scale = std::move(scales);
  }

  const TrtFolder& folder_;
  const TrtPlaced& tensor_;
  const TrtAlgoInfo& info_;
  CompressedWeight weight_;
  std::vector<bool> known_;  ///< Scales that a rank has said.
};

}  // namespace

void gather_rows(const TrtFolder& folder, const TrtPlaced& tensor, int64_t first, int64_t last,
                 std::span<std::byte> out) {
  std::ranges::fill(out, std::byte{0});
  const size_t element = dtype_size(tensor.dtype);
  const size_t row_bytes = static_cast<size_t>(tensor.columns) * element;
  for (const TrtPlace& place : tensor.places) {
    const int64_t begin = std::max(first, place.begin);
    const int64_t end = std::min(last, place.begin + place.count);
    if (begin >= end) continue;
    const SafetensorsFile& file = folder.files[place.file].file;
    const TensorView& view = file.get(place.tensor);
    const size_t bytes =
        (view.shape.size() > 1 ? static_cast<size_t>(view.shape.back()) : 1) * element;
    const auto skipped = static_cast<size_t>(place.row + begin - place.begin);
    const std::span<const std::byte> rows =
        view.bytes.subspan(skipped * bytes, static_cast<size_t>(end - begin) * bytes);
    for (int64_t row = begin; row < end; ++row) {
      const auto from = rows.subspan(static_cast<size_t>(row - begin) * bytes, bytes);
      const auto to = out.subspan(static_cast<size_t>(row - first) * row_bytes +
                                      static_cast<size_t>(place.column) * element,
                                  bytes);
      if (!place.copy) {
        std::ranges::copy(from, to.begin());
      } else if (!std::ranges::equal(from, to)) {
        malformed(file, place.tensor,
                  "repeats rows of \"" + tensor.places[0].tensor + "\" of " +
                      folder.files[tensor.places[0].file].file.path() + ", which are others there");
      }
    }
    file.release(rows);
  }
}

CompressedWeight read_trt_weight(const TrtFolder& folder, const TrtPlaced& tensor,
                                 const std::string& name) {
  CompressedWeight weight = WeightReader(folder, tensor).read();
  validate(weight, folder.files[tensor.places.at(0).file].file.path() + ": " + name);
  return weight;
}

std::vector<float> read_numbers(const SafetensorsFile& file, const std::string& tensor,
                                int64_t count) {
  const TensorView& view = file.get(tensor);
  if (element_count(view.shape) != count) {
    malformed(
        file, tensor,
        "has shape " + shape_text(view.shape) + ", expected " + std::to_string(count) + " numbers");
  }
  return to_f32(view, file.path() + ": " + tensor);
}

}  // namespace pare
