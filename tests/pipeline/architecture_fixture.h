// Models of any architecture as folders, what calibrates them, and what became of them.
//
//   const MemorySource source = random_model(config, kModelSeed);
//   write_folder(path("model"), source);
//   write_calibration(folder, graph_of(config), {.windows = 2, .length = 24});
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/block_graph.h"
#include "model/model_files.h"
#include "pare/quantize.h"
#include "tests/pipeline/pipeline_fixture.h"
#include "tests/support/random_model.h"

namespace pare::testing {

/// config.json and one file of tensors, rounded to BF16.
void write_folder(const std::string& folder, const MemorySource& source);

/// The same tensors with names that do not begin with `prefix`.
MemorySource without_prefix(const MemorySource& source, const std::string& prefix);

/// The same tensors with all experts of a layer in one.
MemorySource with_fused_experts(const MemorySource& source);

/// The mean over the tokens of the divergence KL(expected ‖ found) of their logits.
double mean_divergence(const std::vector<std::vector<float>>& expected,
                       const std::vector<std::vector<float>>& found, int64_t vocabulary);

/// Names of tensors that two models do not have in common, or that differ in a byte.
std::vector<std::string> different_tensors(const WeightSource& one, const WeightSource& other);

/// A folder path("model") with a model, and jobs on it.
class ArchitectureTest : public PipelineTest {
 protected:
  void use(const MemorySource& source, int64_t windows = 2, int64_t length = 24);
  void use(const nlohmann::json& config, int64_t windows = 2, int64_t length = 24) {
    use(random_model(config, kModelSeed), windows, length);
  }
  void use_config(const std::string& name, int64_t windows = 2, int64_t length = 24);

  /// Ids, or pairs for a model with an encoder, in a file of their own; path("model") to
  /// path(output) with groups of 16. Where 2:4 sparsity asks for it, odd linears stay.
  QuantizeOptions job_of(const std::string& output, const std::string& qformat,
                         const std::string& sparsity = "none") const;

  /// Of fresh tokens.
  std::vector<std::vector<float>> logits_of(const std::string& model,
                                            Precision precision = Precision::kBf16,
                                            const std::string& lora = {},
                                            LoraUse lora_use = LoraUse::kMerge) const;
  std::vector<std::vector<float>> logits_of(const ModelFiles& model, Precision precision) const;

  /// Of the logits, ‖found − expected‖ / ‖expected‖.
  static double distance(const std::vector<std::vector<float>>& found,
                         const std::vector<std::vector<float>>& expected);

  ModelGraph graph_;
};

}  // namespace pare::testing
