// Tiny models, ids and checkpoints for tests of evaluation.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "pare/evaluate.h"
#include "tests/support/program.h"

namespace pare::testing {

/// What write_tiny_llama() makes.
inline constexpr int64_t kTinyVocabulary = 4096;

/// Sets every element of a tensor in a safetensors file to the same bf16 bits.
void fill_tensor(const std::string& path, const std::string& tensor, uint16_t bits);

/// Writes the model in `folder` as an HDF5 checkpoint whose linears are INT8, rounded to nearest
/// per output channel, with activations rounded per token; to `input_scale` where it is positive,
/// not at all where it is negative.
void write_int8_checkpoint(const std::string& folder, const std::string& path,
                           const std::string& recipe_json, float input_scale = 0);

class EvalTest : public ::testing::Test {
 protected:
  EvalTest();

  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }

  /// A tiny model "name" of its own seed; ends up in path(name).
  std::string make_model(const std::string& name, uint32_t seed);

  /// A file of random token ids that starts with the model's BOS.
  std::string make_ids(const std::string& name, int64_t count, uint32_t seed);

  /// ctx 32, 2 threads.
  EvaluateOptions options(const std::string& baseline,
                          const std::vector<std::string>& candidates) const;

  TempDir folder_;
  std::string ids_;  ///< 12 windows of 32, and a tail of 5.
};

/// The code and message that evaluate() fails with; fails the test when it does not.
struct Failure {
  int code = 0;
  std::string message;
};
Failure failure_of(const EvaluateOptions& options, const Callbacks& callbacks = {});

}  // namespace pare::testing
