// Models, token ids and jobs for the tests of the pipeline.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "pare/error.h"
#include "pare/quantize.h"
#include "tests/support/program.h"
#include "tests/support/shaped_model.h"

namespace pare::testing {

/// What quantize() fails with; fails the test when it does not.
struct Failure {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
};
Failure failure_of(const QuantizeOptions& options, const Callbacks& callbacks = {});

/// The mean signal-to-noise ratio over the layers whose name holds `part`.
double mean_sqnr(const QuantizeReport& report, const std::string& part = "");

class PipelineTest : public ::testing::Test {
 protected:
  PipelineTest() { write_ids(8, 24); }

  std::string path(const std::string& name) const { return folder_ / name; }

  /// Writes path("model") and remembers its shape.
  void write(const ModelShape& shape, uint32_t seed = 11) {
    shape_ = shape;
    write_model(path("model"), shape, make_tensors(shape, seed));
  }

  /// Random ids for `windows` windows of `length` in path("calib.ids").
  void write_ids(int64_t windows, int64_t length, int64_t vocabulary = 256);

  /// path("model") to path(output), two threads, all calibration windows.
  QuantizeOptions job(const std::string& output, const std::string& qformat,
                      const std::string& sparsity = "none") const;

  /// Names under the folder, so that a test sees whatever a failed job leaves.
  std::vector<std::string> names() const { return list_folder(folder_.path()); }

  TempDir folder_;
  ModelShape shape_;
  int64_t windows_ = 0;
  int64_t length_ = 0;
};

}  // namespace pare::testing
