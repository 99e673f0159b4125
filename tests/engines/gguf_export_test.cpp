// Exports as GGUF: read back by pare, and by a reader that shares no code with it.
#include <array>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <sstream>

#include "engines/engine_export.h"
#include "engines/gguf_weights.h"
#include "formats/gguf_file.h"
#include "formats/gguf_names.h"
#include "formats/weight_source.h"
#include "kernels/codec.h"
#include "pare/engines.h"
#include "pare/evaluate.h"
#include "tests/engines/gguf_fixture.h"
#include "tests/pipeline/pipeline_fixture.h"
#include "tests/support/python.h"

namespace pare::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Scheme {
  const char* qformat;
  const char* type;  ///< Of the linears.
  bool asym = false;
  const char* sparsity = "none";
};

constexpr std::array<Scheme, 13> kSchemes = {{{"int4_awq", "Q4_0"},
                                              {"int4_awq", "Q4_1", true},
                                              {"int4_awq", "Q4_0", false, "sparsegpt"},
                                              {"int4_awq", "Q4_1", true, "magnitude"},
                                              {"w4a8_awq", "Q4_0"},
                                              {"int8_wo", "Q8_0"},
                                              {"int8_sq", "Q8_0"},
                                              {"mxfp4_wo", "MXFP4"},
                                              {"nvfp4_wo", "BF16"},
                                              {"fp8", "BF16"},
                                              {"fp8_block", "BF16"},
                                              {"full_prec", "BF16", false, "wanda"},
                                              {"fp8", "BF16", false, "wanda"}}};

class GgufExport : public PipelineTest {
 protected:
  GgufExport() {
    ModelShape shape;
    shape.hidden = 64;
    shape.feed_forward = 96;
    write(shape);
  }

  std::string checkpoint(const Scheme& scheme) {
    QuantizeOptions options = job("q.h5", scheme.qformat, scheme.sparsity);
    options.symmetric = !scheme.asym;
    options.force = true;
    return quantize(options, {}).output;
  }

  // Values by tensor of the file, from the other reader.
  std::vector<float> values(const std::string& tensor) const {
    const std::string bytes = read_file(path("read/" + tensor + ".f32"));
    std::vector<float> found(bytes.size() / sizeof(float));
    std::memcpy(found.data(), bytes.data(), bytes.size());
    return found;
  }
};

// Codes × f16(scale), for INT4 with zero points code × d + m; everything else rounded to BF16.
std::vector<float> worth(CompressedWeight weight, const std::string& type) {
  std::vector<float> values(static_cast<size_t>(weight.out_features * weight.in_features));
  if (type == "BF16") {
    dequantize_rows(weight, 0, weight.out_features, values);
    for (float& value : values) value = round_to_bf16(value);
    return values;
  }
  const bool halves = type != "MXFP4";
  for (float& scale : weight.scale) {
    if (halves) scale = f16_to_f32(f32_to_f16(scale));
  }
  if (weight.symmetric) {
    dequantize_rows(weight, 0, weight.out_features, values);
    return values;
  }
  const std::vector<int8_t> codes = dense_codes(weight);
  for (size_t i = 0; i < codes.size(); ++i) {
    const auto row = static_cast<int64_t>(i) / weight.in_features;
    const auto column = static_cast<int64_t>(i) % weight.in_features;
    const size_t index = weight.scale_index(row, column / weight.group_size);
    const float scale = weight.scale[index];
    const float minimum =
        f16_to_f32(f32_to_f16(-static_cast<float>(weight.zero_point[index]) * scale));
    values[i] = static_cast<float>(codes[i]) * scale + minimum;
  }
  return values;
}

TEST_F(GgufExport, AnotherReaderFindsTheSameWeights) {
  const std::string python = find_python(PARE_PYTHON);
  if (python.empty()) GTEST_SKIP() << "no python3 here can import numpy";
  const GgufArchitecture& architecture = *find_gguf_architecture("LlamaForCausalLM");
  const int64_t head_dim = shape_.hidden / shape_.heads;
  for (const Scheme& scheme : kSchemes) {
    SCOPED_TRACE(std::string(scheme.qformat) + (scheme.asym ? " asym " : " ") + scheme.sparsity);
    const std::string source_path = checkpoint(scheme);
    const ExportReport report = export_as_gguf(source_path, path("out"));
    EXPECT_EQ(refusals_of(report.output), "");
    std::filesystem::create_directories(path("read"));
    const Finished reader =
        run_program(python, {PARE_SOURCE_DIR "/tests/engines/gguf_reader.py", "dump",
                             report.output + "/model.gguf", path("read")});
    ASSERT_EQ(reader.status, 0) << reader.err;
    std::map<std::string, std::string> types;
    std::istringstream lines(reader.out);
    for (std::string tensor, type, size; lines >> tensor >> type >> size;) types[tensor] = type;
    const auto source = open_weight_source(source_path);
    EXPECT_EQ(types.size(), source->names().size());
    for (const std::string& name : source->names()) {
      SCOPED_TRACE(name);
      const auto place = gguf_place(architecture, name);
      ASSERT_TRUE(place);
      const std::string type = types.at(place->tensor);
      const bool compressed = source->is_compressed(name);
      EXPECT_EQ(type, compressed ? scheme.type : source->shape(name).size() == 1 ? "F32" : "BF16");
      const std::vector<float> expected =
          compressed ? worth(source->compressed(name), type) : to_f32(source->dense(name), name);
      const std::vector<float> found = values(place->tensor);
      ASSERT_EQ(found.size(), expected.size());
      const bool turned =
          name.find("q_proj") != std::string::npos || name.find("k_proj") != std::string::npos;
      const int64_t columns = source->shape(name).back();
      for (size_t i = 0; i < found.size(); ++i) {
        const auto row = static_cast<int64_t>(i) / columns;
        const int64_t place_in_file = turned ? interleaved_row(row, head_dim) : row;
        const auto at =
            static_cast<size_t>(place_in_file * columns) + i % static_cast<size_t>(columns);
        ASSERT_EQ(found[at], expected[i]) << i;
      }
    }
  }
}

TEST_F(GgufExport, IsTheSameModelButForItsScales) {
  for (const Scheme& scheme : kSchemes) {
    SCOPED_TRACE(std::string(scheme.qformat) + (scheme.asym ? " asym " : " ") + scheme.sparsity);
    const std::string source = checkpoint(scheme);
    const ExportReport report = export_as_gguf(source, path("out"));
    EvaluateOptions options;
    options.baseline = source;
    options.candidates = {report.output};
    options.text = path("calib.ids");
    options.ctx = length_;
    const EvaluateReport found = evaluate(options, {});
    const double divergence =
        found.candidates[0].perplexities.at("perplexity").divergence.kl_mean.value;
    const std::string type = scheme.type;
    if (type == "Q4_1") {
      EXPECT_EQ(found.candidates[0].qformat, "gguf Q4_1");
    }
    const bool rounds_inputs =
        scheme.qformat == std::string("fp8") || scheme.qformat == std::string("w4a8_awq") ||
        scheme.qformat == std::string("int8_sq") || scheme.qformat == std::string("fp8_block");
    if (rounds_inputs) {
      EXPECT_LE(divergence, 1e-2);
      EXPECT_THAT(report.warnings, ::testing::Contains(HasSubstr("14 linears were measured")));
    } else if (type == "MXFP4" || scheme.qformat == std::string("full_prec")) {
      EXPECT_EQ(divergence, 0);
      EXPECT_THAT(report.warnings, ::testing::Each(HasSubstr("no tokenizer")));
    } else {
      EXPECT_LE(divergence, 1e-4);
    }
  }
}

TEST_F(GgufExport, ThreadsChangeNothing) {
  const std::string source = checkpoint(kSchemes[0]);
  const ExportReport one = export_as_gguf(source, path("one"), 1);
  const ExportReport four = export_as_gguf(source, path("four"), 4);
  ASSERT_EQ(one.files.size(), 1U);
  EXPECT_EQ(one.files[0].name, "model.gguf");
  EXPECT_EQ(one.files[0].sha256, four.files[0].sha256);
  const GgufFile file(path("one/model.gguf"));
  EXPECT_EQ(file.data_begin() % 32, 0);
  for (const GgufTensor& tensor : file.tensors()) {
    const auto offset = tensor.bytes.data() - file.tensors()[0].bytes.data();
    EXPECT_EQ(offset % 32, 0) << tensor.name;
  }
  // The order in which an engine reads them.
  EXPECT_EQ(file.tensors().front().name, "token_embd.weight");
  EXPECT_EQ(file.tensors()[1].name, "blk.0.attn_norm.weight");
  EXPECT_EQ(std::filesystem::file_size(path("one/model.gguf")) % 32, 0U);
}

TEST_F(GgufExport, SaysWhatTheFileIs) {
  const std::pair<Scheme, int64_t> cases[] = {
      {kSchemes[0], 2}, {kSchemes[1], 3}, {kSchemes[5], 7}, {kSchemes[7], 38}, {kSchemes[9], 32}};
  for (const auto& [scheme, type] : cases) {
    export_as_gguf(checkpoint(scheme), path("out"));
    const GgufFile file(path("out/model.gguf"));
    EXPECT_EQ(file.find_integer("general.file_type"), type) << scheme.qformat;
    EXPECT_EQ(file.find_integer("general.quantization_version"), 2);
    EXPECT_EQ(file.text("general.architecture"), "llama");
    EXPECT_EQ(file.text("general.name"), "q");
    EXPECT_EQ(file.find_integer("llama.block_count"), 2);
    EXPECT_EQ(file.find_integer("llama.embedding_length"), 64);
    EXPECT_EQ(file.find_integer("llama.feed_forward_length"), 96);
    EXPECT_EQ(file.find_number("llama.attention.layer_norm_rms_epsilon"),
              static_cast<double>(1e-5F));
  }
}

TEST_F(GgufExport, IsNamedAfterTheModel) {
  std::filesystem::rename(path("model"), path("Llama-3.1-tiny"));
  for (const char* name : {"Llama-3.1-tiny", "Llama-3.1-tiny/"}) {
    export_as_gguf(path(name), path("out"));
    EXPECT_EQ(GgufFile(path("out/model.gguf")).text("general.name"), "Llama-3.1-tiny");
  }
}

// A GGUF file is a model like any other: what it is exported from, quantized again.
TEST_F(GgufExport, IsASourceOfOtherForms) {
  const std::string source = checkpoint(kSchemes[0]);
  export_as_gguf(source, path("out"));
  const ExportReport again = export_as_gguf(path("out/model.gguf"), path("again"));
  EXPECT_EQ(again.quantized_linears, 14);
  EXPECT_EQ(GgufFile(path("again/model.gguf")).tensors().size(), 21U);
  ExportOptions options;
  options.checkpoint = path("out");
  options.format = "compressed-tensors";
  options.output = path("ct");
  export_to(options, {});
  const auto made = open_weight_source(path("ct"));
  const auto gguf = open_weight_source(path("out"));
  const std::string name = "model.layers.1.self_attn.k_proj.weight";
  EXPECT_EQ(made->compressed(name).codes, gguf->compressed(name).codes);
  EXPECT_EQ(made->compressed(name).scale, gguf->compressed(name).scale);
  QuantizeOptions job_options = job("again.h5", "int8_wo");
  export_as_gguf(path("model"), path("dense"));
  job_options.model = path("dense/model.gguf");
  const auto from_gguf = open_weight_source(quantize(job_options, {}).output);
  job_options.model = path("model");
  job_options.output = path("plain.h5");
  const auto from_folder = open_weight_source(quantize(job_options, {}).output);
  EXPECT_EQ(from_gguf->compressed(name).codes, from_folder->compressed(name).codes);
}

TEST_F(GgufExport, LeavesOutWhatHasNoPlace) {
  QuantizeOptions options = job("cache.h5", "int4_awq");
  options.kv_cache = "fp8";
  const ExportReport report = export_as_gguf(quantize(options, {}).output, path("out"));
  EXPECT_THAT(report.warnings, ::testing::Contains(HasSubstr("cache of keys and values")));
  EXPECT_EQ(refusals_of(report.output), "");
}

CompressedWeight int4_weight(int64_t in, int64_t group, float scale) {
  CompressedWeight weight;
  weight.format = WeightFormat::kInt4;
  weight.out_features = 2;
  weight.in_features = in;
  weight.group_size = group;
  weight.scale.assign(static_cast<size_t>(2 * weight.groups()), scale);
  weight.codes.assign(static_cast<size_t>(2 * weight.row_bytes()), 0x71);
  return weight;
}

TEST(GgufWeights, WhatBlocksCannotHoldIsBf16) {
  const auto plan = [](const CompressedWeight& weight) { return plan_gguf_weight(weight, "w"); };
  EXPECT_EQ(plan(int4_weight(64, 32, 0.1F)).type->id, kGgmlQ40);
  EXPECT_EQ(plan(int4_weight(64, kPerChannel, 0.1F)).type->id, kGgmlQ40);
  for (const CompressedWeight& weight : {int4_weight(48, 48, 0.1F), int4_weight(64, 16, 0.1F)}) {
    EXPECT_EQ(plan(weight).type->id, kGgmlBf16);
    EXPECT_TRUE(plan(weight).uneven);
  }
  CompressedWeight scaled = int4_weight(64, 32, 0.125F);
  scaled.pre_quant_scale.assign(64, 3);
  EXPECT_EQ(plan(scaled).type->id, kGgmlBf16);
  EXPECT_TRUE(plan(scaled).scaled);
  EXPECT_EQ(gguf_values(scaled, *plan(scaled).type)[1], 3 * 7 * 0.125F);
}

TEST(GgufWeights, ScalesGoToF16) {
  const auto plan = [](float scale) { return plan_gguf_weight(int4_weight(64, 32, scale), "w"); };
  EXPECT_EQ(plan(0.125F).largest_change, 0);
  EXPECT_NEAR(plan(0.1F).largest_change, 0x1p-12, 0x1p-12);
  EXPECT_GT(plan(0.1F).largest_change, 0);
  EXPECT_EQ(plan(0.1F).small_scales, 0);
  EXPECT_EQ(plan(1e-6F).small_scales, 4);
  EXPECT_EQ(plan(1e-9F).largest_change, 1);  // nothing is left of it
  EXPECT_NO_THROW(plan(65504));
  try {
    plan(65520);
    ADD_FAILURE() << "F16 has no such number";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInputMalformed);
    EXPECT_THAT(error.what(), HasSubstr("\"w\""));
  }
  // Where nothing is left the file says zero, and that is what is read.
  const CompressedWeight tiny = int4_weight(64, 32, 1e-9F);
  for (const float value : gguf_values(tiny, *find_ggml_type(kGgmlQ40))) EXPECT_EQ(value, 0);
}

}  // namespace
}  // namespace pare::testing
