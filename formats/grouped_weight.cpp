#include "formats/grouped_weight.h"

#include <algorithm>

#include "kernels/codec.h"
#include "pare/error.h"

namespace pare {

CompressedWeight grouped_weight(const GroupedCodes& grouped, const std::string& module) {
  const auto middle = static_cast<uint8_t>(1 << (grouped.bits - 1));
  CompressedWeight weight;
  weight.format = grouped.bits == 8 ? WeightFormat::kInt8 : WeightFormat::kInt4;
  weight.out_features = grouped.out_features;
  weight.in_features = grouped.in_features;
  weight.group_size = grouped.group_size >= grouped.in_features ? kPerChannel : grouped.group_size;
  weight.symmetric = std::all_of(grouped.zeros.begin(), grouped.zeros.end(),
                                 [&](uint8_t zero) { return zero == middle; });
  if (!weight.symmetric && grouped.bits == 8) {
    throw Error(ErrorCode::kInputMalformed,
                "\"" + module + "\" has eight bits and zero points other than 128: not read");
  }
  const int64_t groups = weight.groups();
  const int64_t out = weight.out_features;
  weight.scale.resize(static_cast<size_t>(out * groups));
  for (int64_t row = 0; row < out; ++row) {
    for (int64_t group = 0; group < groups; ++group) {
      weight.scale[static_cast<size_t>(row * groups + group)] =
          grouped.scales[static_cast<size_t>(group * out + row)];
    }
  }
  if (!weight.symmetric) weight.zero_point = grouped.zeros;
  std::vector<int8_t> codes(grouped.codes.size());
  const int offset = weight.symmetric ? middle : 0;
  std::transform(grouped.codes.begin(), grouped.codes.end(), codes.begin(),
                 [&](uint8_t code) { return static_cast<int8_t>(code - offset); });
  pack_codes(codes, {}, weight);
  return weight;
}

GroupedCodes grouped_codes(const CompressedWeight& weight, std::span<const int8_t> dense_codes) {
  GroupedCodes grouped;
  grouped.out_features = weight.out_features;
  grouped.in_features = weight.in_features;
  grouped.bits = weight.format == WeightFormat::kInt8 ? 8 : 4;
  grouped.group_size = weight.group_size > 0 ? weight.group_size : weight.in_features;
  const int offset = weight.symmetric ? 1 << (grouped.bits - 1) : 0;
  grouped.codes.resize(dense_codes.size());
  std::transform(dense_codes.begin(), dense_codes.end(), grouped.codes.begin(),
                 [&](int8_t code) { return static_cast<uint8_t>(code + offset); });
  const int64_t groups = weight.groups();
  const int64_t out = weight.out_features;
  grouped.zeros = weight.symmetric ? std::vector<uint8_t>(static_cast<size_t>(out * groups),
                                                          static_cast<uint8_t>(offset))
                                   : weight.zero_point;
  grouped.scales.resize(static_cast<size_t>(out * groups));
  for (int64_t row = 0; row < out; ++row) {
    for (int64_t group = 0; group < groups; ++group) {
      grouped.scales[static_cast<size_t>(group * out + row)] =
          weight.scale[weight.scale_index(row, group)];
    }
  }
  return grouped;
}

}  // namespace pare
