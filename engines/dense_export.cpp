// The model with its weights as they are worth, in BF16: what every engine and library reads.
#include <set>

#include "engines/engine_export.h"
#include "kernels/codec.h"
#include "model/block_parameters.h"

namespace pare {

std::set<std::string> transposed_weights(const ModelGraph& graph) {
  std::set<std::string> names;
  for_each_block(graph, [&](const BlockGraph& block) {
    for (const Op& op : block.ops) {
      if (op.kind == OpKind::kLinear && op.linear.transposed) {
        names.insert(block.full_name(op) + ".weight");
      }
    }
  });
  return names;
}

TensorPiece dense_piece(const std::shared_ptr<const WeightSource>& source, const std::string& name,
                        bool turned) {
  Shape shape = source->shape(name);
  if (turned) shape = {shape[1], shape[0]};
  return weight_piece(source, name, {{name, DType::kBf16, std::move(shape)}},
                      [turned](const CompressedWeight& weight) {
                        std::vector<uint16_t> values = dense_values(weight);
                        if (turned)
                          values = transposed(values, weight.out_features, weight.in_features);
                        return std::vector<std::vector<std::byte>>{to_bytes<uint16_t>(values)};
                      });
}

std::vector<uint16_t> transposed(const std::vector<uint16_t>& values, int64_t rows,
                                 int64_t columns) {
  std::vector<uint16_t> turned(values.size());
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      turned[static_cast<size_t>(column * rows + row)] =
          values[static_cast<size_t>(row * columns + column)];
    }
  }
  return turned;
}

std::vector<uint16_t> dense_values(const CompressedWeight& weight) {
  const auto in = static_cast<size_t>(weight.in_features);
  std::vector<uint16_t> values(static_cast<size_t>(weight.out_features) * in);
  std::vector<float> row(in);
  for (int64_t i = 0; i < weight.out_features; ++i) {
    dequantize_rows(weight, i, i + 1, row);
    for (size_t j = 0; j < weight.pre_quant_scale.size(); ++j) row[j] *= weight.pre_quant_scale[j];
    f32_to_bf16(row, std::span(values).subspan(static_cast<size_t>(i) * in, in));
  }
  return values;
}

void require_dense(const LinearSurvey& /*survey*/, const EngineOptions& /*options*/) {}

EngineExport export_dense(const LinearSurvey& survey, const EngineOptions& options) {
  const std::shared_ptr<const WeightSource>& source = survey.model.source;
  const std::set<std::string> turned = transposed_weights(survey.model.graph);
  EngineExport result;
  result.warnings = lost_warnings(survey);
  result.files = source->text_files();
  result.files["config.json"] = source->config_json() + "\n";
  const auto dense = [&](const SurveyedLinear& linear) {
    const std::string name = linear.weight_name();
    return dense_piece(source, name, turned.contains(name));
  };
  set_shards(result, folder_pieces(survey, dense, no_cache), options);
  return result;
}

}  // namespace pare
