// Comparison with a reference's logits, and the one reference that is known to do something else.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "eval/evaluated_model.h"
#include "formats/safetensors_writer.h"
#include "pare/error.h"
#include "tests/eval/any_model.h"
#include "tests/eval/eval_fixture.h"
#include "tests/eval/plain_model.h"
#include "tests/support/reference.h"

namespace pare::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kNote = "reference adds ALiBi twice, as transformers' eager attention does";

class VerifyTest : public EvalTest {
 protected:
  // A golden file of what a model's graph, changed by `change`, makes of some tokens.
  template <typename Change>
  std::string golden_of(const std::string& model_path, const Change& change) {
    EvaluatedModel model = open_model(model_path);
    change(model.graph);
    constexpr int64_t kBatch = 2;
    constexpr int64_t kLength = 11;
    std::vector<int64_t> ids;
    std::vector<int64_t> sources;
    std::vector<float> logits;
    for (int64_t window = 0; window < kBatch; ++window) {
      std::vector<int32_t> row;
      std::vector<int32_t> source;
      for (int64_t i = 0; i < kLength; ++i) row.push_back(static_cast<int32_t>((5 + i * 17) % 90));
      row[0] = static_cast<int32_t>(window);
      for (int64_t i = 0; i < 7; ++i)
        source.push_back(static_cast<int32_t>((window + i * 13) % 90));
      ids.insert(ids.end(), row.begin(), row.end());
      sources.insert(sources.end(), source.begin(), source.end());
      const std::vector<float> made = plain_logits(
          model, row, Precision::kF32,
          model.graph.encoder ? std::span<const int32_t>(source) : std::span<const int32_t>());
      logits.insert(logits.end(), made.begin(), made.end());
    }
    const auto view = [](DType dtype, Shape shape, const auto& values) {
      return TensorView{dtype, std::move(shape), std::as_bytes(std::span(values))};
    };
    std::map<std::string, TensorView> tensors = {
        {"logits", view(DType::kF32, {kBatch, kLength, model.graph.vocab_size}, logits)}};
    if (model.graph.encoder) {
      tensors["input_ids"] = view(DType::kI64, {kBatch, 7}, sources);
      tensors["decoder_input_ids"] = view(DType::kI64, {kBatch, kLength}, ids);
    } else {
      tensors["input_ids"] = view(DType::kI64, {kBatch, kLength}, ids);
    }
    write_safetensors(path("golden.safetensors"), tensors, {}, /*force=*/true);
    return path("golden.safetensors");
  }

  std::string make(const std::string& config) {
    write_any_model(path(config), any_config(config), 3);
    return path(config);
  }
};

void scale_alibi(ModelGraph& graph, float factor) {
  for (BlockGraph& block : graph.blocks) {
    for (AttentionSpec& attention : block.attentions) attention.alibi.scale *= factor;
  }
}

TEST_F(VerifyTest, ModelsOfManyFormsAgreeWithAPlainRun) {
  for (const char* config : {"TFive", "Bart", "MBart", "Fsmt", "Mixtral", "MambaTwo", "MptClipped",
                             "BloomAfterNorm", "FalconAlibi"}) {
    const std::string model = make(config);
    const std::string golden = golden_of(model, [](ModelGraph&) {});
    const VerifyReport report = verify(golden, model, "fp32", 2, {});
    EXPECT_LE(report.rel_l2, 2e-6) << config;
    EXPECT_EQ(report.positions, 22);
    EXPECT_THAT(report.note, IsEmpty()) << config;
    EXPECT_FALSE(nlohmann::json::parse(to_json(report)).contains("note"));
    EXPECT_EQ(to_json(verify(golden, model, "fp32", 1, {})), to_json(report));
  }
}

TEST_F(VerifyTest, ALinearBiasThatTheReferenceAddsTwiceIsNamed) {
  const std::string model = make("FalconAlibi");
  const std::string twice = golden_of(model, [](ModelGraph& graph) { scale_alibi(graph, 2); });
  for (const std::string precision : {"fp32", "bf16"}) {
    const VerifyReport report = verify(twice, model, precision, 2, {});
    EXPECT_LE(report.rel_l2, precision == "fp32" ? 2e-6 : 0.05);
    EXPECT_EQ(report.note, kNote);
    EXPECT_EQ(nlohmann::json::parse(to_json(report)).at("note"), kNote);
  }
}

// Rounding must not decide which expert gets a token: where there are some, and nowhere else, BF16
// is as good as pairs of numbers.
TEST_F(VerifyTest, ModelsWithExpertsRunInPairs) {
  for (const char* config :
       {"Mixtral", "DeepSeek", "GptOss", "Jamba", "QwenThreeMoe", "GemmaTwo"}) {
    const std::string model = make(config);
    const std::string golden = golden_of(model, [](ModelGraph&) {});
    const double error = verify(golden, model, "bf16", 2, {}).rel_l2;
    if (config == std::string("GemmaTwo")) {
      EXPECT_GT(error, 1e-3) << config;
    } else {
      EXPECT_LE(error, 2e-4) << config;
      EXPECT_GT(error, 1e-7) << config;
    }
  }
}

TEST_F(VerifyTest, OtherErrorsAreNotExcused) {
  const std::string model = make("FalconAlibi");
  // Biases that are missing are further from twice than from once.
  const std::string none = golden_of(model, [](ModelGraph& graph) { scale_alibi(graph, 0); });
  const VerifyReport report = verify(none, model, "fp32", 2, {});
  EXPECT_GT(report.rel_l2, 1e-3);
  EXPECT_THAT(report.note, IsEmpty());
  // MPT's and BLOOM's biases are nobody's question.
  const std::string bloom = make("BloomAfterNorm");
  const std::string doubled = golden_of(bloom, [](ModelGraph& graph) { scale_alibi(graph, 2); });
  const VerifyReport other = verify(doubled, bloom, "fp32", 2, {});
  EXPECT_GT(other.rel_l2, 1e-3);
  EXPECT_THAT(other.note, IsEmpty());
}

TEST_F(VerifyTest, TransformersFalcon) {
  const std::string folder = reference_dir() + "/golden/";
  if (!std::filesystem::exists(folder))
    GTEST_SKIP() << "the reference data is not here: " << folder;
  const std::string rw = folder + "falcon-rw-alibi";
  const VerifyReport report = verify(rw + "/golden.safetensors", rw, "fp32", 2, {});
  EXPECT_LE(report.rel_l2, 2e-5);
  EXPECT_EQ(report.argmax_agreement, 1.0);
  EXPECT_EQ(report.note, kNote);
  EXPECT_EQ(verify(rw + "/golden.safetensors", rw, "bf16", 2, {}).note, kNote);
  const std::string rotary = folder + "falcon-7b-mqa";
  const VerifyReport plain = verify(rotary + "/golden.safetensors", rotary, "fp32", 2, {});
  EXPECT_LE(plain.rel_l2, 2e-5);
  EXPECT_THAT(plain.note, IsEmpty());
}

TEST_F(VerifyTest, AGoldenFileWithoutWhatTheDecoderReads) {
  const std::string golden = golden_of(make("Mixtral"), [](ModelGraph&) {});
  try {
    verify(golden, make("TFive"), "fp32", 1, {});
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInputMalformed);
    EXPECT_THAT(error.what(), HasSubstr("decoder_input_ids"));
  }
}

}  // namespace
}  // namespace pare::testing
