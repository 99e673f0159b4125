// Exports with weights dequantized.
#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>

#include "engines/engine_export.h"
#include "kernels/codec.h"
#include "pare/engines.h"
#include "pare/evaluate.h"
#include "tests/engines/engine_fixture.h"
#include "tests/pipeline/architecture_fixture.h"

namespace pare::testing {
namespace {

class DenseExport : public ArchitectureTest {
 protected:
  ExportReport exported(const std::string& checkpoint) const {
    ExportOptions options;
    options.checkpoint = checkpoint;
    options.format = "dense";
    options.output = path("dense");
    options.force = true;
    return export_to(options, {});
  }
};

TEST_F(DenseExport, WeightsAloneAreTheSameModel) {
  // GPT-2 stores its linears the other way round, and some have inputs whose scales nobody absorbs.
  for (const char* name : {"LlamaThreeTied", "GptTwoByLayer", "Mixtral", "LlamaBiased"}) {
    SCOPED_TRACE(name);
    use_config(name);
    for (const char* sparsity : {"none", "sparsegpt"}) {
      QuantizeOptions options = job_of("q.h5", "int4_awq", sparsity);
      options.force = true;
      const QuantizeReport made = quantize(options, {});
      const ExportReport report = exported(made.output);
      EXPECT_TRUE(form_warnings(report).empty());
      const auto source = open_weight_source(made.output);
      bool scaled = false;
      for (const std::string& weight : source->names()) {
        if (!source->is_compressed(weight)) continue;
        scaled = scaled || !source->compressed(weight).pre_quant_scale.empty();
      }
      // A scale of the input that nobody absorbed rounds elsewhere.
      const double most = scaled ? 0.02 : 0;
      EXPECT_LE(distance(logits_of(report.output), logits_of(made.output)), most);
    }
  }
}

// Linears of GPT-2 are stored the other way round, those that are not quantized by every form.
TEST_F(DenseExport, TransposedLinearsStaySoInEveryForm) {
  use_config("GptTwoByLayer");
  QuantizeOptions options = job_of("q.h5", "int8_wo", "magnitude");
  options.overrides = {{"attn", "full_prec"}};
  const QuantizeReport made = quantize(options, {});
  const auto dense = open_weight_source(exported(made.output).output);
  for (const char* form : {"compressed-tensors", "modelopt"}) {
    SCOPED_TRACE(form);
    ExportOptions to;
    to.checkpoint = made.output;
    to.format = form;
    to.output = path(form);
    const auto found = open_weight_source(export_to(to, {}).output);
    int64_t count = 0;
    for (const std::string& name : dense->names()) {
      if (name.find("attn.c_") == std::string::npos || !name.ends_with(".weight")) continue;
      const TensorView view = found->dense(name);
      EXPECT_EQ(view.shape, dense->shape(name)) << name;
      EXPECT_TRUE(std::ranges::equal(view.bytes, dense->dense(name).bytes)) << name;
      ++count;
    }
    EXPECT_GT(count, 1);
  }
}

TEST_F(DenseExport, SaysThatInputsAreNotRounded) {
  use_config("LlamaThreeTied");
  QuantizeOptions options = job_of("q.h5", "fp8");
  options.kv_cache = "fp8";
  const QuantizeReport made = quantize(options, {});
  const ExportReport report = exported(made.output);
  EXPECT_EQ(form_warnings(report).size(), 2U);
  const auto source = open_weight_source(made.output);
  const auto found = open_weight_source(report.output);
  EXPECT_EQ(found->config_json().find("quantization_config"), std::string::npos);
  for (const std::string& name : source->names()) {
    if (!source->is_compressed(name)) continue;
    const CompressedWeight weight = source->compressed(name);
    std::vector<float> values(static_cast<size_t>(weight.out_features * weight.in_features));
    dequantize_rows(weight, 0, weight.out_features, values);
    const std::vector<float> dense = to_f32(found->dense(name), name);
    for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(dense[i], round_to_bf16(values[i]));
  }
}

}  // namespace
}  // namespace pare::testing
