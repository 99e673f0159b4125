// AutoAWQ's form, version "gemm": for vLLM, SGLang and transformers.
#include <nlohmann/json.hpp>

#include "engines/grouped_export.h"
#include "kernels/engine_layouts.h"

namespace pare {
namespace {

constexpr int64_t kNibbles = 8;  // of a word
constexpr int64_t kOutputs = 32;

std::vector<TensorSpec> awq_tensors(const SurveyedLinear& linear) {
  const int64_t out = linear.shape[0];
  const int64_t in = linear.shape[1];
  const int64_t groups = group_count(linear);
  return {{linear.module + ".qweight", DType::kI32, {in, out / kNibbles}},
          {linear.module + ".qzeros", DType::kI32, {groups, out / kNibbles}},
          {linear.module + ".scales", DType::kF16, {groups, out}}};
}

std::vector<std::vector<std::byte>> awq_bytes(const GroupedCodes& grouped) {
  const MatrixSize size{grouped.out_features, grouped.in_features};
  const int64_t groups = static_cast<int64_t>(grouped.zeros.size()) / size.rows;
  std::vector<uint32_t> words(static_cast<size_t>(size.count() / kNibbles));
  pack_awq(grouped.codes, size, words);
  std::vector<uint32_t> zeros(grouped.zeros.size() / kNibbles);
  pack_awq(grouped.zeros, {size.rows, groups}, zeros);
  return {to_bytes<uint32_t>(words), to_bytes<uint32_t>(zeros), f16_bytes(grouped.scales)};
}

GroupedForm awq_form() {
  GroupedForm form;
  form.name = "AWQ";
  form.out_multiple = kOutputs;
  form.tensors = awq_tensors;
  form.bytes = awq_bytes;
  return form;
}

}  // namespace

void require_awq(const LinearSurvey& survey, const EngineOptions& /*options*/) {
  require_grouped(survey, awq_form());
}

EngineExport export_awq(const LinearSurvey& survey, const EngineOptions& options) {
  using Json = nlohmann::ordered_json;
  const GroupedModel found = grouped_model(survey);
  Json left_alone = nullptr;
  if (!found.left_alone.empty()) left_alone = found.left_alone;
  Json json = Json::parse(survey.model.source->config_json());
  json["quantization_config"] = {
      {"quant_method", "awq"}, {"bits", found.bits}, {"group_size", found.group_size},
      {"zero_point", true},    {"version", "gemm"},  {"modules_to_not_convert", left_alone}};
  EngineExport made = export_grouped(survey, awq_form(), options);
  made.files["config.json"] = json.dump(2) + "\n";
  return made;
}

}  // namespace pare
