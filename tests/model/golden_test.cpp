// Logits of reference implementations of every architecture, computed in FP32 and in BF16.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>

#include "formats/safetensors.h"
#include "model/model_files.h"
#include "pare/evaluate.h"
#include "tests/support/random_model.h"
#include "tests/support/reference.h"

namespace pare {
namespace {

constexpr double kMostFp32 = 2e-5;
constexpr double kMostOfTheirs = 2;

class Golden : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(folder())) {
      GTEST_SKIP() << "the reference data is not here: " << folder();
    }
  }
  std::string folder() const { return testing::reference_dir() + "/golden/" + GetParam(); }
  std::string file() const { return folder() + "/golden.safetensors"; }
  static std::vector<float> floats(const SafetensorsFile& golden, const std::string& name) {
    return to_f32(golden.get(name), name);
  }
};

std::string folder_name(const ::testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(
    Models, Golden,
    ::testing::Values("bart", "bloom", "chatglm-glm", "deepseek-v3", "falcon-40b-newarch",
                      "falcon-7b-mqa", "falcon-mamba", "falcon-rw-alibi", "flan-t5-gated",
                      "fsmt-fairseq", "gemma2", "gemma3", "glm4", "gpt-neox", "gpt-oss", "gpt2",
                      "jamba", "llama", "llama-bias-headdim", "llama-rope3-tied", "mamba", "mamba2",
                      "mbart", "mistral-swa", "mixtral", "mpt", "mt5", "nemotron", "opt", "phi3",
                      "qwen2", "qwen3", "qwen3-moe", "starcoder-bigcode", "starcoder2", "t5"),
    folder_name);

TEST_P(Golden, F32IsTheReferenceToRounding) {
  const VerifyReport report = verify(file(), folder(), "fp32", 1, {});
  EXPECT_GT(report.positions, 0);
  EXPECT_LE(report.rel_l2, kMostFp32);
  EXPECT_EQ(report.argmax_agreement, 1.0);
  RecordProperty("rel_l2", std::to_string(report.rel_l2 * 1e6) + "e-6");
}

TEST_P(Golden, Bf16IsAsGoodAsTheReferencesOwn) {
  const SafetensorsFile golden = SafetensorsFile::open(file());
  const double theirs =
      testing::relative_error(floats(golden, "logits_bf16_run"), floats(golden, "logits"));
  ASSERT_GT(theirs, 0.0);
  const VerifyReport report = verify(file(), folder(), "bf16", 2, {});
  EXPECT_GT(report.rel_l2, 0.0) << "this cannot have been BF16";
  EXPECT_LE(report.rel_l2, kMostOfTheirs * theirs);
  RecordProperty("ours_over_theirs", std::to_string(report.rel_l2 / theirs));
}

TEST_P(Golden, ThreadsDoNotChangeTheReport) {
  EXPECT_EQ(to_json(verify(file(), folder(), "bf16", 1, {})),
            to_json(verify(file(), folder(), "bf16", 2, {})));
}

// Where plain BF16 sends a token to other experts than FP32, most of its logits change: no measure
// of rounding. All other tokens must be as near as everywhere.
class GoldenRouting : public Golden {
 protected:
  struct Run {
    std::vector<float> logits;
    std::map<std::string, std::vector<int32_t>> experts;
  };

  Run run(const ModelFiles& model, const std::vector<testing::Sequence>& sequences,
          Precision precision) const {
    Run run;
    for (const std::vector<float>& one : testing::run_sequences(
             model.graph, *model.source, sequences, precision, {.experts = &run.experts})) {
      run.logits.insert(run.logits.end(), one.begin(), one.end());
    }
    // Which of the chosen is first does not matter.
    for (auto& [prefix, experts] : run.experts) {
      const auto tokens = static_cast<ptrdiff_t>(run.logits.size()) /
                          static_cast<ptrdiff_t>(model.graph.vocab_size);
      const auto chosen = static_cast<ptrdiff_t>(experts.size()) / tokens;
      for (auto token = experts.begin(); token != experts.end(); token += chosen) {
        std::sort(token, token + chosen);
      }
    }
    return run;
  }

  static std::vector<testing::Sequence> sequences(const SafetensorsFile& golden) {
    const TensorView ids = golden.get("input_ids");
    std::vector<int64_t> values(static_cast<size_t>(element_count(ids.shape)));
    std::memcpy(values.data(), ids.bytes.data(), ids.bytes.size());
    std::vector<testing::Sequence> sequences;
    for (auto begin = values.begin(); begin != values.end(); begin += ids.shape[1]) {
      sequences.push_back({{begin, begin + ids.shape[1]}, {}});
    }
    return sequences;
  }
};

INSTANTIATE_TEST_SUITE_P(Models, GoldenRouting,
                         ::testing::Values("mixtral", "qwen3-moe", "gpt-oss", "deepseek-v3",
                                           "jamba"),
                         folder_name);

TEST_P(GoldenRouting, Bf16IsAsGoodWhereTheSameExpertsRun) {
  const SafetensorsFile golden = SafetensorsFile::open(file());
  const ModelFiles model = open_model_files(folder());
  const std::vector<testing::Sequence> input = sequences(golden);
  const Run exact = run(model, input, Precision::kF32);
  const Run rounded = run(model, input, Precision::kBf16);
  const std::vector<float> expected = floats(golden, "logits");
  const std::vector<float> theirs = floats(golden, "logits_bf16_run");
  EXPECT_LE(testing::relative_error(exact.logits, expected), kMostFp32);
  const auto vocabulary = static_cast<ptrdiff_t>(model.graph.vocab_size);
  const auto tokens = static_cast<ptrdiff_t>(expected.size()) / vocabulary;
  std::vector<float> kept_ours, kept_theirs, kept_expected;
  ptrdiff_t other = 0;
  for (ptrdiff_t token = 0; token < tokens; ++token) {
    bool same = true;
    for (const auto& [prefix, experts] : exact.experts) {
      const auto chosen = static_cast<ptrdiff_t>(experts.size()) / tokens;
      const auto begin = experts.begin() + token * chosen;
      same = same &&
             std::equal(begin, begin + chosen, rounded.experts.at(prefix).begin() + token * chosen);
    }
    if (!same) ++other;
    const auto keep = [&](const std::vector<float>& from, std::vector<float>& to) {
      if (!same) return;
      to.insert(to.end(), from.begin() + token * vocabulary,
                from.begin() + (token + 1) * vocabulary);
    };
    keep(rounded.logits, kept_ours);
    keep(theirs, kept_theirs);
    keep(expected, kept_expected);
  }
  RecordProperty("other_experts", std::to_string(other));
  EXPECT_LE(other, tokens / 20) << "of " << tokens << " tokens go to other experts";
  const double ours_error = testing::relative_error(kept_ours, kept_expected);
  const double their_error = testing::relative_error(kept_theirs, kept_expected);
  EXPECT_GT(ours_error, 0.0);
  EXPECT_LE(ours_error, kMostOfTheirs * their_error);
  RecordProperty("ours_over_theirs", std::to_string(ours_error / their_error));
}

}  // namespace
}  // namespace pare
