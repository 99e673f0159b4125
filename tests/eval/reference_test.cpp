// Reference values: perplexities that an independent implementation measured on whole texts.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "pare/evaluate.h"
#include "tests/support/reference.h"

namespace pare {
namespace {

const std::string kReference = testing::reference_dir();

TEST(PerplexityReference, PicoOnWikiText) {
  const std::string folder = kReference + "/models/pico";
  const std::string text = kReference + "/data/wikitext2/wiki.test.raw";
  if (!std::filesystem::exists(folder) || !std::filesystem::exists(text)) {
    GTEST_SKIP() << "no reference data in " << kReference;
  }
  std::ifstream file(folder + "/reference.json");
  const auto expected = nlohmann::json::parse(file)["wikitext2"];
  EvaluateOptions options;
  options.baseline = folder;
  options.text = text;
  options.ctx = 512;

  options.precision = "fp32";
  const double fp32 = expected["float32"]["ctx512"];
  EXPECT_NEAR(evaluate(options, {}).baseline.perplexities.at("perplexity").ppl.value, fp32,
              1e-4 * fp32);

  options.precision = "bf16";
  const double bf16 = expected["bfloat16"]["ctx512"];
  EXPECT_NEAR(evaluate(options, {}).baseline.perplexities.at("perplexity").ppl.value, bf16,
              1e-3 * bf16);
}

}  // namespace
}  // namespace pare
