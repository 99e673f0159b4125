#include "formats/mxfp4_source.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <utility>

#include "formats/decoding_source.h"
#include "pare/error.h"

namespace pare {
namespace {

constexpr const char* kBlocks = "_blocks";
constexpr const char* kScales = "_scales";
constexpr int64_t kGroup = 32;       ///< Values that share a scale.
constexpr int64_t kGroupBytes = 16;  ///< Two codes a byte.
constexpr int64_t kTile = 32;        ///< Output features that are transposed at a time.
constexpr size_t kNanScale = 255;

/// BF16 bits of code × 2^(scale - 127), [scale][code].
using ValueTable = std::array<std::array<uint16_t, 16>, 256>;

ValueTable make_values() {
  ValueTable values{};
  for (size_t scale = 0; scale < values.size(); ++scale) {
    for (size_t code = 0; code < 16; ++code) {
      const float value =
          std::ldexp(e2m1_to_f32(static_cast<uint8_t>(code)), static_cast<int>(scale) - 127);
      values[scale][code] = scale == kNanScale ? uint16_t{0x7fc0} : f32_to_bf16(value);
    }
  }
  return values;
}

class Mxfp4Source final : public DecodingSource {
 public:
  explicit Mxfp4Source(std::shared_ptr<const WeightSource> source)
      : DecodingSource(std::move(source)), values_(make_values()) {
    std::vector<std::string> shown;
    for (const std::string& name : base().names()) {
      if (is_part(name, kBlocks)) {
        shown.push_back(add(stem(name)));
      } else if (is_part(name, kScales)) {
        check_orphan(name);
      } else {
        shown.push_back(name);
      }
    }
    std::sort(shown.begin(), shown.end());
    set_names(std::move(shown));
  }

  bool contains(const std::string& name) const override {
    return decodes(name) ||
           (base().contains(name) && !is_part(name, kBlocks) && !is_part(name, kScales));
  }
  bool is_compressed(const std::string& name) const override {
    return !decodes(name) && base().is_compressed(name);
  }
  DType dtype(const std::string& name) const override {
    return decodes(name) ? DType::kBf16 : base().dtype(name);
  }
  Shape shape(const std::string& name) const override {
    const auto found = packed_.find(name);
    if (found == packed_.end()) return base().shape(name);
    return {found->second.experts, found->second.groups * kGroup, found->second.rows};
  }
  CompressedWeight compressed(const std::string& name) const override {
    return base().compressed(decodes(name) ? name + kBlocks : name);  // The base says why not.
  }
  std::string file_of(const std::string& name) const override {
    return base().file_of(decodes(name) ? name + kBlocks : name);
  }
  using ForwardingSource::stored_bytes;
  int64_t stored_bytes(const std::string& name) const override {
    if (!decodes(name)) return base().stored_bytes(name);
    return base().stored_bytes(name + kBlocks) + base().stored_bytes(name + kScales);
  }

 protected:
  bool decodes(const std::string& name) const override { return packed_.contains(name); }

  void decode(const std::string& name, int64_t first, std::span<std::byte> out) const override {
    const Packed& packed = packed_.at(name);
    const int64_t expert_size = packed.groups * kGroup * packed.rows;
    const int64_t end = first + static_cast<int64_t>(out.size() / 2);
    for (int64_t at = first; at < end;) {
      const int64_t expert = at / expert_size;
      const int64_t stop = std::min(end, (expert + 1) * expert_size);
      decode_expert(name, packed, expert, {at - expert * expert_size, stop - expert * expert_size},
                    out.data() + 2 * (at - first));
      at = stop;
    }
  }

 private:
  struct Packed {
    int64_t experts = 0;
    int64_t rows = 0;    ///< Output features.
    int64_t groups = 0;  ///< Of input features.
  };
  /// Elements of one expert's [in, out].
  struct Run {
    int64_t begin = 0;
    int64_t end = 0;
  };

  static std::string stem(const std::string& name) {
    return name.substr(0, name.size() - std::strlen(kBlocks));
  }
  bool is_part(const std::string& name, const char* suffix) const {
    return name.ends_with(suffix) && base().contains(name) && !base().is_compressed(name) &&
           base().dtype(name) == DType::kU8;
  }
  [[noreturn]] void malformed(const std::string& name, const std::string& what) const {
    throw Error(ErrorCode::kInputMalformed, base().file_of(name) + ": " + what);
  }

  void check_orphan(const std::string& scales) const {
    const std::string blocks = stem(scales) + kBlocks;
    if (!is_part(blocks, kBlocks)) {
      malformed(scales, "scales \"" + scales + "\" have no uint8 tensor \"" + blocks + "\"");
    }
  }

  const std::string& add(const std::string& name) {
    const std::string blocks = name + kBlocks;
    const std::string scales = name + kScales;
    const std::string both = "\"" + blocks + "\" and \"" + scales + "\": ";
    if (!is_part(scales, kScales)) {
      malformed(blocks, both + "the latter is not there as uint8");
    }
    if (base().contains(name)) {
      malformed(blocks, both + "\"" + name + "\" itself is there too, in " + base().file_of(name));
    }
    const Shape shape = base().shape(blocks);
    Shape expected = shape;
    if (!expected.empty()) expected.pop_back();
    if (shape.size() != 4 || shape[3] != kGroupBytes || element_count(shape) == 0 ||
        base().shape(scales) != expected) {
      malformed(blocks, both + "shapes " + shape_text(shape) + " and " +
                            shape_text(base().shape(scales)) +
                            ", expected [experts, out, in / 32, 16] and [experts, out, in / 32]");
    }
    // The decoded shape has twice as many elements as there are bytes: it must be countable too.
    element_count({shape[0], shape[2] * kGroup, shape[1]});
    return packed_.emplace(name, Packed{shape[0], shape[1], shape[2]}).first->first;
  }

  /// Tile by tile: codes lie along the inputs, values along the outputs.
  void decode_expert(const std::string& name, const Packed& packed, int64_t expert, Run run,
                     std::byte* out) const {
    const int64_t first_group = run.begin / packed.rows / kGroup;
    const int64_t last_group = (run.end - 1) / packed.rows / kGroup;
    const int64_t expert_scales = packed.rows * packed.groups;
    const auto codes = base().dense_part(name + kBlocks, expert * expert_scales * kGroupBytes,
                                         expert_scales * kGroupBytes);
    const auto scales = base().dense_part(name + kScales, expert * expert_scales, expert_scales);
    bool overflow = false;
    std::array<std::array<uint16_t, kTile>, kGroup> tile{};
    for (int64_t group = first_group; group <= last_group; ++group) {
      for (int64_t row = 0; row < packed.rows; row += kTile) {
        const int64_t width = std::min(kTile, packed.rows - row);
        for (int64_t i = 0; i < width; ++i) {
          const auto at = static_cast<size_t>((row + i) * packed.groups + group);
          const auto scale = static_cast<size_t>(scales.bytes[at]);
          if (scale == kNanScale) not_finite(name, "has scales \"" + name + kScales + "\" of NaN");
          const auto& values = values_[scale];
          for (size_t j = 0; j < kGroupBytes; ++j) {
            const auto byte = static_cast<size_t>(codes.bytes[at * kGroupBytes + j]);
            tile[2 * j][static_cast<size_t>(i)] = values[byte & 15U];
            tile[2 * j + 1][static_cast<size_t>(i)] = values[byte >> 4];
          }
        }
        for (int64_t k = 0; k < kGroup; ++k) {
          const int64_t place = (group * kGroup + k) * packed.rows + row;
          const int64_t begin = std::max(place, run.begin);
          const int64_t end = std::min(place + width, run.end);
          if (begin >= end) continue;
          const uint16_t* from = tile[static_cast<size_t>(k)].data() + (begin - place);
          for (int64_t i = 0; i < end - begin; ++i) overflow |= (from[i] & 0x7f80U) == 0x7f80U;
          std::memcpy(out + 2 * (begin - run.begin), from, static_cast<size_t>(2 * (end - begin)));
        }
      }
    }
    base().release_part(name + kBlocks, expert * expert_scales * kGroupBytes,
                        expert_scales * kGroupBytes);
    if (overflow) not_finite(name, "holds values beyond bfloat16");
  }

  [[noreturn]] void not_finite(const std::string& name, const std::string& what) const {
    throw Error(ErrorCode::kNonFinite, file_of(name) + ": tensor \"" + name + "\" " + what);
  }

  ValueTable values_;
  std::map<std::string, Packed> packed_;
};

}  // namespace

std::unique_ptr<WeightSource> make_mxfp4_source(std::shared_ptr<const WeightSource> base) {
  return std::make_unique<Mxfp4Source>(std::move(base));
}

}  // namespace pare
