// The formats that every architecture is compressed to, checked the same way for all of them.
#pragma once

#include <cmath>
#include <string>

#include "formats/weight_source.h"
#include "tests/model/every_model.h"
#include "tests/pipeline/architecture_fixture.h"

namespace pare::testing {

class ModelJobs : public ArchitectureTest, public ::testing::WithParamInterface<NamedConfig> {
 protected:
  /// Runs the job and returns how far the logits diverge from the model's.
  double divergence_of(const std::string& qformat, const std::string& sparsity) const {
    SCOPED_TRACE(qformat + " " + sparsity);
    const QuantizeOptions options = job_of(qformat + sparsity + ".h5", qformat, sparsity);
    const QuantizeReport report = quantize(options, {});
    int changed = 0;
    const auto source = open_weight_source(report.output);
    for (const LayerReport& layer : report.layers) {
      EXPECT_EQ(source->is_compressed(layer.name + ".weight"),
                layer.qformat != "bf16" || layer.sparsity > 0)
          << layer.name;
      if (!layer.sqnr_db) continue;
      EXPECT_TRUE(std::isfinite(*layer.sqnr_db)) << layer.name;
      ++changed;
    }
    EXPECT_GT(changed, 0);
    const ModelFiles compressed = open_model_files(report.output);
    EXPECT_TRUE(compressed.unused.empty());
    const auto found = logits_of(compressed, Precision::kBf16);
    for (const auto& sequence : found) {
      for (const float logit : sequence) {
        EXPECT_TRUE(std::isfinite(logit));
        if (!std::isfinite(logit)) return 0;
      }
    }
    return mean_divergence(logits_of(path("model")), found, graph_.vocab_size);
  }

  /// All four formats; what is known of their order must hold.
  void check_all() {
    SCOPED_TRACE("seed " + std::to_string(kModelSeed));
    use(nlohmann::json::parse(GetParam().json));
    const double fp8 = divergence_of("fp8", "none");
    const double int8 = divergence_of("int8_sq", "none");
    const double int4 = divergence_of("int4_awq", "none");
    const double sparse = divergence_of("full_prec", "sparsegpt");
    for (const double dense : {fp8, int8, int4}) {
      EXPECT_GT(dense, 0);
      EXPECT_LT(dense, sparse);
    }
  }
};

}  // namespace pare::testing
