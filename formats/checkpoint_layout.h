// The words of checkpoint format versions 1 and 2 (docs/checkpoint.md), shared by its writer and
// reader.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/compressed_weight.h"
#include "core/dtype.h"
#include "formats/hdf5_types.h"

namespace pare {

inline constexpr const char* kCheckpointFormat = "pare-checkpoint";
inline constexpr const char* kCheckpointIndexFormat = "pare-checkpoint-index";
inline constexpr int64_t kCheckpointVersion = 1;
/// Of a checkpoint with a quantized cache, which a reader of version 1 would not see.
inline constexpr int64_t kCacheCheckpointVersion = 2;
inline constexpr const char* kTensorGroup = "tensors";
inline constexpr const char* kMetaGroup = "meta";
inline constexpr const char* kIndexSuffix = ".h5.index.json";
inline constexpr const char* kMaskEncoding = "2:4-nibble-index";

/// The integer or IEEE type that holds the bits of `dtype`.
StoredType stored_type(DType dtype) noexcept;

/// The inverse of dtype_name().
std::optional<DType> dtype_from_name(std::string_view name) noexcept;

/// How a weight's codes look in a file.
struct CodeLayout {
  const char* dtype;    ///< "float8_e4m3fn", "int8", "int4_packed", "uint4_packed", "bfloat16".
  const char* scheme;   ///< "fp8", "int8", "int4", "bf16".
  const char* packing;  ///< "none" or "lo_nibble_first".
  StoredType type;
  WeightFormat format;
  bool symmetric;
};

/// One row for each value of dtype.
const std::array<CodeLayout, 5>& code_layouts() noexcept;

const CodeLayout& code_layout(WeightFormat format, bool symmetric) noexcept;

/// "bf16", "fp8_static", "int8_static", "int8_dynamic".
const char* activation_name(ActivationFormat activation) noexcept;
std::optional<ActivationFormat> activation_from_name(std::string_view name) noexcept;

/// The shape of the codes as a dataset: [out, elements of a row].
Shape code_shape(const CompressedWeight& weight);

/// The shape of scales and zero points: [1] per tensor, else [out, groups].
Shape scale_shape(const CompressedWeight& weight);

/// The root's texts that header_sha256() covers, in its order.
inline constexpr std::array<const char*, 6> kHeaderTexts{"architecture",       "config_json",
                                                         "recipe_json",        "tool_version",
                                                         "calibration_sha256", "source_sha256"};

/// SHA-256 over one line `NAME SHA256(text)` for each of kHeaderTexts. HDF5 protects texts by no
/// checksum of its own. `texts` is parallel to kHeaderTexts.
std::string header_sha256(const std::array<std::string_view, 6>& texts);

/// A dataset beside the codes: the attribute that names it, and the end of its name.
struct SideName {
  const char* attribute;  ///< On the codes' dataset.
  const char* suffix;     ///< Replaces ".weight".
};
inline constexpr SideName kScaleName{"scale", ".weight_scale"};
inline constexpr SideName kZeroPointName{"zero_point", ".weight_zero_point"};
inline constexpr SideName kInputScaleName{"input_scale", ".input_scale"};
inline constexpr SideName kPreQuantScaleName{"pre_quant_scale", ".pre_quant_scale"};
inline constexpr SideName kMaskName{"mask_index", ".mask_index"};
inline constexpr std::array<SideName, 5> kSideNames{kScaleName, kZeroPointName, kInputScaleName,
                                                    kPreQuantScaleName, kMaskName};

}  // namespace pare
