// Mistakes of evaluation that change figures silently: each is a warning, in the report and by
// callback, and none appears without its cause.
#include "core/sha256.h"
#include "tests/eval/eval_fixture.h"
#include "tests/support/tiny_model.h"

namespace pare::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class WarningsTest : public EvalTest {
 protected:
  std::vector<std::string> warnings_of(const EvaluateOptions& wanted) {
    std::vector<std::string> called;
    Callbacks callbacks;
    callbacks.on_warning = [&](const std::string& warning) { called.push_back(warning); };
    report_ = evaluate(wanted, callbacks);
    EXPECT_EQ(called, report_.warnings);
    return called;
  }

  EvaluateReport report_;
};

TEST_F(WarningsTest, NoneWithoutCause) {
  const std::string base = make_model("base", 1);
  write_int8_checkpoint(base, path("int8.h5"),
                        R"({"calibration": {"text_sha256": "another text"}})");
  EXPECT_THAT(warnings_of(options(base, {base, path("int8.h5")})), IsEmpty());
}

TEST_F(WarningsTest, MissingBos) {
  const std::string base = make_model("base", 1);
  EvaluateOptions wanted = options(base, {});
  wanted.text = path("no_bos.ids");
  wanted.ctx = 4;
  write_file(wanted.text, "5 6 7 8 9 10 11 12");
  EXPECT_THAT(warnings_of(wanted), ElementsAre(HasSubstr("W-BOS")));
  EXPECT_THAT(report_.baseline.perplexities.at("perplexity").method,
              HasSubstr("no BOS at the start"));
}

TEST_F(WarningsTest, ABosForEachDocumentIsCounted) {
  const std::string base = make_model("base", 1);
  EvaluateOptions wanted = options(base, {});
  wanted.text = path("documents.ids");
  wanted.ctx = 4;
  write_file(wanted.text, "0 6 7 8\n0 10 11 12\n0 9");
  EXPECT_THAT(warnings_of(wanted), IsEmpty());
  EXPECT_THAT(report_.baseline.perplexities.at("perplexity").method,
              HasSubstr("BOS 2 times"));  // the tail's not
}

TEST_F(WarningsTest, CalibratedOnTheTextItself) {
  const std::string base = make_model("base", 1);
  const std::string hash = sha256_file(ids_);
  write_int8_checkpoint(base, path("int8.h5"),
                        R"({"calibration": {"text_sha256": ")" + hash + R"("}})");
  EXPECT_THAT(warnings_of(options(base, {path("int8.h5")})),
              ElementsAre(AllOf(HasSubstr("W-LEAK"), HasSubstr("int8.h5"))));
}

TEST_F(WarningsTest, WindowsLongerThanTheModelKnows) {
  const std::string base = make_model("base", 1);
  edit_file(base + "/config.json", "\"max_position_embeddings\": 512",
            "\"max_position_embeddings\": 31");
  EXPECT_THAT(warnings_of(options(base, {})),
              ElementsAre(AllOf(HasSubstr("W-CTX"), HasSubstr("31"), HasSubstr("32"))));
}

TEST_F(WarningsTest, AnotherTokenizer) {
  const std::string base = make_model("base", 1);
  const std::string other = make_model("other", 1);
  const std::string json = read_file(other + "/tokenizer.json");
  write_file(other + "/tokenizer.json", json + "\n");  // the same content
  EXPECT_THAT(warnings_of(options(base, {other})), IsEmpty());
  write_file(other + "/tokenizer.json", "{\"another\": true," + json.substr(json.find('{') + 1));
  EXPECT_THAT(warnings_of(options(base, {other})),
              ElementsAre(AllOf(HasSubstr("W-TOKENIZER"), HasSubstr(other), HasSubstr(base))));
}

TEST_F(WarningsTest, InputsBeyondTheirStaticRange) {
  const std::string base = make_model("base", 1);
  write_int8_checkpoint(base, path("narrow.h5"), "{}", 0.001F);
  write_int8_checkpoint(base, path("wide.h5"), "{}", 1.0F);
  EvaluateOptions wanted = options(base, {path("narrow.h5"), path("wide.h5")});
  EXPECT_THAT(warnings_of(wanted), ElementsAre(AllOf(HasSubstr("W-CLAMP"), HasSubstr("narrow"))));
  const std::vector<ModelResult> results = report_.candidates;
  EXPECT_EQ(report_.baseline.quantized_inputs, 0);
  EXPECT_GT(results[0].clamped_inputs, results[0].quantized_inputs / 10);
  EXPECT_EQ(results[1].clamped_inputs, 0);
  EXPECT_EQ(results[0].quantized_inputs, results[1].quantized_inputs);
  wanted.threads = 1;
  warnings_of(wanted);
  EXPECT_EQ(report_.candidates[0].clamped_inputs, results[0].clamped_inputs);
}

TEST_F(WarningsTest, TensorsThatAreNotUsed) {
  const std::string base = make_model("base", 1);
  edit_file(base + "/config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
  EXPECT_THAT(warnings_of(options(base, {})),
              ElementsAre(AllOf(HasSubstr("W-UNUSED"), HasSubstr("9 tensors"))));
  EXPECT_DOUBLE_EQ(report_.baseline.bits_per_weight, 16);
}

}  // namespace
}  // namespace pare::testing
