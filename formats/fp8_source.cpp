#include "formats/fp8_source.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <utility>

#include "formats/decoding_source.h"
#include "pare/error.h"

namespace pare {
namespace {

constexpr const char* kScaleSuffix = "_scale_inv";

/// What decoding a run of codes met.
struct Faults {
  bool nan_code = false;
  bool overflow = false;
};

/// Bits of BF16(code × scale) for a code that is not NaN and a finite scale, as e4m3_to_f32() and
/// f32_to_bf16() give them; without branches, for vectors, and without subnormal operands, which
/// are slow.
inline uint32_t product_bits(uint32_t code, float scale) {
  const uint32_t magnitude = code & 0x7fU;
  const uint32_t normal = (magnitude << 20) + (120U << 23);
  const float subnormal = static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-9F;
  const uint32_t is_subnormal = 0U - static_cast<uint32_t>(magnitude < 8);
  const uint32_t value = (std::bit_cast<uint32_t>(subnormal) & is_subnormal) |
                         (normal & ~is_subnormal) | ((code & 0x80U) << 24);
  const uint32_t bits = std::bit_cast<uint32_t>(std::bit_cast<float>(value) * scale);
  return (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
}

/// One row of one block: out = BF16(code × scale).
void decode_run(const std::byte* codes, size_t count, float scale, std::byte* out, Faults& faults) {
  constexpr size_t kRun = 128;
  std::array<uint16_t, kRun> values;
  for (size_t begin = 0; begin < count; begin += kRun) {
    const size_t size = std::min(kRun, count - begin);
    uint32_t nan_code = 0;
    uint32_t overflow = 0;
    for (size_t i = 0; i < size; ++i) {
      const auto code = static_cast<uint32_t>(codes[begin + i]);
      const uint32_t bits = product_bits(code, scale);
      nan_code |= (code & 0x7fU) + 1U;       // 0x80 for NaN alone
      overflow |= (bits & 0x7fffU) + 0x80U;  // 0x8000 from infinity on
      values[i] = static_cast<uint16_t>(bits);
    }
    faults.nan_code |= (nan_code & 0x80U) != 0;
    faults.overflow |= (overflow & 0x8000U) != 0;
    std::memcpy(out + 2 * begin, values.data(), 2 * size);
  }
}

class Fp8Source final : public DecodingSource {
 public:
  Fp8Source(std::shared_ptr<const WeightSource> source, const Fp8Blocks& blocks)
      : DecodingSource(std::move(source)), blocks_(blocks) {
    std::vector<std::string> shown;
    for (const std::string& name : base().names()) {
      if (name.ends_with(kScaleSuffix)) {
        check_orphan(name);
        continue;
      }
      shown.push_back(name);
      if (!base().is_compressed(name) && base().dtype(name) == DType::kF8E4m3) add(name);
    }
    set_names(std::move(shown));
  }

  bool contains(const std::string& name) const override {
    return !name.ends_with(kScaleSuffix) && base().contains(name);
  }
  DType dtype(const std::string& name) const override {
    return decodes(name) ? DType::kBf16 : base().dtype(name);
  }
  using ForwardingSource::stored_bytes;
  int64_t stored_bytes(const std::string& name) const override {
    return base().stored_bytes(name) +
           (decodes(name) ? base().stored_bytes(name + kScaleSuffix) : 0);
  }

 protected:
  bool decodes(const std::string& name) const override { return blocked_.contains(name); }

  void decode(const std::string& name, int64_t first, std::span<std::byte> out) const override {
    const Blocked& blocked = blocked_.at(name);
    const int64_t end = first + static_cast<int64_t>(out.size() / 2);
    const int64_t first_scale_row = blocked.scale_row(first / blocked.columns);
    const int64_t scale_rows = blocked.scale_row((end - 1) / blocked.columns) + 1 - first_scale_row;
    const std::vector<float> scales = load_scales(name, first_scale_row, scale_rows, blocked);
    const TensorView codes = base().dense_part(name, first, end - first);
    Faults faults;
    for (int64_t at = first; at < end;) {
      const int64_t row = at / blocked.columns;
      const int64_t column = at % blocked.columns;
      const int64_t block = column / blocked.block.columns;
      const int64_t run = std::min(
          {end - at, blocked.columns - column, (block + 1) * blocked.block.columns - column});
      const int64_t scale =
          (blocked.scale_row(row) - first_scale_row) * blocked.scale_columns + block;
      decode_run(codes.bytes.data() + (at - first), static_cast<size_t>(run),
                 scales[static_cast<size_t>(scale)], out.data() + 2 * (at - first), faults);
      at += run;
    }
    base().release_part(name, first, end - first);
    if (faults.nan_code) not_finite(name, "holds codes that are NaN");
    if (faults.overflow) {
      not_finite(name, "times its scales \"" + name + kScaleSuffix + "\" is beyond bfloat16");
    }
  }

 private:
  /// A tensor as `matrices` matrices one below the other.
  struct Blocked {
    int64_t rows = 0;  ///< Of one matrix.
    int64_t columns = 0;
    int64_t scale_rows = 0;
    int64_t scale_columns = 0;
    Fp8Blocks block;

    int64_t scale_row(int64_t row) const {
      return row / rows * scale_rows + row % rows / block.rows;
    }
  };

  [[noreturn]] void malformed(const std::string& name, const std::string& what) const {
    throw Error(ErrorCode::kInputMalformed, base().file_of(name) + ": " + what);
  }
  [[noreturn]] void not_finite(const std::string& name, const std::string& what) const {
    throw Error(ErrorCode::kNonFinite, base().file_of(name) + ": tensor \"" + name + "\" " + what);
  }

  void check_orphan(const std::string& scale) const {
    const std::string name = scale.substr(0, scale.size() - std::strlen(kScaleSuffix));
    const std::string shown = "scale \"" + scale + "\": ";
    if (!base().contains(name)) malformed(scale, shown + "there is no tensor \"" + name + "\"");
    if (base().is_compressed(name) || base().dtype(name) != DType::kF8E4m3) {
      malformed(scale, shown + "tensor \"" + name + "\" is " +
                           std::string(dtype_name(base().dtype(name))) +
                           ", expected float8_e4m3fn");
    }
  }

  void add(const std::string& name) {
    const std::string scale = name + kScaleSuffix;
    if (!base().contains(scale)) {
      malformed(name, "tensor \"" + name + "\" is float8_e4m3fn and its scale \"" + scale +
                          "\" is not there");
    }
    const DType type = base().dtype(scale);
    if (type != DType::kF32 && type != DType::kBf16 && type != DType::kF16) {
      malformed(scale, "scale \"" + scale + "\" of \"" + name + "\" is " +
                           std::string(dtype_name(type)) +
                           ", expected float32, float16 or bfloat16");
    }
    const Shape shape = base().shape(name);
    if ((shape.size() != 2 && shape.size() != 3) || element_count(shape) == 0) {
      malformed(name, "tensor \"" + name + "\" (scale \"" + scale + "\") has shape " +
                          shape_text(shape) + ", expected a matrix or one per expert");
    }
    Blocked blocked{.rows = shape[shape.size() - 2],
                    .columns = shape.back(),
                    .scale_rows = 0,
                    .scale_columns = 0,
                    .block = blocks_};
    blocked.scale_rows = (blocked.rows - 1) / blocks_.rows + 1;
    blocked.scale_columns = (blocked.columns - 1) / blocks_.columns + 1;
    Shape expected = shape;
    expected[shape.size() - 2] = blocked.scale_rows;
    expected.back() = blocked.scale_columns;
    if (base().shape(scale) != expected) {
      malformed(scale, "scale \"" + scale + "\" has shape " + shape_text(base().shape(scale)) +
                           ", expected " + shape_text(expected) + " for \"" + name + "\" " +
                           shape_text(shape) + " in blocks of " +
                           shape_text({blocks_.rows, blocks_.columns}));
    }
    blocked_.emplace(name, blocked);
  }

  std::vector<float> load_scales(const std::string& name, int64_t first_row, int64_t rows,
                                 const Blocked& blocked) const {
    const std::string scale = name + kScaleSuffix;
    const TensorView part =
        base().dense_part(scale, first_row * blocked.scale_columns, rows * blocked.scale_columns);
    std::vector<float> scales = to_f32(part, scale);
    for (const float value : scales) {
      if (!std::isfinite(value)) {
        not_finite(name, "has scales \"" + scale + "\" that are NaN or infinity");
      }
    }
    return scales;
  }

  Fp8Blocks blocks_;
  std::map<std::string, Blocked> blocked_;
};

}  // namespace

std::unique_ptr<WeightSource> make_fp8_source(std::shared_ptr<const WeightSource> base,
                                              const Fp8Blocks& blocks) {
  return std::make_unique<Fp8Source>(std::move(base), blocks);
}

}  // namespace pare
