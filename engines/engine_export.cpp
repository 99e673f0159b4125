#include "engines/engine_export.h"

#include <algorithm>
#include <iterator>

#include "kernels/codec.h"
#include "model/block_parameters.h"

namespace pare {
namespace {

bool equals(const CompressedWeight& found, const CompressedWeight& expected) {
  return dense_codes(found) == dense_codes(expected) && found.scale == expected.scale &&
         found.zero_point == expected.zero_point && found.activation == expected.activation;
}

// Of each four consecutive inputs two at least are zero.
bool keeps_mask(const std::vector<uint16_t>& values) {
  for (size_t i = 0; i < values.size(); i += 4) {
    int64_t zeros = 0;
    for (size_t j = 0; j < 4; ++j) zeros += (values[i + j] & 0x7fffU) == 0 ? 1 : 0;
    if (zeros < 2) return false;
  }
  return true;
}

bool equals(const TensorView& found, const CompressedWeight& expected, bool turned) {
  std::vector<uint16_t> values = dense_values(expected);
  if (expected.sparse && !keeps_mask(values)) return false;
  if (turned) values = transposed(values, expected.out_features, expected.in_features);
  return found.dtype == DType::kBf16 &&
         std::ranges::equal(found.bytes, std::as_bytes(std::span(values)));
}

}  // namespace

bool is_same_weight(const WeightSource& made, const std::string& name,
                    const CompressedWeight& weight, bool turned) {
  return made.is_compressed(name) ? equals(made.compressed(name), weight)
                                  : equals(made.dense(name), weight, turned);
}

void set_shards(EngineExport& made, std::vector<TensorPiece> pieces, const EngineOptions& options) {
  made.bytes = 0;
  for (const TensorPiece& piece : pieces) made.bytes += piece.bytes();
  made.write = [pieces = std::move(pieces), shard_bytes = options.shard_bytes](
                   const std::string& folder, ThreadPool& pool, ProgressMeter& meter) {
    return write_shards(folder, pieces, shard_bytes, pool, meter);
  };
}

TensorPiece copy_piece(std::shared_ptr<const WeightSource> source, const std::string& name) {
  TensorPiece piece;
  piece.tensors.push_back({name, source->dtype(name), source->shape(name)});
  piece.make = [source = std::move(source), spec = piece.tensors[0]] {
    std::vector<std::byte> bytes(static_cast<size_t>(spec.bytes()));
    source->read(spec.name, 0, bytes);
    return std::vector<std::vector<std::byte>>{std::move(bytes)};
  };
  return piece;
}

TensorPiece weight_piece(
    const std::shared_ptr<const WeightSource>& source, const std::string& name,
    std::vector<TensorSpec> tensors,
    std::function<std::vector<std::vector<std::byte>>(const CompressedWeight&)> make) {
  TensorPiece piece;
  piece.tensors = std::move(tensors);
  piece.make = [source, name, make = std::move(make)] {
    std::vector<std::vector<std::byte>> bytes = make(source->compressed(name));
    source->release({name});
    return bytes;
  };
  return piece;
}

TensorPiece linear_piece(const std::shared_ptr<const WeightSource>& source,
                         const SurveyedLinear& linear, std::vector<TensorSpec> tensors,
                         std::vector<std::byte> (*bytes_of)(const std::string&,
                                                            const CompressedWeight&)) {
  std::vector<std::string> suffixes;
  for (const TensorSpec& spec : tensors) suffixes.push_back(spec.name.substr(linear.module.size()));
  return weight_piece(source, linear.weight_name(), std::move(tensors),
                      [suffixes = std::move(suffixes), bytes_of](const CompressedWeight& weight) {
                        std::vector<std::vector<std::byte>> bytes;
                        for (const std::string& suffix : suffixes) {
                          bytes.push_back(bytes_of(suffix, weight));
                        }
                        return bytes;
                      });
}

std::vector<TensorPiece> folder_pieces(
    const LinearSurvey& survey, const std::function<TensorPiece(const SurveyedLinear&)>& linear,
    const std::function<std::vector<TensorPiece>(const std::string&)>& cache) {
  std::map<std::string, const SurveyedLinear*> linears;
  for (const SurveyedLinear& each : survey.quantized) linears[each.weight_name()] = &each;
  const std::shared_ptr<const WeightSource>& source = survey.model.source;
  const std::set<std::string> turned = transposed_weights(survey.model.graph);
  std::vector<TensorPiece> pieces;
  for (const std::string& name : source->names()) {
    if (const auto found = linears.find(name); found != linears.end()) {
      pieces.push_back(linear(*found->second));
    } else if (source->is_compressed(name)) {
      pieces.push_back(dense_piece(source, name, turned.contains(name)));
    } else if (is_cache_tensor(*source, name)) {
      std::ranges::move(cache(name), std::back_inserter(pieces));
    } else {
      pieces.push_back(copy_piece(source, name));
    }
  }
  return pieces;
}

std::vector<std::byte> nibble_bytes(std::span<const int8_t> codes) {
  std::vector<uint8_t> packed(codes.size() / 2);
  pack_nibbles(codes, packed);
  return to_bytes<uint8_t>(packed);
}

std::vector<int8_t> dense_codes(const CompressedWeight& weight) {
  const int64_t in = weight.in_features;
  const bool is_signed = weight.format == WeightFormat::kInt4 && weight.symmetric;
  std::vector<int8_t> codes(static_cast<size_t>(weight.out_features * in));
  std::vector<int8_t> stored(static_cast<size_t>(weight.stored_columns()));
  for (int64_t row = 0; row < weight.out_features; ++row) {
    const std::span<const uint8_t> bytes(weight.codes.data() + row * weight.row_bytes(),
                                         static_cast<size_t>(weight.row_bytes()));
    if (packs_nibbles(weight.format)) {
      unpack_nibbles(bytes, is_signed, stored);
    } else {
      std::copy(bytes.begin(), bytes.end(), stored.begin());
    }
    const std::span<int8_t> target(codes.data() + row * in, static_cast<size_t>(in));
    if (!weight.sparse) {
      std::copy(stored.begin(), stored.end(), target.begin());
      continue;
    }
    const uint8_t* mask = weight.mask_index.data() + row * weight.mask_row_bytes();
    expand_2_4_row<int8_t>(stored, {mask, static_cast<size_t>(weight.mask_row_bytes())}, target);
    if (weight.symmetric) continue;
    // What was pruned has the code of zero, which is another one in each group.
    for (int64_t group = 0; group < in / 4; ++group) {
      const int nibble = group % 2 == 0 ? mask[group / 2] & 15 : mask[group / 2] >> 4;
      for (int64_t i = 0; i < 4; ++i) {
        if ((nibble & 3) == i || (nibble >> 2) == i) continue;
        const int64_t column = 4 * group + i;
        const int64_t run = weight.group_size > 0 ? column / weight.group_size : 0;
        target[static_cast<size_t>(column)] =
            static_cast<int8_t>(weight.zero_point[weight.scale_index(row, run)]);
      }
    }
  }
  return codes;
}

float largest_value(const CompressedWeight& weight) {
  std::vector<float> row(static_cast<size_t>(weight.in_features));
  float most = 0;
  for (int64_t i = 0; i < weight.out_features; ++i) {
    dequantize_rows(weight, i, i + 1, row);
    most = std::max(most, absmax(row));
  }
  return most;
}

std::vector<std::string> lost_warnings(const LinearSurvey& survey) {
  std::vector<std::string> warnings;
  if (std::any_of(survey.quantized.begin(), survey.quantized.end(),
                  [](const SurveyedLinear& linear) {
                    return linear.scheme.activation != ActivationFormat::kBf16;
                  })) {
    warnings.emplace_back("inputs of linears are not rounded by who reads this form");
  }
  if (survey.cache.format != CacheFormat::kNone) {
    warnings.emplace_back("the scales of the cache of keys and values are left out");
  }
  return warnings;
}

std::vector<std::string> linear_modules(const ModelGraph& graph) {
  std::vector<std::string> names;
  for_each_block(graph, [&](const BlockGraph& block) {
    for (const Op& op : block.ops) {
      if (op.kind == OpKind::kLinear) names.push_back(block.full_name(op));
    }
  });
  return names;
}

}  // namespace pare
