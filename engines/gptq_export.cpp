// GPTQ's form, versions 1 and 2: for vLLM, SGLang, TensorRT-LLM and transformers.
#include <nlohmann/json.hpp>

#include "engines/grouped_export.h"
#include "kernels/engine_layouts.h"
#include "pare/error.h"

namespace pare {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kWordBits = 32;
constexpr int64_t kMultiple = 32;  // of inputs and of outputs

std::vector<TensorSpec> gptq_tensors(const SurveyedLinear& linear) {
  const int64_t out = linear.shape[0];
  const int64_t in = linear.shape[1];
  const int64_t bits = linear.scheme.weight == WeightFormat::kInt8 ? 8 : 4;
  const int64_t groups = group_count(linear);
  return {{linear.module + ".qweight", DType::kI32, {in * bits / kWordBits, out}},
          {linear.module + ".qzeros", DType::kI32, {groups, out * bits / kWordBits}},
          {linear.module + ".scales", DType::kF16, {groups, out}},
          {linear.module + ".g_idx", DType::kI32, {in}}};
}

template <int kZeroOffset>
std::vector<std::vector<std::byte>> gptq_bytes(const GroupedCodes& grouped) {
  const MatrixSize size{grouped.out_features, grouped.in_features};
  const int64_t groups = static_cast<int64_t>(grouped.zeros.size()) / size.rows;
  const auto words_of = [&](int64_t codes) {
    return std::vector<uint32_t>(static_cast<size_t>(codes * grouped.bits / kWordBits));
  };
  std::vector<uint32_t> words = words_of(size.count());
  pack_gptq(grouped.codes, size, grouped.bits, words);
  std::vector<uint32_t> zeros = words_of(size.rows * groups);
  pack_gptq_zeros(grouped.zeros, {size.rows, groups}, grouped.bits, kZeroOffset, zeros);
  std::vector<int32_t> group_of(static_cast<size_t>(size.columns));
  for (int64_t i = 0; i < size.columns; ++i) {
    group_of[static_cast<size_t>(i)] = static_cast<int32_t>(i / grouped.group_size);
  }
  return {to_bytes<uint32_t>(words), to_bytes<uint32_t>(zeros), f16_bytes(grouped.scales),
          to_bytes<int32_t>(group_of)};
}

// Modules that stay as they are, as patterns that exclude them.
Json exclusions(const std::vector<std::string>& modules) {
  Json dynamic = Json::object();
  for (const std::string& module : modules) {
    std::string pattern = "-:^";
    for (const char c : module) {
      if (c == '.') pattern += '\\';
      pattern += c;
    }
    dynamic[pattern + "$"] = Json::object();
  }
  return dynamic;
}

GroupedForm gptq_form(bool version_1) {
  GroupedForm form;
  form.name = "GPTQ";
  form.eight_bits = true;
  form.out_multiple = kMultiple;
  form.in_multiple = kMultiple;
  form.tensors = gptq_tensors;
  form.bytes = version_1 ? gptq_bytes<1> : gptq_bytes<0>;
  return form;
}

EngineExport export_version(const LinearSurvey& survey, const EngineOptions& options,
                            bool version_1) {
  const GroupedModel found = grouped_model(survey);
  Json config = {{"quant_method", "gptq"},
                 {"bits", found.bits},
                 {"group_size", found.group_size},
                 {"desc_act", false},
                 {"sym", found.symmetric},
                 {"lm_head", false},
                 {"checkpoint_format", version_1 ? "gptq" : "gptq_v2"},
                 {"pack_dtype", "int32"},
                 {"damp_percent", 0.01},
                 {"true_sequential", true},
                 {"static_groups", true},
                 {"meta", Json::object()}};
  if (!found.left_alone.empty()) config["dynamic"] = exclusions(found.left_alone);
  Json json = Json::parse(survey.model.source->config_json());
  json["quantization_config"] = config;
  EngineExport made = export_grouped(survey, gptq_form(version_1), options);
  made.files["config.json"] = json.dump(2) + "\n";
  made.files["quantize_config.json"] = config.dump(2) + "\n";  // where older readers look
  return made;
}

}  // namespace

void require_gptq(const LinearSurvey& survey, const EngineOptions& /*options*/) {
  require_grouped(survey, gptq_form(true));
  if (survey.has_zero) {
    throw Error(ErrorCode::kInputMalformed,
                "a linear has the zero point 0; version 1 of GPTQ, which stores zero points less "
                "one, cannot hold it. Use --export gptq-v2");
  }
}

EngineExport export_gptq(const LinearSurvey& survey, const EngineOptions& options) {
  return export_version(survey, options, true);
}

void require_gptq_v2(const LinearSurvey& survey, const EngineOptions& /*options*/) {
  require_grouped(survey, gptq_form(false));
}

EngineExport export_gptq_v2(const LinearSurvey& survey, const EngineOptions& options) {
  return export_version(survey, options, false);
}

}  // namespace pare
