// What the tests of the programs share: where things are, a model to work on, usual arguments.
#pragma once

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/program.h"
#include "tests/support/tiny_model.h"

namespace pare::testing {

inline const std::string kQuantize = PARE_QUANTIZE;
inline const std::string kAccuracyEval = PARE_ACCURACY_EVAL;
inline const std::string kDemo = PARE_SOURCE_DIR "/demo";
inline const std::string kCalib = kDemo + "/calib.jsonl";
inline const std::string kText = kDemo + "/eval.txt";

using Arguments = std::vector<std::string>;

inline Arguments operator+(Arguments left, const Arguments& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

/// A folder with a tiny model in it, as "model".
class TinyModel : public ::testing::Test {
 protected:
  void SetUp() override { write_tiny_llama(model_, kDemo + "/model/tokenizer.json", 17); }

  /// MODEL -o OUT with little calibration; `more` comes after.
  Arguments arguments(const Arguments& more = {}) const {
    return Arguments{model_,           "-o", out_,           "--calib", kCalib, "--calib_size", "4",
                     "--calib_seqlen", "64", "--group-size", "32"} +
           more;
  }

  /// Runs quantize, expects `status`, one line on stderr that has all of `words`, an empty stdout
  /// and nothing new in the folder.
  void expect_failure(const Arguments& arguments, int status, const std::vector<std::string>& words,
                      const RunOptions& options = {}) const;

  TempDir dir_;
  std::string model_ = dir_ / "model";
  std::string out_ = dir_ / "out.h5";
};

/// Lines that begin with "PROGRAM: error: ".
std::vector<std::string> error_lines(const std::string& err);

/// `value` without what may differ from one number of threads to the next: seconds and memory.
nlohmann::json without_timings(nlohmann::json value);

}  // namespace pare::testing
