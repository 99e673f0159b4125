// Options and input that cannot be worked with: a clear error, never a result.
#include <cmath>
#include <filesystem>
#include <limits>

#include "pare/error.h"
#include "tests/eval_speculative/speculative_fixture.h"
#include "tests/support/reference.h"
#include "tests/support/tiny_model.h"

namespace pare::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int kUsage = static_cast<int>(ErrorCode::kUsage);
constexpr int kMissing = static_cast<int>(ErrorCode::kInputMissing);
constexpr int kMalformed = static_cast<int>(ErrorCode::kInputMalformed);

class SpeculativeUsageTest : public SpeculativeTest {
 protected:
  SpeculativeUsageTest() : base_(make_model("base", 1)), wanted_(pair({base_}, {base_})) {}

  void expect_failure(int code, const std::string& part) const {
    const Failure failure = failure_of(wanted_);
    EXPECT_EQ(failure.code, code) << failure.message;
    EXPECT_THAT(failure.message, HasSubstr(part));
  }

  std::string base_;
  SpeculativeOptions wanted_;
};

TEST_F(SpeculativeUsageTest, AModelOfEachKindIsNeeded) {
  wanted_.drafts.clear();
  expect_failure(kUsage, "no draft");
  wanted_ = pair({base_}, {});
  expect_failure(kUsage, "no target");
  wanted_ = pair({path("absent")}, {base_});
  expect_failure(kMissing, path("absent"));
}

TEST_F(SpeculativeUsageTest, NumbersOutsideOfTheirRange) {
  for (const double temperature :
       {0.0, -1.0, 0.001, 1000.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    wanted_.temperature = temperature;
    expect_failure(kUsage, "temperature");
  }
  wanted_.temperature = 1;
  for (const double cost : {-0.1, std::nan(""), std::numeric_limits<double>::infinity()}) {
    wanted_.draft_cost = cost;
    expect_failure(kUsage, "cost");
  }
  wanted_.draft_cost = 0;
  for (const double limit : {-1.0, 1.5, std::nan(""), 1e300}) {
    wanted_.limit = limit;
    expect_failure(kUsage, "limit");
  }
  wanted_.limit = 0;
  for (const int64_t ctx : {-1, 0, 1, 10}) {
    wanted_.ctx = ctx;
    expect_failure(kUsage, "at least 11 tokens");
  }
  wanted_.ctx = 32;
  wanted_.threads = -1;
  expect_failure(kUsage, "threads");
  wanted_.threads = 2;
  wanted_.max_memory = -1;
  expect_failure(kUsage, "memory");
  wanted_.max_memory = 0;
  wanted_.precision = "fp64";
  expect_failure(kUsage, "fp64");
}

TEST_F(SpeculativeUsageTest, TheShortestWindowHasOneStart) {
  wanted_.ctx = 11;
  const SpeculativeReport report = evaluate_speculative(wanted_, {});
  EXPECT_EQ(report.starts, report.windows);
  wanted_.limit = 1;
  EXPECT_EQ(evaluate_speculative(wanted_, {}).starts, 1);
}

TEST_F(SpeculativeUsageTest, TextsThatHoldTooLittle) {
  wanted_.text.clear();
  expect_failure(kUsage, "text");
  wanted_.text = path("absent.txt");
  expect_failure(kMissing, "absent.txt");
  write_file(path("empty.txt"), "");
  wanted_.text = path("empty.txt");
  expect_failure(kMalformed, "empty.txt");
  wanted_.text = make_ids("short.ids", 31, 5);
  expect_failure(kMalformed, "short.ids");
  write_file(path("foreign.ids"), "0 " + std::string(2 * 64, '9'));
  wanted_.text = path("foreign.ids");
  expect_failure(kMalformed, "foreign.ids");
  std::string ids = "4096";
  for (int i = 0; i < 40; ++i) ids += " 7";
  write_file(path("outside.ids"), ids);
  wanted_.text = path("outside.ids");
  expect_failure(kMalformed, "4096");
}

TEST_F(SpeculativeUsageTest, IdsMustFitTheSmallestVocabulary) {
  write_padded_copy(base_, path("padded"), 64);
  std::string ids = "4100";
  for (int i = 0; i < 40; ++i) ids += " 7";
  write_file(path("padding.ids"), ids);
  wanted_ = pair({base_}, {path("padded")});
  wanted_.text = path("padding.ids");
  expect_failure(kMalformed, base_);
}

TEST_F(SpeculativeUsageTest, OtherVocabulariesAreRefusedWithBothSizes) {
  const std::string padded = path("padded");
  write_padded_copy(base_, padded, 64);
  write_file(padded + "/tokenizer.json", read_file(padded + "/tokenizer.json") + " ");
  wanted_ = pair({padded}, {base_});
  EXPECT_EQ(evaluate_speculative(wanted_, {}).pairs.size(), 1U);  // only the layout differs
  edit_file(padded + "/tokenizer.json", "\"version\"", "\"other\"");
  const Failure failure = failure_of(wanted_);
  EXPECT_EQ(failure.code, kMalformed);
  EXPECT_THAT(failure.message,
              AllOf(HasSubstr(padded), HasSubstr(base_), HasSubstr("4160"), HasSubstr("4096")));
  std::filesystem::remove(padded + "/tokenizer.json");
  expect_failure(kMalformed, "no tokenizer.json");
}

TEST_F(SpeculativeUsageTest, AnotherTokenizerOfTheSameSizeIsAWarning) {
  const std::string other = make_model("other", 1);
  edit_file(other + "/tokenizer.json", "\"version\"", "\"other\"");
  std::vector<std::string> warned;
  Callbacks callbacks;
  callbacks.on_warning = [&](const std::string& warning) { warned.push_back(warning); };
  const SpeculativeReport report = evaluate_speculative(pair({other}, {base_}), callbacks);
  ASSERT_EQ(report.warnings.size(), 1U);
  EXPECT_THAT(report.warnings[0], HasSubstr("W-TOKENIZER: " + other));
  EXPECT_EQ(warned, report.warnings);
}

TEST_F(SpeculativeUsageTest, ClampedActivationsAreAWarning) {
  write_int8_checkpoint(base_, path("static.h5"), "{}", /*input_scale=*/1e-3F);
  const SpeculativeReport report = evaluate_speculative(pair({path("static.h5")}, {base_}), {});
  ASSERT_EQ(report.warnings.size(), 1U);
  EXPECT_THAT(report.warnings[0], HasSubstr("W-CLAMP: " + path("static.h5")));
  EXPECT_GT(report.drafts[0].model.clamped_inputs, 0);
}

TEST_F(SpeculativeUsageTest, NumbersThatAreNotFiniteNameTheModel) {
  const std::string broken = make_model("broken", 3);
  poke_tensor(broken + "/model-00002-of-00002.safetensors", "lm_head.weight", 0x7fc0);
  wanted_ = pair({broken}, {base_});
  expect_failure(static_cast<int>(ErrorCode::kNonFinite), broken);
}

TEST_F(SpeculativeUsageTest, ACancelledCallStops) {
  Callbacks callbacks;
  callbacks.cancelled = [] { return true; };
  EXPECT_EQ(failure_of(wanted_, callbacks).code, static_cast<int>(ErrorCode::kInterrupted));
}

TEST_F(SpeculativeUsageTest, ModelsOfDifferentTokenizersAreRefused) {
  const std::string folder = reference_dir() + "/models";
  if (!std::filesystem::exists(folder + "/pico/config.json")) {
    GTEST_SKIP() << folder << " does not hold the reference models";
  }
  wanted_ = pair({folder + "/pico"}, {folder + "/base"});
  expect_failure(kMalformed, "vocabulary of");
}

}  // namespace
}  // namespace pare::testing
