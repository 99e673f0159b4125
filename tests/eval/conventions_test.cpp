// Each convention of perplexity against its definition, token by token.
#include "eval/conventions.h"

#include <cmath>
#include <fstream>
#include <iterator>
#include <map>

#include "pare/error.h"
#include "tests/eval/eval_fixture.h"
#include "tests/eval/plain_model.h"

namespace pare::testing {
namespace {

using ::testing::HasSubstr;

class Conventions : public EvalTest {
 protected:
  Conventions() : base_(make_model("base", 1)) {}

  // −log p of positions [begin, end) of one window.
  double loss(std::vector<int32_t> window, size_t begin, size_t end) const {
    const EvaluatedModel model = open_model(base_);
    const std::vector<float> logits = plain_logits(model, window, Precision::kF32);
    double sum = 0;
    for (size_t i = begin; i < end; ++i) {
      const auto row = std::span(logits).subspan((i - 1) * kTinyVocabulary, kTinyVocabulary);
      sum -= log_softmax(row)[static_cast<size_t>(window[i])];
    }
    return sum;
  }

  std::vector<int32_t> ids() const {
    std::ifstream file(ids_);
    return {std::istream_iterator<int32_t>(file), {}};
  }

  PerplexityResult measure(const std::string& task, int64_t stride = 0) {
    EvaluateOptions wanted = options(base_, {});
    wanted.precision = "fp32";
    wanted.tasks = {task};
    wanted.stride = stride;
    report_ = evaluate(wanted, {});
    return report_.baseline.perplexities.at(task);
  }

  std::vector<int32_t> window(size_t begin, size_t size) const {
    const std::vector<int32_t> all = ids();
    const auto first = all.begin() + static_cast<ptrdiff_t>(begin);
    return {first, first + static_cast<ptrdiff_t>(size)};
  }

  std::string base_;
  EvaluateReport report_;
};

TEST_F(Conventions, LlamaCppScoresSecondHalvesAfterBos) {
  double sum = 0;
  for (size_t chunk = 0; chunk < 12; ++chunk) {
    std::vector<int32_t> tokens = window(32 * chunk, 32);
    tokens[0] = 0;  // BOS
    sum += loss(tokens, 17, 32);
  }
  const PerplexityResult found = measure("perplexity_llama");
  EXPECT_EQ(found.tokens, 12 * 15);
  EXPECT_NEAR(found.ppl.value, std::exp(sum / (12 * 15)), 1e-5 * found.ppl.value);
  EXPECT_THAT(found.method, HasSubstr("each chunk's first token replaced by BOS"));
  EXPECT_THAT(found.method, HasSubstr("positions 17…31 scored"));
  EXPECT_EQ(report_.tasks[0].name, "perplexity_llama");
}

TEST_F(Conventions, LlamaCppLeavesTokensAloneWithoutBos) {
  std::vector<int32_t> tokens = ids();
  std::string text;
  for (size_t i = 1; i <= 64; ++i) text += std::to_string(tokens[i]) + " ";
  write_file(ids_, text);
  const PerplexityResult found = measure("perplexity_llama");
  const double sum = loss(window(0, 32), 17, 32) + loss(window(32, 32), 17, 32);
  EXPECT_NEAR(found.ppl.value, std::exp(sum / 30), 1e-5 * found.ppl.value);
  EXPECT_THAT(found.method, HasSubstr("no BOS"));
}

// 389 tokens: windows at 0, 12, 24 … until one reaches the end, the last one shorter.
TEST_F(Conventions, StridedScoresEveryTokenOnce) {
  for (const size_t stride : {size_t{12}, size_t{32}, size_t{31}}) {
    SCOPED_TRACE(stride);
    double sum = 0;
    size_t scored = 1;
    int64_t tokens = 0;
    for (size_t begin = 0; scored < 389; begin += stride) {
      const size_t end = std::min<size_t>(begin + 32, 389);
      scored = std::max(scored, begin + 1);
      tokens += static_cast<int64_t>(end - scored);
      sum += loss(window(begin, end - begin), scored - begin, end - begin);
      scored = end;
    }
    const PerplexityResult found = measure("perplexity_strided", static_cast<int64_t>(stride));
    EXPECT_EQ(found.tokens, tokens);
    EXPECT_EQ(tokens, stride == 32 ? 376 : 388);  // all but the first, or that of each window
    EXPECT_NEAR(found.ppl.value, std::exp(sum / static_cast<double>(tokens)),
                1e-5 * found.ppl.value);
    EXPECT_EQ(report_.tasks[0].stride, static_cast<int64_t>(stride));
  }
}

// Windows that overlap are one cluster: as many as it takes until the first context is gone.
TEST_F(Conventions, OverlappingWindowsAreNotIndependent) {
  EvaluateOptions wanted = options(base_, {});
  wanted.stride = 8;
  const EvaluatedModel model = open_model(base_);
  EXPECT_EQ(read_perplexity_text("perplexity_strided", wanted, model).scored.windows_per_cluster,
            4);
  EXPECT_EQ(read_perplexity_text("perplexity", wanted, model).scored.windows_per_cluster, 1);
}

TEST_F(Conventions, AStrideOfTheWholeWindowScoresTheTailToo) {
  EXPECT_EQ(measure("perplexity_strided", 32).tokens, measure("perplexity").tokens + 4);
  // A tail of one token has nothing to be predicted from.
  ids_ = make_ids("odd.ids", 32 * 3 + 1, 5);
  const PerplexityResult found = measure("perplexity_strided", 32);
  EXPECT_EQ(found.windows, 3);
  EXPECT_EQ(found.ppl.value, measure("perplexity").ppl.value);
}

TEST_F(Conventions, GptqJoinsRowsByBlankLines) {
  write_file(path("wiki.txt"), " = Title = \n \n\nOne row .\nAnother\n");
  write_file(path("joined.txt"), " = Title = \n\n\n\n\n\n\nOne row .\n\n\nAnother\n");
  const EvaluatedModel model = open_model(base_);
  EvaluateOptions wanted = options(base_, {});
  wanted.ctx = 8;
  wanted.text = path("wiki.txt");
  const PerplexityText rows = read_perplexity_text("perplexity_gptq", wanted, model);
  wanted.text = path("joined.txt");
  const PerplexityText plain = read_perplexity_text("perplexity", wanted, model);
  EXPECT_EQ(rows.scored.windows.ids, plain.scored.windows.ids);
  EXPECT_EQ(rows.text_tokens, plain.text_tokens);
  EXPECT_THAT(rows.method, HasSubstr("rows joined by two line ends: ctx 8"));
  // The same rows as JSON lines.
  write_file(path("wiki.jsonl"),
             "{\"text\": \" = Title = \\n\"}\n{\"text\": \" \\n\"}\n{\"text\": \"\"}\n"
             "{\"text\": \"One row .\\n\"}\n{\"text\": \"Another\\n\"}\n");
  wanted.text = path("wiki.jsonl");
  EXPECT_EQ(read_perplexity_text("perplexity_gptq", wanted, model).scored.windows.ids,
            plain.scored.windows.ids);
  wanted.ctx = 0;
  EXPECT_THAT(failure_of([&] {
                EvaluateOptions all = wanted;
                all.tasks = {"perplexity_gptq"};
                return all;
              }())
                  .message,
              HasSubstr("1 windows of 2048"));
}

TEST_F(Conventions, TextThatIsTooShortIsRefused) {
  write_file(path("short.ids"), "0 5 6 7 8 9");
  for (const char* task :
       {"perplexity", "perplexity_gptq", "perplexity_llama", "perplexity_strided"}) {
    EvaluateOptions wanted = options(base_, {});
    wanted.tasks = {task};
    wanted.text = path("short.ids");
    const Failure failure = failure_of(wanted);
    EXPECT_EQ(failure.code, static_cast<int>(ErrorCode::kInputMalformed)) << task;
    EXPECT_THAT(failure.message, HasSubstr("short.ids")) << task;
    EXPECT_THAT(failure.message, HasSubstr("holds 6 tokens")) << task;
  }
}

TEST_F(Conventions, StridesAndWindowsThatScoreNothingAreRefused) {
  EvaluateOptions wanted = options(base_, {});
  wanted.tasks = {"perplexity_strided"};
  wanted.stride = 33;
  EXPECT_THAT(failure_of(wanted).message, HasSubstr("unscored"));
  wanted.stride = -1;
  EXPECT_EQ(failure_of(wanted).code, static_cast<int>(ErrorCode::kUsage));
  wanted.stride = 0;
  wanted.tasks = {"perplexity_llama"};
  wanted.ctx = 2;
  EXPECT_EQ(failure_of(wanted).code, static_cast<int>(ErrorCode::kUsage));
}

TEST_F(Conventions, SeveralInOneRun) {
  EvaluateOptions wanted = options(base_, {base_});
  wanted.tasks = {"perplexity_llama", "perplexity", "perplexity_strided"};
  const EvaluateReport report = evaluate(wanted, {});
  ASSERT_EQ(report.tasks.size(), 3U);
  EXPECT_EQ(report.tasks[0].name, "perplexity_llama");
  EXPECT_EQ(report.candidates[0].perplexities.size(), 3U);
  for (const auto& [task, result] : report.candidates[0].perplexities) {
    EXPECT_EQ(result.ratio.value, 1) << task;
    EXPECT_EQ(result.ppl.value, report.baseline.perplexities.at(task).ppl.value);
  }
  wanted.tasks = {"perplexity", "perplexity"};
  EXPECT_EQ(failure_of(wanted).code, static_cast<int>(ErrorCode::kUsage));
}

}  // namespace
}  // namespace pare::testing
