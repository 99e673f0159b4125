// Checkpoints in every format, their exports, and what a reader that shares no code with pare makes
// of those.
#pragma once

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/compressed_weight.h"
#include "pare/engines.h"
#include "tests/pipeline/pipeline_fixture.h"

namespace pare::testing {

/// What is asked of quantize().
struct Scheme {
  const char* qformat;
  bool asym = false;
  bool dynamic = false;
  const char* sparsity = "none";

  std::string text() const;
};

/// Runs a script of tests/engines, "hf_folder_reader.py", on a folder; what it says the linears are
/// worth, [out, in], by module.
std::map<std::string, std::vector<float>> read_in_python(const std::string& script,
                                                         const std::string& folder,
                                                         const std::string& scratch);

/// Expects that `found` has all compressed linears of a checkpoint, each worth to the bit what
/// `expected_of` makes of its weight.
void expect_values(const std::map<std::string, std::vector<float>>& found,
                   const std::string& checkpoint,
                   const std::function<CompressedWeight(CompressedWeight)>& expected_of);

/// Warnings about the form itself: not that these small models have no tokenizer, nor that they fit
/// no fast kernel.
std::vector<std::string> form_warnings(const ExportReport& report);

class EngineTest : public PipelineTest {
 protected:
  EngineTest();

  /// The model in a format, path("q.h5").
  std::string checkpoint(const Scheme& scheme);

  ExportReport exported(const std::string& checkpoint, const std::string& form,
                        const std::string& name = "out") const;

  /// What the export fails with; fails the test when it does not.
  Failure export_failure(const std::string& checkpoint, const std::string& form) const;

  /// The largest KL divergence of a token between two models on path("calib.ids").
  double divergence(const std::string& baseline, const std::string& candidate) const;

  /// The same on the first windows of a text.
  double divergence(const std::string& baseline, const std::string& candidate,
                    const std::string& text, int64_t windows) const;

  static nlohmann::json config_of(const std::string& folder);
};

}  // namespace pare::testing
