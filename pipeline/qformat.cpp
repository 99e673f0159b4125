// The number formats, and the algorithms that go with each.
#include "pare/error.h"
#include "pipeline/job_plan.h"

namespace pare {

const std::vector<QFormat>& qformat_table() {
  static const std::vector<QFormat> table = {
      {.name = "fp8",
       .remark = "FP8 E4M3 weights and activations, one static scale a tensor",
       .weight = WeightFormat::kFp8E4m3,
       .activation = ActivationFormat::kFp8Static,
       .stack = {.gptq = true, .descend = true, .compensate_noise = true},
       .group_size = kPerTensor},
      {.name = "fp8_pc_pt",
       .remark = "FP8 weights per output channel, activations per token when they run",
       .weight = WeightFormat::kFp8E4m3,
       .activation = ActivationFormat::kFp8Dynamic,
       .stack = {.gptq = true, .descend = true, .compensate_noise = true}},
      {.name = "fp8_block",
       .remark = "FP8 weights in blocks of 128 x 128, activations in 1 x 128 when they run",
       .weight = WeightFormat::kFp8E4m3,
       .activation = ActivationFormat::kFp8Block,
       .stack = {.gptq = true, .descend = true, .compensate_noise = true},
       .group_size = kFp8BlockSize,
       .block_rows = kFp8BlockSize},
      {.name = "int8_sq",
       .remark = "INT8 SmoothQuant: weights per output channel, activations static (or dynamic)",
       .weight = WeightFormat::kInt8,
       .activation = ActivationFormat::kInt8Static,
       .stack = {.scaling = ScalingMethod::kSmoothQuant,
                 .gptq = true,
                 .descend = true,
                 .compensate_noise = true}},
      {.name = "int8_wo",
       .remark = "INT8 weights only, per output channel, round to nearest",
       .weight = WeightFormat::kInt8},
      {.name = "int4_awq",
       .remark = "INT4 weights in groups: AWQ scales and clipping searched, rounded by GPTQ",
       .weight = WeightFormat::kInt4,
       .stack =
           {.scaling = ScalingMethod::kAwq, .search_clip = true, .gptq = true, .descend = true}},
      {.name = "int4_gptq",
       .remark = "INT4 weights in groups: clipping searched, rounded by GPTQ",
       .weight = WeightFormat::kInt4,
       .stack = {.search_clip = true, .gptq = true, .descend = true}},
      {.name = "int4_wo",
       .remark = "INT4 weights in groups, plain round to nearest",
       .weight = WeightFormat::kInt4},
      {.name = "w4a8_awq",
       .remark = "INT4 weights as int4_awq, FP8 activations with one static scale a tensor",
       .weight = WeightFormat::kInt4,
       .activation = ActivationFormat::kFp8Static,
       .stack = {.scaling = ScalingMethod::kAwq,
                 .search_clip = true,
                 .gptq = true,
                 .descend = true,
                 .compensate_noise = true}},
      {.name = "nvfp4",
       .remark = "NVFP4 weights and activations: E2M1, an E4M3 scale for each 16",
       .weight = WeightFormat::kNvfp4,
       .activation = ActivationFormat::kNvfp4,
       .stack =
           {.scaling = ScalingMethod::kAwq, .search_clip = true, .gptq = true, .descend = true},
       .group_size = kNvfp4Group},
      {.name = "nvfp4_wo",
       .remark = "NVFP4 weights only",
       .weight = WeightFormat::kNvfp4,
       .stack =
           {.scaling = ScalingMethod::kAwq, .search_clip = true, .gptq = true, .descend = true},
       .group_size = kNvfp4Group},
      {.name = "mxfp4",
       .remark = "MXFP4 weights and activations: E2M1, a power of two for each 32",
       .weight = WeightFormat::kMxfp4,
       .activation = ActivationFormat::kMxfp4,
       .stack =
           {.scaling = ScalingMethod::kAwq, .search_clip = true, .gptq = true, .descend = true},
       .group_size = kMxfp4Group},
      {.name = "mxfp4_wo",
       .remark = "MXFP4 weights only",
       .weight = WeightFormat::kMxfp4,
       .stack =
           {.scaling = ScalingMethod::kAwq, .search_clip = true, .gptq = true, .descend = true},
       .group_size = kMxfp4Group},
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
  const AlgorithmStack clip = {.search_clip = true};
  std::vector<Named> own;
  switch (format.weight) {
    case WeightFormat::kInt4:
      own = {{"awq", {.scaling = ScalingMethod::kAwq, .search_clip = true}},
             {"gptq", {.search_clip = true, .gptq = true}},
             {"clip", clip}};
      break;
    case WeightFormat::kInt8:
      if (format.activation != ActivationFormat::kBf16) {
        own = {{"smoothquant", {.scaling = ScalingMethod::kSmoothQuant}}, {"gptq", {.gptq = true}}};
      }
      if (own.empty()) own.push_back({"gptq", {.gptq = true}});
      own.push_back({"clip", clip});
      break;
    case WeightFormat::kNvfp4:
    case WeightFormat::kMxfp4:
      own = {{"awq", {.scaling = ScalingMethod::kAwq, .search_clip = true}},
             {"gptq", {.search_clip = true, .gptq = true}},
             {"clip", clip}};
      break;
    case WeightFormat::kFp8E4m3:
      own = {{"gptq", {.gptq = true}}};
      break;
    case WeightFormat::kBf16:
      break;
  }
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

GridSpec grid_spec(const QFormat& format, const QuantizeOptions& options) {
  GridSpec spec{.format = format.weight,
                .group_size = format.group_size,
                .symmetric = true,
                .block_rows = format.block_rows};
  if (format.weight == WeightFormat::kInt4) {
    spec.group_size = options.awq_block_size == 0 ? kPerChannel : options.awq_block_size;
    spec.symmetric = options.symmetric;
  }
  return spec;
}

ActivationFormat input_activation(const QFormat& format, const QuantizeOptions& options) {
  const bool dynamic = options.dynamic_activations;
  if (format.activation == ActivationFormat::kInt8Static && dynamic) {
    return ActivationFormat::kInt8Dynamic;
  }
  return format.activation;
}

std::string sparsity_title(SparsityMethod method) {
  switch (method) {
    case SparsityMethod::kMagnitude:
      return "2:4 magnitude";
    case SparsityMethod::kWanda:
      return "2:4 Wanda";
    case SparsityMethod::kRia:
      return "2:4 RIA";
    case SparsityMethod::kSparseGpt:
      return "2:4 SparseGPT";
    case SparsityMethod::kAdmm:
      return "2:4 ADMM";
    case SparsityMethod::kNone:
      break;
  }
  return "dense";
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
