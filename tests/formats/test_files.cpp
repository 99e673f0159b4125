#include "tests/formats/test_files.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "core/dtype.h"
#include "formats/safetensors_writer.h"

namespace pare::test {

namespace fs = std::filesystem;

TempFolder::TempFolder() {
  std::string pattern = (fs::temp_directory_path() / "pare-test-XXXXXX").string();
  path_ = ::mkdtemp(pattern.data());
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::vector<std::string> TempFolder::entries() const {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(path_)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const std::string& path, const std::string& content) {
  std::ofstream file(path, std::ios::binary);
  file << content;
  ASSERT_TRUE(file.flush()) << path;
}

Tensor random_tensor(std::mt19937& random, DType dtype, const Shape& shape) {
  Tensor tensor{{}, dtype, shape};
  tensor.bytes.resize(static_cast<size_t>(element_count(shape)) * dtype_size(dtype));
  for (std::byte& byte : tensor.bytes) byte = static_cast<std::byte>(random() & 0xffU);
  return tensor;
}

Tensor float_tensor(DType dtype, const Shape& shape, const std::vector<float>& values) {
  Tensor tensor{{}, dtype, shape};
  const size_t size = dtype_size(dtype);
  tensor.bytes.resize(values.size() * size);
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t half = dtype == DType::kBf16 ? f32_to_bf16(values[i]) : f32_to_f16(values[i]);
    if (dtype == DType::kF32) {
      std::memcpy(tensor.bytes.data() + size * i, &values[i], size);
    } else {
      std::memcpy(tensor.bytes.data() + size * i, &half, size);
    }
  }
  return tensor;
}

Tensor normal_tensor(std::mt19937& random, DType dtype, const Shape& shape, float deviation) {
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> values(static_cast<size_t>(element_count(shape)));
  for (float& value : values) value = normal(random);
  return float_tensor(dtype, shape, values);
}

Tensor byte_tensor(DType dtype, const Shape& shape, const std::vector<uint8_t>& values) {
  Tensor tensor{{}, dtype, shape};
  for (const uint8_t value : values) tensor.bytes.push_back(static_cast<std::byte>(value));
  return tensor;
}

void write_tensors(const std::string& path, const std::map<std::string, Tensor>& tensors) {
  std::map<std::string, TensorView> views;
  for (const auto& [name, tensor] : tensors) views[name] = tensor.view();
  write_safetensors(path, views, {}, true);
}

void write_model(const TempFolder& folder, const std::string& config,
                 const std::map<std::string, Tensor>& tensors) {
  write_file(folder / "config.json", config);
  write_tensors(folder / "model.safetensors", tensors);
}

CompressedWeight random_weight(std::mt19937& random, WeightFormat format, int64_t out, int64_t in,
                               int64_t group_size, bool symmetric, bool sparse,
                               ActivationFormat activation, bool pre_quant_scale) {
  CompressedWeight weight;
  weight.format = format;
  weight.activation = activation;
  weight.out_features = out;
  weight.in_features = in;
  weight.group_size = group_size;
  weight.symmetric = symmetric;
  weight.sparse = sparse;
  if (activation == ActivationFormat::kFp8Block) weight.block_rows = 4;
  std::uniform_real_distribution<float> positive(0.001F, 3.0F);
  weight.codes.resize(static_cast<size_t>(out * weight.row_bytes()));
  for (uint8_t& code : weight.codes) {
    code = static_cast<uint8_t>(random());
    if (format == WeightFormat::kFp8E4m3 && (code & 0x7fU) == 0x7fU) code = 0x38;
    if (format == WeightFormat::kInt8 && code == 0x80) code = 0x81;
  }
  if (format == WeightFormat::kBf16) {  // Finite values only: NaN has many spellings.
    for (size_t i = 1; i < weight.codes.size(); i += 2) {
      if ((weight.codes[i] & 0x7fU) == 0x7fU) weight.codes[i] = 0x3f;
    }
  }
  if (packs_nibbles(format) && weight.stored_columns() % 2 == 1) {
    for (int64_t row = 1; row <= out; ++row) {
      weight.codes[static_cast<size_t>(row * weight.row_bytes() - 1)] &= 0x0fU;
    }
  }
  if (format != WeightFormat::kBf16) {
    weight.scale.resize(static_cast<size_t>(weight.scale_rows() * weight.groups()));
    for (float& scale : weight.scale) {
      scale = positive(random);
      if (format == WeightFormat::kNvfp4) scale = e4m3_to_f32(f32_to_e4m3(scale + 0.01F));
      if (format == WeightFormat::kMxfp4) scale = std::ldexp(1.0F, std::ilogb(scale) * 12);
    }
    if (format == WeightFormat::kNvfp4) weight.global_scale = positive(random);
    if (!symmetric) {
      weight.zero_point.resize(weight.scale.size());
      for (uint8_t& zero : weight.zero_point) zero = static_cast<uint8_t>(random() & 15U);
    }
  }
  if (sparse) {
    constexpr uint8_t kNibbles[6] = {0x4, 0x8, 0xc, 0x9, 0xd, 0xe};
    weight.mask_index.resize(static_cast<size_t>(out * weight.mask_row_bytes()));
    for (int64_t row = 0; row < out; ++row) {
      for (int64_t group = 0; group < in / 4; ++group) {
        const auto byte = static_cast<size_t>(row * weight.mask_row_bytes() + group / 2);
        const auto nibble = static_cast<unsigned>(kNibbles[random() % 6]);
        weight.mask_index[byte] =
            static_cast<uint8_t>(weight.mask_index[byte] | (group % 2 == 0 ? nibble : nibble << 4));
      }
    }
  }
  if (has_input_scale(activation)) {
    weight.input_scale = positive(random);
  }
  if (pre_quant_scale) {
    weight.pre_quant_scale.resize(static_cast<size_t>(in));
    for (float& scale : weight.pre_quant_scale) scale = positive(random);
  }
  return weight;
}

std::vector<WeightCase> all_schemes(std::mt19937& random) {
  std::vector<WeightCase> cases;
  for (const bool sparse : {false, true}) {
    const std::string suffix = sparse ? "_24" : "";
    const auto add = [&](const std::string& name, WeightFormat format, int64_t out, int64_t in,
                         int64_t group, bool symmetric, ActivationFormat activation, bool pre) {
      cases.push_back(
          {name + suffix + ".weight",
           random_weight(random, format, out, in, group, symmetric, sparse, activation, pre)});
    };
    using A = ActivationFormat;
    if (sparse) add("bf16", WeightFormat::kBf16, 5, 20, kPerTensor, true, A::kBf16, false);
    add("fp8", WeightFormat::kFp8E4m3, 7, 36, kPerTensor, true, A::kFp8Static, false);
    add("fp8_channel", WeightFormat::kFp8E4m3, 7, 36, kPerChannel, true, A::kBf16, false);
    add("int8", WeightFormat::kInt8, 9, 44, kPerChannel, true, A::kInt8Static, true);
    add("int8_dynamic", WeightFormat::kInt8, 3, 8, kPerChannel, true, A::kInt8Dynamic, false);
    add("int4_group", WeightFormat::kInt4, 6, 256, 128, true, A::kBf16, true);
    add("int4_short_group", WeightFormat::kInt4, 5, 84, 32, true, A::kBf16, false);
    add("int4_channel", WeightFormat::kInt4, 4, 12, kPerChannel, true, A::kBf16, false);
    add("uint4_group", WeightFormat::kInt4, 6, 76, 32, false, A::kBf16, false);
    add("uint4_channel", WeightFormat::kInt4, 3, 20, kPerChannel, false, A::kBf16, true);
    add("fp8_token", WeightFormat::kFp8E4m3, 7, 36, kPerChannel, true, A::kFp8Dynamic, false);
    add("fp8_block", WeightFormat::kFp8E4m3, 10, 36, 16, true, A::kFp8Block, false);
    add("nvfp4", WeightFormat::kNvfp4, 6, 76, kNvfp4Group, true, A::kNvfp4, true);
    add("nvfp4_only", WeightFormat::kNvfp4, 6, 76, kNvfp4Group, true, A::kBf16, false);
    add("mxfp4", WeightFormat::kMxfp4, 6, 76, kMxfp4Group, true, A::kMxfp4, false);
    if (!sparse) add("int4_odd", WeightFormat::kInt4, 3, 13, kPerChannel, true, A::kBf16, false);
  }
  return cases;
}

CheckpointHeader test_header() {
  return {"LlamaForCausalLM",
          R"({"architectures": ["LlamaForCausalLM"], "note": "größe"})",
          R"({"qformat": "test"})",
          std::string(64, '1'),
          std::string(64, '2'),
          {{"tokenizer.json", "{\"model\": {}}"}, {"tokenizer_config.json", "{}"}}};
}

void write_small_checkpoint(const std::string& path) {
  std::mt19937 random(12);
  CheckpointWriter writer(path, test_header(), true);
  writer.write_compressed("m.weight", random_weight(random, WeightFormat::kInt4, 4, 64, 32, false,
                                                    true, ActivationFormat::kBf16, true));
  writer.write_dense("norm", random_tensor(random, DType::kBf16, {64}).view());
  writer.finish();
}

void expect_error(const std::function<void()>& action, ErrorCode code,
                  const std::vector<std::string>& parts) {
  try {
    action();
    ADD_FAILURE() << "no error; expected one with \"" << (parts.empty() ? "" : parts[0]) << "\"";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    for (const std::string& part : parts) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
          << "expected \"" << part << "\" in: " << error.what();
    }
  }
}

int run_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    int result = 99;
    try {
      result = body();
    } catch (...) {
    }
    ::_exit(result);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  return status;
}

}  // namespace pare::test
