// examples/read_checkpoint.py against the library's own dequantization, bit for bit.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "core/thread_pool.h"
#include "kernels/codec.h"
#include "tests/formats/test_files.h"

namespace pare::test {
namespace {

/// A Python that has h5py and numpy; empty when there is none.
std::string find_python() {
  for (const char* python : {PARE_PYTHON, "/usr/bin/python3", "python3"}) {
    const std::string probe = std::string("'") + python + "' -c 'import h5py, numpy' 2>/dev/null";
    if (*python != '\0' && std::system(probe.c_str()) == 0) return python;
  }
  return "";
}

/// The float32 values of a .npy file, version 1.
std::vector<float> read_npy(const std::string& path, const std::string& shape) {
  const std::string file = read_file(path);
  if (file.size() < 10 || file.compare(0, 6, "\x93NUMPY") != 0) return {};
  const size_t header = static_cast<uint8_t>(file[8]) + 256U * static_cast<uint8_t>(file[9]);
  EXPECT_NE(file.find("'descr': '<f4'"), std::string::npos) << file.substr(0, 10 + header);
  EXPECT_NE(file.find("'shape': " + shape), std::string::npos) << file.substr(0, 10 + header);
  std::vector<float> values((file.size() - 10 - header) / 4);
  std::memcpy(values.data(), file.data() + 10 + header, values.size() * 4);
  return values;
}

TEST(PythonExample, DequantizesAsTheLibraryDoes) {
  const std::string python = find_python();
  if (python.empty()) GTEST_SKIP() << "no python3 here can import h5py and numpy";
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const TempFolder folder;
  const std::vector<WeightCase> cases = all_schemes(random);
  const Tensor norm = random_tensor(random, DType::kF32, {5, 2});
  CheckpointWriter writer(folder / "a.h5", test_header(), false);
  for (const auto& [name, weight] : cases) writer.write_compressed(name, weight);
  writer.write_dense("norm", norm.view());
  writer.finish();

  const auto run = [&](const std::string& name) {
    const std::string command =
        "'" + python + "' '" PARE_SOURCE_DIR "/examples/read_checkpoint.py' '" + (folder / "a.h5") +
        "' '" + name + "' '" + (folder / "out.npy") + "' 2>/dev/null";
    return std::system(command.c_str());
  };
  for (const auto& [name, weight] : cases) {
    SCOPED_TRACE(name);
    ASSERT_EQ(run(name), 0);
    const std::string shape =
        "(" + std::to_string(weight.out_features) + ", " + std::to_string(weight.in_features) + ")";
    const std::vector<float> found = read_npy(folder / "out.npy", shape);
    std::vector<float> expected(static_cast<size_t>(weight.out_features * weight.in_features));
    dequantize_rows(weight, 0, weight.out_features, expected);
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) {
      ASSERT_EQ(std::bit_cast<uint32_t>(found[i]), std::bit_cast<uint32_t>(expected[i]))
          << "element " << i << ": " << found[i] << " and " << expected[i];
    }
  }
  ASSERT_EQ(run("norm"), 0);
  const std::vector<float> found = read_npy(folder / "out.npy", "(5, 2)");
  EXPECT_EQ(std::memcmp(found.data(), norm.bytes.data(), norm.bytes.size()), 0);
  EXPECT_NE(run("nobody"), 0);
}

}  // namespace
}  // namespace pare::test
