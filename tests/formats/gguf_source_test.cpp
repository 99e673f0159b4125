// GGUF files as models: what their tensors are worth, under which names, in which order.
#include "formats/gguf_source.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/dtype.h"
#include "formats/gguf_names.h"
#include "formats/weight_source.h"
#include "kernels/codec.h"
#include "kernels/ggml_blocks.h"
#include "tests/formats/gguf_files.h"
#include "tests/formats/test_files.h"

namespace pare::test {
namespace {

using nlohmann::json;

class GgufSourceTest : public ::testing::Test {
 protected:
  std::unique_ptr<WeightSource> open(const GgufBytes& file) const {
    write_file(path_, file.bytes());
    return open_weight_source(path_);
  }

  static std::vector<float> values_of(const WeightSource& source, const std::string& name) {
    if (!source.is_compressed(name)) return to_f32(source.dense(name), name);
    const CompressedWeight weight = source.compressed(name);
    std::vector<float> values(static_cast<size_t>(weight.out_features * weight.in_features));
    dequantize_rows(weight, 0, weight.out_features, values);
    return values;
  }

  TempFolder folder_;
  std::string path_ = folder_ / "m.gguf";
};

/// A Python with numpy; empty when there is none.
std::string find_python() {
  for (const char* python : {PARE_PYTHON, "/usr/bin/python3", "python3"}) {
    const std::string probe = std::string("'") + python + "' -c 'import numpy' 2>/dev/null";
    if (*python != '\0' && std::system(probe.c_str()) == 0) return python;
  }
  return "";
}

// Where a block has F16 scales; the last of a number for one that starts with E8M0.
struct Scales {
  uint32_t id;
  std::vector<size_t> at;
};

// Random bytes, but for scales that are finite.
std::string random_blocks(std::mt19937& random, const Scales& scales, size_t count) {
  const GgmlType& type = *find_ggml_type(scales.id);
  std::string bytes;
  for (size_t i = 0; i < count; ++i) {
    std::string block;
    for (int64_t j = 0; j < type.bytes; ++j) block += static_cast<char>(random() & 255U);
    for (const size_t at : scales.at) {
      const float sign = scales.id != kGgmlQ80 && random() % 2 == 0 ? -1 : 1;
      const uint16_t bits = f32_to_f16(sign * static_cast<float>(random() % 1000 + 1) / 4096);
      block[at] = static_cast<char>(bits & 255U);
      block[at + 1] = static_cast<char>(bits >> 8U);
    }
    if (scales.id == kGgmlMxfp4) block[0] = static_cast<char>(110 + random() % 30);
    bytes += block;
  }
  return bytes;
}

// Elements [first, first + count).
std::vector<float> run_of(const std::vector<float>& values, size_t first, size_t count) {
  const std::span<const float> run = std::span(values).subspan(first, count);
  return {run.begin(), run.end()};
}

TEST_F(GgufSourceTest, EveryTypeIsDecodedAsByAnotherReader) {
  const std::string python = find_python();
  if (python.empty()) GTEST_SKIP() << "no python3 here can import numpy";
  const std::vector<Scales> types = {{kGgmlQ40, {0}}, {kGgmlQ41, {0, 2}}, {6, {0}},    {7, {0, 2}},
                                     {kGgmlQ80, {0}}, {10, {80, 82}},     {11, {108}}, {12, {0, 2}},
                                     {13, {0, 2}},    {14, {208}},        {20, {0}},   {23, {0}},
                                     {kGgmlMxfp4, {}}};
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  GgufBytes file = llama_gguf();
  constexpr uint64_t kRows = 24;
  for (size_t i = 0; i < types.size(); ++i) {
    const auto blocks = static_cast<size_t>(kRows * 512 / find_ggml_type(types[i].id)->block);
    file.tensor("blk." + std::to_string(i) + ".ffn_down.weight", {512, kRows}, types[i].id,
                random_blocks(random, types[i], blocks));
  }
  const auto source = open(file);
  const std::string command =
      "'" + python + "' '" PARE_SOURCE_DIR "/tests/engines/gguf_reader.py' dump '" + path_ + "' '" +
      folder_.path() + "' > '" + (folder_ / "log") + "' 2>&1";
  ASSERT_EQ(std::system(command.c_str()), 0) << read_file(folder_ / "log");
  for (size_t i = 0; i < types.size(); ++i) {
    SCOPED_TRACE(find_ggml_type(types[i].id)->name);
    const std::string name = "model.layers." + std::to_string(i) + ".mlp.down_proj.weight";
    const std::string bytes =
        read_file(folder_ / ("blk." + std::to_string(i) + ".ffn_down.weight.f32"));
    std::vector<float> expected(kRows * 512);
    ASSERT_EQ(bytes.size(), expected.size() * sizeof(float));
    std::memcpy(expected.data(), bytes.data(), bytes.size());
    EXPECT_EQ(values_of(*source, name), expected);
    if (source->is_compressed(name)) continue;
    // Any part of it, also in the middle of a block.
    const TensorView part = source->dense_part(name, 1000, 77);
    EXPECT_EQ(part.dtype, DType::kF32);
    EXPECT_EQ(to_f32(part, name), run_of(expected, 1000, 77));
    std::vector<float> read(300);
    source->read(name, 5, std::as_writable_bytes(std::span(read)));
    EXPECT_EQ(read, run_of(expected, 5, 300));
    source->release({name});
  }
}

std::string q4_0_blocks(const std::vector<float>& scales) {
  std::string bytes;
  for (const float scale : scales) {
    const uint16_t bits = f32_to_f16(scale);
    bytes += little_endian(bits, 2);
    for (int j = 0; j < 16; ++j) bytes += static_cast<char>(j | (15 - j) << 4);
  }
  return bytes;
}

// What llama.cpp's own quantizer writes has scales of both signs.
TEST_F(GgufSourceTest, SignsOfQ4_0ScalesGoToTheZeroPoint) {
  GgufBytes file = llama_gguf();
  std::vector<float> scales(16);
  for (size_t i = 0; i < scales.size(); ++i) scales[i] = static_cast<float>(i + 1) / 16;
  file.tensor("blk.0.ffn_up.weight", {256, 2}, kGgmlQ40, q4_0_blocks(scales));
  scales[3] = -0.5F;
  scales[4] = 0;
  scales[9] = -0.25F;
  file.tensor("blk.0.ffn_gate.weight", {256, 2}, kGgmlQ40, q4_0_blocks(scales));
  const auto source = open(file);
  const CompressedWeight plain = source->compressed("model.layers.0.mlp.up_proj.weight");
  EXPECT_TRUE(plain.symmetric);
  EXPECT_EQ(plain.format, WeightFormat::kInt4);
  EXPECT_EQ(plain.group_size, 32);
  EXPECT_EQ(plain.scale[15], 1);
  const std::string name = "model.layers.0.mlp.gate_proj.weight";
  const CompressedWeight turned = source->compressed(name);
  EXPECT_FALSE(turned.symmetric);
  EXPECT_EQ(turned.zero_point[2], 8);
  EXPECT_EQ(turned.zero_point[3], 7);
  const std::vector<float> values = values_of(*source, name);
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t place = i % 32;
    const auto code = static_cast<float>(place < 16 ? place : 31 - place) - 8;
    ASSERT_EQ(values[i], scales[i / 32] * code) << i;
  }
}

TEST_F(GgufSourceTest, ScalesOfZeroAndBelowInQ8_0) {
  GgufBytes file = llama_gguf();
  std::string blocks;
  const std::vector<float> scales = {0.5F, 0, -0.5F, 1, 1, 1, 1, 1};
  for (const float scale : scales) {
    blocks += little_endian(f32_to_f16(scale), 2);
    for (int j = 0; j < 32; ++j) blocks += static_cast<char>(4 * j - 60);
  }
  file.tensor("blk.0.ffn_up.weight", {256, 1}, kGgmlQ80, blocks);
  const auto source = open(file);
  const std::vector<float> values = values_of(*source, "model.layers.0.mlp.up_proj.weight");
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(values[i], scales[i / 32] * (4 * static_cast<float>(i % 32) - 60)) << i;
  }
  // What cannot be turned, and what is no number.
  for (const auto& [scale, code, word] :
       {std::tuple(-1.0F, '\x80', "negative scale"), std::tuple(INFINITY, '\1', "inf")}) {
    GgufBytes bad = llama_gguf();
    std::string block = little_endian(f32_to_f16(scale), 2) + std::string(32, code);
    for (int i = 0; i < 3; ++i) block += block;
    bad.tensor("blk.0.ffn_up.weight", {256, 1}, kGgmlQ80, block);
    const auto opened = open(bad);
    expect_error([&] { opened->compressed("model.layers.0.mlp.up_proj.weight"); },
                 ErrorCode::kInputMalformed, {path_, "up_proj", word});
  }
}

TEST_F(GgufSourceTest, DecodedValuesAreFinite) {
  GgufBytes file = llama_gguf();
  std::string block = little_endian(f32_to_f16(INFINITY), 2) + std::string(142, '\x11');
  file.tensor("blk.0.ffn_up.weight", {256, 1}, 12, block);
  const auto source = open(file);
  expect_error([&] { source->dense("model.layers.0.mlp.up_proj.weight"); }, ErrorCode::kNonFinite,
               {path_, "up_proj", "row 0"});
}

// Row r of the model is the row of the file that interleaves the halves of a head.
TEST_F(GgufSourceTest, RowsOfQueriesAndKeysAreTurnedBack) {
  for (const char* architecture : {"llama", "qwen2"}) {
    SCOPED_TRACE(architecture);
    GgufBytes file = llama_gguf(architecture);
    std::vector<float> rows(size_t{256} * 256);
    for (size_t i = 0; i < rows.size(); ++i) {
      const size_t row = i / 256;
      rows[i] = static_cast<float>(row);
    }
    file.tensor("blk.0.attn_q.weight", {256, 256}, 0, f32_bytes(rows));
    std::vector<float> bias(256);
    for (size_t i = 0; i < bias.size(); ++i) bias[i] = static_cast<float>(i);
    file.tensor("blk.0.attn_q.bias", {256}, 0, f32_bytes(bias));
    file.tensor("blk.0.attn_v.bias", {256}, 0, f32_bytes(bias));
    std::string codes;  // Q8_0, the scale of a row being its number
    for (int i = 0; i < 128 * 8; ++i) {
      const int row = i / 8;
      codes += little_endian(f32_to_f16(static_cast<float>(row + 1)), 2) + std::string(32, '\1');
    }
    file.tensor("blk.0.attn_k.weight", {256, 128}, kGgmlQ80, codes);
    const auto source = open(file);
    const std::string prefix = "model.layers.0.self_attn.";
    const std::vector<float> q = values_of(*source, prefix + "q_proj.weight");
    const std::vector<float> k = values_of(*source, prefix + "k_proj.weight");
    const std::vector<float> b = values_of(*source, prefix + "q_proj.bias");
    const bool turned = architecture == std::string("llama");
    for (int row = 0; row < 256; ++row) {
      const int place = row % 128;
      const int file_row = turned ? row - place + 2 * (place % 64) + place / 64 : row;
      ASSERT_EQ(q[static_cast<size_t>(row) * 256 + 9], static_cast<float>(file_row));
      ASSERT_EQ(b[static_cast<size_t>(row)], static_cast<float>(file_row));
      if (row < 128) {
        ASSERT_EQ(k[static_cast<size_t>(row) * 256], static_cast<float>(file_row + 1));
      }
    }
    EXPECT_EQ(values_of(*source, prefix + "v_proj.bias"), bias);
    const TensorView part = source->dense_part(prefix + "q_proj.weight", 300, 10);
    EXPECT_EQ(to_f32(part, "q"), run_of(q, 300, 10));
    const TensorView some = source->dense_part(prefix + "q_proj.bias", 3, 5);
    EXPECT_EQ(to_f32(some, "b"), run_of(b, 3, 5));
  }
}

TEST_F(GgufSourceTest, ExpertsAreSlices) {
  GgufBytes file = llama_gguf();
  file.number("llama.expert_count", 3);
  file.number("llama.expert_used_count", 2);
  std::vector<float> values(size_t{3} * 4 * 256);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  file.tensor("blk.0.ffn_up_exps.weight", {256, 4, 3}, 0, f32_bytes(values));
  std::string codes;
  for (int i = 0; i < 3 * 4 * 8; ++i) {
    codes += little_endian(f32_to_f16(static_cast<float>(i + 1)), 2) + std::string(32, '\1');
  }
  file.tensor("blk.0.ffn_down_exps.weight", {256, 4, 3}, kGgmlQ80, codes);
  file.tensor("blk.0.ffn_gate_inp.weight", {256, 3}, 0, f32_bytes(std::vector<float>(768)));
  const auto source = open(file);
  const json config = json::parse(source->config_json());
  EXPECT_EQ(config["architectures"], json({"MixtralForCausalLM"}));
  EXPECT_EQ(config["num_local_experts"], 3);
  EXPECT_EQ(config["num_experts_per_tok"], 2);
  const std::string prefix = "model.layers.0.block_sparse_moe.";
  EXPECT_FALSE(source->is_compressed(prefix + "gate.weight"));
  for (int expert = 0; expert < 3; ++expert) {
    const std::string name = prefix + "experts." + std::to_string(expert);
    EXPECT_EQ(source->shape(name + ".w3.weight"), (Shape{4, 256}));
    EXPECT_EQ(values_of(*source, name + ".w3.weight"),
              run_of(values, size_t{1024} * static_cast<size_t>(expert), 1024));
    const CompressedWeight down = source->compressed(name + ".w2.weight");
    EXPECT_EQ(down.scale[31], static_cast<float>(32 * (expert + 1)));
    EXPECT_EQ(source->stored_bytes(name + ".w2.weight"), 4 * 8 * 34);
  }
}

TEST_F(GgufSourceTest, ConfigComesFromTheMetadata) {
  const auto source = open(whole_llama_gguf());
  const json expected = {{"architectures", {"LlamaForCausalLM"}},
                         {"model_type", "llama"},
                         {"vocab_size", 8},
                         {"hidden_size", 256},
                         {"num_hidden_layers", 1},
                         {"num_attention_heads", 2},
                         {"num_key_value_heads", 1},
                         {"head_dim", 128},
                         {"intermediate_size", 512},
                         {"hidden_act", "silu"},
                         {"rms_norm_eps", 1e-5},
                         {"rope_theta", 10000},
                         {"max_position_embeddings", 64},
                         {"tie_word_embeddings", true},
                         {"attention_bias", false},
                         {"mlp_bias", false},
                         {"torch_dtype", "bfloat16"}};
  EXPECT_EQ(json::parse(source->config_json()), expected);
  EXPECT_TRUE(source->text_files().empty());
  EXPECT_EQ(source->names().size(), 11U);
  EXPECT_EQ(source->sha256().size(), 64U);
}

TEST_F(GgufSourceTest, RotaryScalings) {
  const auto scaling = [&](const GgufBytes& file) {
    return json::parse(open(file)->config_json()).value("rope_scaling", json());
  };
  GgufBytes linear = llama_gguf();
  linear.text("llama.rope.scaling.type", "linear");
  linear.real("llama.rope.scaling.factor", 4);
  EXPECT_EQ(scaling(linear), (json{{"rope_type", "linear"}, {"factor", 4}}));
  GgufBytes yarn = llama_gguf();
  yarn.text("llama.rope.scaling.type", "yarn");
  yarn.real("llama.rope.scaling.factor", 8);
  yarn.number("llama.rope.scaling.original_context_length", 4096);
  EXPECT_EQ(
      scaling(yarn),
      (json{{"rope_type", "yarn"}, {"factor", 8}, {"original_max_position_embeddings", 4096}}));
  GgufBytes divided = llama_gguf();
  std::vector<float> divisors(64, 1);
  divisors[63] = 2.5F;
  divided.tensor("rope_freqs.weight", {64}, 0, f32_bytes(divisors));
  const json found = scaling(divided);
  EXPECT_EQ(found["rope_type"], "longrope");
  EXPECT_EQ(found["short_factor"][63], 2.5);
  EXPECT_EQ(found["long_factor"], found["short_factor"]);
  EXPECT_TRUE(scaling(llama_gguf()).is_null());
  GgufBytes other = llama_gguf();
  other.text("llama.rope.scaling.type", "longrope");
  expect_error([&] { open(other); }, ErrorCode::kInputMalformed, {path_, "longrope"});
}

TEST_F(GgufSourceTest, AFolderWithOneFile) {
  write_file(path_, whole_llama_gguf().bytes());
  write_file(folder_ / "README.md", "");
  write_file(folder_ / "config.json", "{}");  // many repositories have one beside
  EXPECT_EQ(open_weight_source(folder_.path())->path(), folder_.path());
  EXPECT_EQ(open_weight_source(folder_.path() + "/")->names().size(), 11U);
  write_file(folder_ / "n.gguf", whole_llama_gguf().bytes());
  expect_error([&] { open_weight_source(folder_.path()); }, ErrorCode::kInputMalformed,
               {folder_.path(), "2 GGUF files"});
}

// The way out for a tokenizer that has no name here.
TEST_F(GgufSourceTest, ATokenizerBesideTheFileCounts) {
  GgufBytes file = whole_llama_gguf();
  file.text("tokenizer.ggml.model", "gpt2");
  file.text("tokenizer.ggml.pre", "no-such");
  file.texts("tokenizer.ggml.tokens", {"a"});
  expect_error([&] { open(file); }, ErrorCode::kInputMalformed, {path_, "no-such", "folder"});
  write_file(folder_ / "tokenizer_config.json", "{}");
  expect_error([&] { open_weight_source(folder_.path()); }, ErrorCode::kInputMalformed,
               {"no-such"});
  write_file(folder_ / "tokenizer.json", "{\"mine\": 1}");
  const auto source = open_weight_source(folder_.path());
  EXPECT_EQ(source->text_files().at("tokenizer.json"), "{\"mine\": 1}");
  EXPECT_EQ(source->text_files().size(), 2U);
}

// Names on both sides are inverses of each other.
TEST(GgufNames, GoThereAndBack) {
  for (const char* model :
       {"LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM", "Qwen2ForCausalLM",
        "Qwen3ForCausalLM", "Qwen3MoeForCausalLM", "Gemma2ForCausalLM"}) {
    const GgufArchitecture* architecture = find_gguf_architecture(model);
    ASSERT_NE(architecture, nullptr) << model;
    for (const GgufPart& part : architecture->parts) {
      const std::string tensor = std::string("blk.17.") + part.tensor + ".weight";
      const auto parameter = gguf_parameter(*architecture, tensor);
      ASSERT_TRUE(parameter) << tensor;
      EXPECT_EQ(parameter->part, &part);
      const bool experts = part.kind == GgufPart::Kind::kExperts;
      const std::string name = experts ? expert_parameter(parameter->name, 5) : parameter->name;
      const auto place = gguf_place(*architecture, name);
      ASSERT_TRUE(place) << name;
      EXPECT_EQ(place->tensor, tensor);
      EXPECT_EQ(place->expert, experts ? 5 : -1);
    }
    for (const char* name : {"model.layers.x.input_layernorm.weight", "model.layers.1.weight",
                             "model.layers.01.input_layernorm.weight", "model.embed_tokens.bias",
                             "model.layers.1.input_layernorm", "blk.0.attn_q.weight", ""}) {
      EXPECT_FALSE(gguf_place(*architecture, name)) << name;
    }
    for (const char* name :
         {"blk.0.attn_sinks.weight", "blk.-1.attn_norm.weight", "blk.0.weight",
          "v.blk.0.attn_norm.weight", "blk.99999999999999999999.attn_q.weight"}) {
      EXPECT_FALSE(gguf_parameter(*architecture, name)) << name;
    }
  }
  EXPECT_EQ(find_gguf_architecture("T5ForConditionalGeneration"), nullptr);
}

TEST(GgufNames, RowsAreAPermutation) {
  std::vector<bool> seen(24);
  for (int64_t row = 0; row < 24; ++row) seen[static_cast<size_t>(interleaved_row(row, 8))] = true;
  EXPECT_EQ(std::count(seen.begin(), seen.end(), true), 24);
  EXPECT_EQ(interleaved_row(8 + 1, 8), 8 + 2);
  EXPECT_EQ(interleaved_row(8 + 4, 8), 8 + 1);
}

}  // namespace
}  // namespace pare::test
