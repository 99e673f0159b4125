// Checkpoints through the C interface: what is read is what the library itself reads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "pare/checkpoint.h"
#include "pare/pare.h"
#include "pare/quantize.h"
#include "tests/support/program.h"
#include "tests/support/tiny_model.h"

namespace pare::testing {
namespace {

using ::testing::HasSubstr;

struct Close {
  void operator()(pare_checkpoint* checkpoint) const { pare_checkpoint_close(checkpoint); }
};
using Handle = std::unique_ptr<pare_checkpoint, Close>;

class CCheckpoint : public ::testing::Test {
 protected:
  void SetUp() override {
    write_tiny_llama(dir_ / "model", PARE_SOURCE_DIR "/demo/model/tokenizer.json", 29);
    QuantizeOptions options;
    options.model = dir_ / "model";
    options.output = path_;
    options.qformat = "int4_wo";
    options.sparsity = "magnitude";
    options.calibration = PARE_SOURCE_DIR "/demo/calib.jsonl";
    options.calibration_size = 4;
    options.calibration_seqlen = 64;
    options.symmetric = false;
    options.awq_block_size = 32;
    quantize(options, {});
    pare_checkpoint* opened = nullptr;
    ASSERT_EQ(pare_checkpoint_open(path_.c_str(), &opened), PARE_OK) << pare_last_error();
    handle_.reset(opened);
  }

  const pare_tensor* find(const std::string& name) const {
    const pare_tensor* tensor = nullptr;
    EXPECT_EQ(pare_checkpoint_find(handle_.get(), name.c_str(), &tensor), PARE_OK);
    return tensor;
  }

  static std::string part(const pare_tensor* tensor, const char* name) {
    size_t size = 0;
    EXPECT_EQ(pare_tensor_part(tensor, name, nullptr, 0, &size), PARE_OK) << pare_last_error();
    std::string bytes(size, '\0');
    EXPECT_EQ(pare_tensor_part(tensor, name, bytes.data(), size, nullptr), PARE_OK);
    return bytes;
  }

  TempDir dir_;
  std::string path_ = dir_ / "out.h5";
  std::string linear_ = "model.layers.1.mlp.down_proj.weight";
  Handle handle_;
};

template <typename Element>
std::string bytes_of(const std::vector<Element>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Element)};
}

TEST_F(CCheckpoint, ShowsWhatTheLibraryShows) {
  const Checkpoint expected(path_);
  ASSERT_EQ(pare_checkpoint_count(handle_.get()), expected.names().size());
  for (size_t i = 0; i < expected.names().size(); ++i) {
    const std::string& name = expected.names()[i];
    SCOPED_TRACE(name);
    const pare_tensor* tensor = pare_checkpoint_tensor(handle_.get(), i);
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(tensor, find(name));
    EXPECT_EQ(pare_tensor_name(tensor), name);
    const TensorInfo info = expected.info(name);
    EXPECT_EQ(pare_tensor_dtype(tensor), info.dtype);
    const int64_t* shape = nullptr;
    const size_t rank = pare_tensor_shape(tensor, &shape);
    EXPECT_EQ(std::vector<int64_t>(shape, shape + rank), info.shape);
    const std::vector<float> values = expected.values(name);
    std::vector<float> found(values.size());
    EXPECT_EQ(pare_tensor_values(tensor, 0, info.shape[0], found.data(), found.size()), PARE_OK);
    EXPECT_EQ(found, values);
    int64_t number = 0;
    EXPECT_EQ(pare_tensor_number(tensor, "stored_bytes", &number), PARE_OK);
    EXPECT_EQ(number, info.stored_bytes);
    if (!info.scheme) {
      EXPECT_EQ(pare_tensor_scheme(tensor), nullptr);
      EXPECT_EQ(part(tensor, "data"), bytes_of(expected.dense(name).bytes));
      continue;
    }
    EXPECT_EQ(pare_tensor_scheme(tensor), info.scheme->scheme);
    EXPECT_EQ(pare_tensor_activation(tensor), info.scheme->activation);
    const QuantizedWeight weight = expected.quantized(name);
    EXPECT_EQ(part(tensor, "codes"), bytes_of(weight.codes));
    EXPECT_EQ(part(tensor, "mask_index"), bytes_of(weight.mask_index));
    EXPECT_EQ(part(tensor, "zero_point"), bytes_of(weight.zero_point));
    EXPECT_EQ(part(tensor, "scale"), bytes_of(weight.scale));
    EXPECT_EQ(part(tensor, "input_scale"), "");
    for (const auto& [key, value] : std::map<const char*, int64_t>{
             {"group_size", 32}, {"block_rows", 1}, {"symmetric", 0}, {"sparse", 1}}) {
      EXPECT_EQ(pare_tensor_number(tensor, key, &number), PARE_OK);
      EXPECT_EQ(number, value) << key;
    }
  }
  const char* text = nullptr;
  size_t size = 0;
  EXPECT_EQ(pare_checkpoint_text(handle_.get(), "config.json", &text, &size), PARE_OK);
  EXPECT_EQ(std::string(text, size), expected.texts().config_json);
  EXPECT_EQ(text[size], '\0');
  EXPECT_EQ(pare_checkpoint_text(handle_.get(), "recipe.json", &text, nullptr), PARE_OK);
  EXPECT_EQ(text, expected.texts().recipe_json);
  EXPECT_EQ(pare_checkpoint_text(handle_.get(), "tokenizer.json", &text, &size), PARE_OK);
  EXPECT_EQ(size, expected.texts().text_files.at("tokenizer.json").size());
  EXPECT_EQ(pare_checkpoint_verify(handle_.get()), PARE_OK);
}

TEST_F(CCheckpoint, BuffersThatDoNotFitAreNotWritten) {
  const pare_tensor* tensor = find(linear_);
  std::vector<float> row(96, -1);
  EXPECT_EQ(pare_tensor_values(tensor, 63, 1, row.data(), row.size()), PARE_OK);
  row.assign(96, -1);
  for (const auto& [first, rows, count] : std::vector<std::tuple<int64_t, int64_t, size_t>>{
           {0, 1, 95}, {0, 2, 96}, {64, 1, 96}, {-1, 1, 96}, {0, 1, 97}}) {
    EXPECT_EQ(pare_tensor_values(tensor, first, rows, row.data(), count), PARE_USAGE);
    EXPECT_THAT(pare_last_error(), HasSubstr(linear_));
  }
  EXPECT_EQ(pare_tensor_values(tensor, 0, 1, nullptr, 96), PARE_USAGE);
  EXPECT_EQ(row, std::vector<float>(96, -1));
  char byte = 'x';
  EXPECT_EQ(pare_tensor_part(tensor, "codes", &byte, 1, nullptr), PARE_USAGE);
  EXPECT_EQ(byte, 'x');
}

TEST_F(CCheckpoint, WrongNamesAreUsageErrors) {
  const pare_tensor* tensor = find(linear_);
  const pare_tensor* norm = find("model.norm.weight");
  const pare_tensor* none = tensor;
  EXPECT_EQ(pare_checkpoint_find(handle_.get(), "no.such", &none), PARE_USAGE);
  EXPECT_EQ(none, nullptr);
  EXPECT_THAT(pare_last_error(), HasSubstr("no.such"));
  EXPECT_EQ(pare_checkpoint_tensor(handle_.get(), pare_checkpoint_count(handle_.get())), nullptr);
  int64_t number = 0;
  EXPECT_EQ(pare_tensor_number(tensor, "bits", &number), PARE_USAGE);
  EXPECT_EQ(pare_tensor_number(norm, "group_size", &number), PARE_USAGE);
  EXPECT_EQ(pare_tensor_part(tensor, "data", nullptr, 0, nullptr), PARE_USAGE);
  EXPECT_EQ(pare_tensor_part(norm, "codes", nullptr, 0, nullptr), PARE_USAGE);
  const char* text = "";
  EXPECT_EQ(pare_checkpoint_text(handle_.get(), "../config.json", &text, nullptr), PARE_USAGE);
  EXPECT_EQ(text, nullptr);
}

TEST_F(CCheckpoint, NullIsAUsageError) {
  pare_checkpoint* made = handle_.get();
  const pare_tensor* tensor = find(linear_);
  const pare_tensor* found = nullptr;
  const char* text = nullptr;
  int64_t number = 0;
  for (const pare_status status :
       {pare_checkpoint_open(path_.c_str(), nullptr), pare_checkpoint_open(nullptr, &made),
        pare_checkpoint_verify(nullptr),
        pare_checkpoint_text(nullptr, "config.json", &text, nullptr),
        pare_checkpoint_text(handle_.get(), nullptr, &text, nullptr),
        pare_checkpoint_text(handle_.get(), "config.json", nullptr, nullptr),
        pare_checkpoint_find(nullptr, "a", &found),
        pare_checkpoint_find(handle_.get(), nullptr, &found),
        pare_checkpoint_find(handle_.get(), "a", nullptr),
        pare_tensor_number(nullptr, "sparse", &number),
        pare_tensor_number(tensor, nullptr, &number), pare_tensor_number(tensor, "sparse", nullptr),
        pare_tensor_values(nullptr, 0, 1, nullptr, 0),
        pare_tensor_part(nullptr, "codes", nullptr, 0, nullptr),
        pare_tensor_part(tensor, nullptr, nullptr, 0, nullptr)}) {
    EXPECT_EQ(status, PARE_USAGE);
    EXPECT_THAT(pare_last_error(), HasSubstr("NULL"));
  }
  EXPECT_EQ(made, nullptr);
  EXPECT_EQ(pare_checkpoint_count(nullptr), 0U);
  EXPECT_EQ(pare_checkpoint_tensor(nullptr, 0), nullptr);
  EXPECT_EQ(pare_tensor_name(nullptr), nullptr);
  EXPECT_EQ(pare_tensor_dtype(nullptr), nullptr);
  EXPECT_EQ(pare_tensor_scheme(nullptr), nullptr);
  EXPECT_EQ(pare_tensor_activation(nullptr), nullptr);
  const int64_t* shape = &number;
  EXPECT_EQ(pare_tensor_shape(nullptr, &shape), 0U);
  EXPECT_EQ(shape, nullptr);
  pare_checkpoint_close(nullptr);
}

struct FreeOutput {
  void operator()(pare_output* output) const { pare_output_free(output); }
};
using Output = std::unique_ptr<pare_output, FreeOutput>;

Output new_output(const std::string& path, const Handle& like, int force) {
  pare_output* output = nullptr;
  EXPECT_EQ(pare_output_new(path.c_str(), like.get(), force, &output), PARE_OK)
      << pare_last_error();
  return Output(output);
}

// A copy in the order of the file is the file; another value in one tensor is found again.
TEST_F(CCheckpoint, WritesWhatItReads) {
  const std::string copy = dir_ / "copy.h5";
  const Checkpoint expected(path_);
  {
    const Output output = new_output(copy, handle_, 0);
    for (const std::string& name : expected.stored_order()) {
      ASSERT_EQ(pare_output_copy(output.get(), find(name)), PARE_OK) << pare_last_error();
    }
    EXPECT_FALSE(std::filesystem::exists(copy));
    ASSERT_EQ(pare_output_finish(output.get()), PARE_OK) << pare_last_error();
  }
  EXPECT_EQ(read_file(copy), read_file(path_));

  const std::string norm = "model.norm.weight";
  PlainTensor changed = expected.dense(norm);
  changed.bytes[1] ^= std::byte{64};
  pare_output* refused = nullptr;
  EXPECT_EQ(pare_output_new(copy.c_str(), handle_.get(), 0, &refused), PARE_WRITE_FAILED);
  EXPECT_EQ(refused, nullptr);
  const Output output = new_output(copy, handle_, 1);
  for (const std::string& name : expected.stored_order()) {
    if (name == norm) {
      ASSERT_EQ(
          pare_output_write(output.get(), name.c_str(), changed.dtype.c_str(), changed.shape.data(),
                            changed.shape.size(), changed.bytes.data(), changed.bytes.size()),
          PARE_OK)
          << pare_last_error();
    } else {
      ASSERT_EQ(pare_output_copy(output.get(), find(name)), PARE_OK);
    }
  }
  ASSERT_EQ(pare_output_finish(output.get()), PARE_OK);
  EXPECT_EQ(pare_output_finish(output.get()), PARE_USAGE);
  EXPECT_EQ(pare_output_copy(output.get(), find(norm)), PARE_USAGE);
  const Checkpoint written(copy);
  EXPECT_EQ(written.dense(norm), changed);
  EXPECT_EQ(written.quantized(linear_), expected.quantized(linear_));
  EXPECT_EQ(written.texts(), expected.texts());
}

TEST_F(CCheckpoint, OutputsThatMakeNoSenseAreRefused) {
  const std::string path = dir_ / "new.h5";
  {
    const Output output = new_output(path, handle_, 0);
    const int64_t shape = 2;
    const float values[2] = {1, 2};
    const auto write = [&](const char* name, const char* dtype, size_t size) {
      return pare_output_write(output.get(), name, dtype, &shape, 1, values, size);
    };
    EXPECT_EQ(write("a", "float32", 7), PARE_USAGE);
    EXPECT_EQ(write("a", "float33", 8), PARE_USAGE);
    EXPECT_EQ(write(nullptr, "float32", 8), PARE_USAGE);
    EXPECT_EQ(write("a", nullptr, 8), PARE_USAGE);
    EXPECT_EQ(pare_output_write(output.get(), "a", "float32", nullptr, 1, values, 8), PARE_USAGE);
    EXPECT_EQ(pare_output_write(output.get(), "a", "float32", &shape, 1, nullptr, 8), PARE_USAGE);
    EXPECT_EQ(pare_output_write(nullptr, "a", "float32", &shape, 1, values, 8), PARE_USAGE);
    EXPECT_EQ(write("a", "float32", 8), PARE_OK) << pare_last_error();
    EXPECT_EQ(write("a", "float32", 8), PARE_USAGE);  // twice
    for (const char* name : {"", ".", "..", "a/b", "/", "\xff"}) {
      EXPECT_EQ(write(name, "float32", 8), PARE_USAGE) << name;
    }
    EXPECT_EQ(pare_output_copy(output.get(), nullptr), PARE_USAGE);
    EXPECT_EQ(pare_output_copy(nullptr, find(linear_)), PARE_USAGE);
  }
  EXPECT_EQ(list_folder(dir_.path()), (std::vector<std::string>{"model", "out.h5"}));
  pare_output* output = nullptr;
  EXPECT_EQ(pare_output_new(nullptr, handle_.get(), 0, &output), PARE_USAGE);
  EXPECT_EQ(pare_output_new(path.c_str(), nullptr, 0, &output), PARE_USAGE);
  EXPECT_EQ(pare_output_new(path.c_str(), handle_.get(), 0, nullptr), PARE_USAGE);
  EXPECT_EQ(pare_output_finish(nullptr), PARE_USAGE);
  pare_output_free(nullptr);
}

TEST_F(CCheckpoint, DamagedFilesAreRefused) {
  const std::string bytes = read_file(path_);
  for (const size_t size : {size_t{0}, size_t{100}, bytes.size() / 2, bytes.size() - 1}) {
    write_file(dir_ / "b.h5", bytes.substr(0, size));
    pare_checkpoint* opened = handle_.get();
    EXPECT_EQ(pare_checkpoint_open((dir_ / "b.h5").c_str(), &opened), PARE_INPUT_MALFORMED) << size;
    EXPECT_EQ(opened, nullptr);
    EXPECT_THAT(pare_last_error(), HasSubstr("b.h5"));
  }
  pare_checkpoint* opened = nullptr;
  EXPECT_EQ(pare_checkpoint_open((dir_ / "none.h5").c_str(), &opened), PARE_INPUT_MISSING);
  // One flipped bit of a payload: opening does not read it, verifying does.
  const std::string codes = part(find(linear_), "codes");
  std::string flipped = bytes;
  const size_t at = flipped.find(codes);
  ASSERT_NE(at, std::string::npos);
  flipped[at + 5] = static_cast<char>(flipped[at + 5] ^ 1);
  write_file(dir_ / "b.h5", flipped);
  ASSERT_EQ(pare_checkpoint_open((dir_ / "b.h5").c_str(), &opened), PARE_OK);
  const Handle owned(opened);
  EXPECT_EQ(pare_checkpoint_verify(opened), PARE_INPUT_MALFORMED);
  EXPECT_THAT(pare_last_error(), HasSubstr(linear_));
}

}  // namespace
}  // namespace pare::testing
