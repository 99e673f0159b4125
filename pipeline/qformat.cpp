// The number formats, and the algorithms that go with each.
#include "pare/error.h"
#include "pipeline/job_plan.h"

namespace pare {

const std::vector<QFormat>& qformat_table() {
  static const std::vector<QFormat> table = {
      {.name = "fp8",
       .remark = "FP8 E4M3 weights and activations, one static scale a tensor",
       .weight = WeightFormat::kFp8E4m3,
       .activation = ActivationFormat::kFp8Static},
      {.name = "int8_sq",
       .remark = "INT8 SmoothQuant: weights per output channel, activations static (or dynamic)",
       .weight = WeightFormat::kInt8,
       .activation = ActivationFormat::kInt8Static,
       .stack = {.scaling = ScalingMethod::kSmoothQuant}},
      {.name = "int8_wo",
       .remark = "INT8 weights only, per output channel, round to nearest",
       .weight = WeightFormat::kInt8},
      {.name = "int4_awq",
       .remark = "INT4 weights in groups: AWQ scales and clipping searched, rounded by GPTQ",
       .weight = WeightFormat::kInt4,
       .stack = {.scaling = ScalingMethod::kAwq, .search_clip = true, .gptq = true}},
      {.name = "int4_wo",
       .remark = "INT4 weights in groups, plain round to nearest",
       .weight = WeightFormat::kInt4},
      {.name = "full_prec",
       .remark = "Not quantized; for 2:4 sparsity alone, or as a copy to compare with",
       .quantized = false},
  };
  return table;
}

const QFormat& find_qformat(const std::string& name) {
  std::string known;
  for (const QFormat& format : qformat_table()) {
    if (format.name == name) return format;
    known += " " + format.name;
  }
  throw Error(ErrorCode::kUsage, "qformat \"" + name + "\" is not known; known:" + known);
}

AlgorithmStack find_stack(const std::string& algo, const QFormat& format) {
  struct Named {
    const char* name;
    AlgorithmStack stack;
  };
  static const std::vector<Named> int4 = {
      {"awq", {.scaling = ScalingMethod::kAwq, .search_clip = true}},
      {"gptq", {.search_clip = true, .gptq = true}},
  };
  static const std::vector<Named> int8 = {
      {"smoothquant", {.scaling = ScalingMethod::kSmoothQuant}},
  };
  static const std::vector<Named> none;
  const bool scaled = format.stack.scaling != ScalingMethod::kNone;
  const std::vector<Named>& own = !scaled                                ? none
                                  : format.weight == WeightFormat::kInt4 ? int4
                                                                         : int8;
  if (algo == "auto") return format.stack;
  if (algo == "rtn") return {};
  std::string known = "auto, rtn";
  for (const Named& named : own) {
    if (algo == named.name) return named.stack;
    known += std::string(", ") + named.name;
  }
  throw Error(ErrorCode::kUsage, "algo \"" + algo + "\" does not go with qformat " + format.name +
                                     "; expected " + known);
}

SparsityMethod find_sparsity(const std::string& name) {
  if (name == "none") return SparsityMethod::kNone;
  if (name == "magnitude") return SparsityMethod::kMagnitude;
  if (name == "wanda") return SparsityMethod::kWanda;
  if (name == "ria") return SparsityMethod::kRia;
  if (name == "sparsegpt") return SparsityMethod::kSparseGpt;
  if (name == "admm") return SparsityMethod::kAdmm;
  throw Error(
      ErrorCode::kUsage,
      "sparsity \"" + name + "\" is not known; known: none magnitude wanda ria sparsegpt admm");
}

}  // namespace pare
