// A Llama in GGUF, run by a forward pass that shares no code with pare: what llama.cpp computes
// with rotary pairs of neighbours and rows of q and k in that order.
#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "formats/weight_source.h"
#include "pare/evaluate.h"
#include "pare/quantize.h"
#include "tests/engines/gguf_fixture.h"
#include "tests/support/program.h"
#include "tests/support/python.h"
#include "tests/support/reference.h"
#include "tokenizer/open_tokenizer.h"

namespace pare::testing {
namespace {

constexpr int64_t kWindow = 512;
constexpr int64_t kWindows = 4;

class GgufForward : public ::testing::Test {
 protected:
  void SetUp() override {
    model_ = reference_dir() + "/models/base";
    text_ = reference_dir() + "/data/wikitext2/wiki.test.raw";
    if (!std::filesystem::exists(model_) || !std::filesystem::exists(text_)) {
      GTEST_SKIP() << reference_dir();
    }
    python_ = find_python(PARE_PYTHON);
    if (python_.empty()) GTEST_SKIP() << "no python3 here can import numpy";
    // The first tokens of WikiText-2's test split, BOS in front.
    const auto source = open_weight_source(model_);
    const std::string text = read_file(text_).substr(0, 40000);
    std::vector<int32_t> ids = open_tokenizer(source->text_files(), model_).encode(text, true);
    ASSERT_GE(ids.size(), static_cast<size_t>(kWindow * kWindows));
    std::ofstream file(folder_ / "text.ids");
    for (size_t i = 0; i < static_cast<size_t>(kWindow * kWindows); ++i) file << ids[i] << ' ';
  }

  std::string exported(const std::string& checkpoint, const std::string& name) const {
    return export_as_gguf(checkpoint, folder_ / name).output;
  }

  double measured(const std::string& model) const {
    EvaluateOptions options;
    options.baseline = model;
    options.candidates = {model};
    options.text = folder_ / "text.ids";
    options.ctx = kWindow;
    return evaluate(options, {}).baseline.perplexities.at("perplexity").ppl.value;
  }

  double computed(const std::string& folder) const {
    const std::string reader = PARE_SOURCE_DIR "/tests/engines/gguf_reader.py";
    const Finished done =
        run_program(python_, {reader, "perplexity", folder + "/model.gguf", folder_ / "text.ids",
                              std::to_string(kWindow), std::to_string(kWindows)});
    EXPECT_EQ(done.status, 0) << done.err;
    return std::stod(done.out);
  }

  TempDir folder_;
  std::string model_;
  std::string text_;
  std::string python_;
};

TEST_F(GgufForward, TheOriginalModelHasThePerplexityThatPareMeasures) {
  const double expected = measured(model_);
  const double found = computed(exported(model_, "bf16"));
  RecordProperty("measured", std::to_string(expected));
  RecordProperty("computed", std::to_string(found));
  EXPECT_NEAR(found / expected, 1, 0.002) << found << " and " << expected;
}

TEST_F(GgufForward, SoDoesAnInt4Model) {
  QuantizeOptions options;
  options.model = model_;
  options.output = folder_ / "int4.h5";
  options.qformat = "int4_wo";
  quantize(options, {});
  const std::string folder = exported(options.output, "int4");
  const double found = computed(folder);
  const double expected = measured(folder);
  EXPECT_NEAR(found / expected, 1, 0.002) << found << " and " << expected;
  // F16 scales change next to nothing.
  EXPECT_NEAR(expected / measured(options.output), 1, 0.002);
}

}  // namespace
}  // namespace pare::testing
