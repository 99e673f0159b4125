// What the linears that share a tensor of a TensorRT-LLM checkpoint have in common.
#include <algorithm>
#include <cmath>

#include "engines/engine_export.h"
#include "engines/tensorrt_llm_pieces.h"
#include "kernels/codec.h"
#include "pare/error.h"

namespace pare {
namespace {

std::string weight_name(const std::string& module) { return module + ".weight"; }

[[noreturn]] void refuse(const WeightSource& source, const std::string& module,
                         const std::string& what) {
  throw Error(ErrorCode::kInputMalformed,
              source.file_of(weight_name(module)) + ": \"" + module + "\" " + what);
}

LinearScheme scheme_in(const WeightSource& source, const std::string& module,
                       const CompressedWeight* weight) {
  LinearScheme scheme;
  if (weight == nullptr) return scheme;
  scheme = scheme_of(*weight);
  if (scheme.weight == WeightFormat::kBf16 && scheme.activation != ActivationFormat::kBf16) {
    refuse(source, module, "rounds its input but is not quantized");
  }
  return scheme;
}

class Planner {
 public:
  Planner(const WeightSource& source, const TrtFamily& family, const TrtLinear& linear)
      : source_(source) {
    plan_.family = &family;
    plan_.linear = linear;
  }

  TrtLinearPlan plan() {
    const TrtLinear& linear = plan_.linear;
    plan_.shared.assign(static_cast<size_t>(std::max<int64_t>(1, linear.experts)), 0);
    plan_.bias = source_.contains(linear.sources[0] + ".bias");
    for (size_t i = 0; i < linear.sources.size(); ++i) {
      const std::string& module = linear.sources[i];
      const std::string name = weight_name(module);
      if (source_.contains(module + ".bias") != plan_.bias) {
        refuse(source_, module, "and \"" + linear.sources[0] + "\" do not both have a bias");
      }
      if (source_.is_compressed(name)) {
        const CompressedWeight weight = source_.compressed(name);
        add(i, &weight);
      } else {
        add(i, nullptr);
      }
      source_.release({name});
    }
    if (smallest_input_ < plan_.input_scale) {
      plan_.warnings.push_back("\"" + linear.sources[0] +
                               "\" and what shares its tensor have inputs of different scales; "
                               "all get the largest");
    }
    check_trt_linear(*plan_.family, linear, plan_.scheme);
    return std::move(plan_);
  }

 private:
  void add(size_t index, const CompressedWeight* weight) {
    const std::string& module = plan_.linear.sources[index];
    const LinearScheme found = scheme_in(source_, module, weight);
    if (plan_.linear.is_router && weight != nullptr) refuse(source_, module, "is a router");
    const TrtScheme stored = trt_scheme(found, "\"" + module + "\"");
    if (index == 0) plan_.scheme = stored;
    if (stored != plan_.scheme) {
      refuse(source_, module,
             "is stored in another format than \"" + plan_.linear.sources[0] +
                 "\", but TensorRT-LLM has both in one tensor; quantize them alike");
    }
    if (weight == nullptr) return;
    add_smoothing(index, *weight);
    if (plan_.scheme.algo == TrtAlgo::kFp8) {
      const size_t of =
          plan_.linear.experts > 0 ? index % static_cast<size_t>(plan_.linear.experts) : 0;
      plan_.shared[of] = std::max(plan_.shared[of], weight->scale.at(0));
    }
    if (has_input_scale(weight->activation)) {
      smallest_input_ =
          index == 0 ? weight->input_scale : std::min(smallest_input_, weight->input_scale);
      plan_.input_scale = std::max(plan_.input_scale, weight->input_scale);
    }
    if (plan_.scheme.algo == TrtAlgo::kInt4Fp8) {
      plan_.second_scale =
          std::max(plan_.second_scale, symmetric_scale(largest_value(*weight), kE4m3Max));
    }
  }

  void add_smoothing(size_t index, const CompressedWeight& weight) {
    if (plan_.is_dense()) return;  // It goes into the values.
    const std::string& module = plan_.linear.sources[index];
    if (index == 0) smoothing_ = weight.pre_quant_scale;
    if (weight.pre_quant_scale != smoothing_) {
      refuse(source_, module,
             "multiplies its input by other scales than \"" + plan_.linear.sources[0] +
                 "\", but TensorRT-LLM has both in one tensor; quantize with --algo gptq");
    }
    if (weight.pre_quant_scale.empty()) return;
    const bool row_layer = plan_.linear.split == TrtSplit::kColumns;
    const bool has_place = plan_.scheme.algo == TrtAlgo::kInt8Static ||
                           plan_.scheme.algo == TrtAlgo::kInt4 ||
                           plan_.scheme.algo == TrtAlgo::kInt4Fp8 ||
                           (plan_.scheme.algo == TrtAlgo::kInt8PerToken && row_layer);
    if (!has_place) {
      refuse(source_, module,
             std::string("multiplies its input by scales that nothing before it absorbed; ") +
                 trt_algo_info(plan_.scheme.algo).name + " has no place for them");
    }
    plan_.smooths = true;
  }

  const WeightSource& source_;
  TrtLinearPlan plan_;
  std::vector<float> smoothing_;
  float smallest_input_ = 0;
};

}  // namespace

TrtLinearPlan plan_trt_linear(const WeightSource& source, const TrtFamily& family,
                              const TrtLinear& linear) {
  return Planner(source, family, linear).plan();
}

CompressedWeight as_exported(const TrtLinearPlan& plan, size_t source, CompressedWeight weight) {
  if (plan.scheme.algo == TrtAlgo::kFp8 && weight.scale[0] != plan.shared_scale(source)) {
    // From what the weights are worth to the codes under the scale that all of the tensor have.
    const float scale = plan.shared_scale(source);
    std::vector<int8_t> codes(static_cast<size_t>(weight.out_features * weight.in_features));
    std::vector<float> row(static_cast<size_t>(weight.in_features));
    const std::span<uint8_t> out(reinterpret_cast<uint8_t*>(codes.data()), codes.size());
    for (int64_t i = 0; i < weight.out_features; ++i) {
      dequantize_rows(weight, i, i + 1, row);
      quantize_e4m3(row, 1.0F / scale,
                    out.subspan(static_cast<size_t>(i) * row.size(), row.size()));
    }
    weight.sparse = false;
    weight.mask_index.clear();
    weight.scale = {scale};
    pack_codes(codes, {}, weight);
  }
  if (has_input_scale(weight.activation)) weight.input_scale = plan.input_scale;
  if (plan.scheme.algo == TrtAlgo::kInt8PerToken) {
    // The engine divides.
    for (float& value : weight.pre_quant_scale) value = 1 / (1 / value);
  } else {
    for (float& value : weight.pre_quant_scale) value = round_to_bf16(value);
  }
  return weight;
}

}  // namespace pare
