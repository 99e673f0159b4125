// In models of every architecture: the logits of a sequence do not depend on what runs beside it,
// in which order, or on how many threads.
#include <gtest/gtest.h>

#include "tests/model/every_model.h"

namespace pare {
namespace {

using testing::kModelSeed;
using testing::Sequence;

class BatchIndependence : public testing::EveryModel {
 protected:
  using Logits = std::vector<std::vector<float>>;

  Logits run(const std::vector<Sequence>& sequences, Precision precision, int64_t threads = 1) {
    return testing::run_sequences(graph_, source_, sequences, precision, {.threads = threads});
  }

  // Products in FP32 are summed by the number of rows that run together, which for experts are the
  // tokens of all sequences.
  static void expect_same(const std::vector<float>& found, const std::vector<float>& expected,
                          Precision precision) {
    if (precision == Precision::kBf16) {
      EXPECT_EQ(found, expected);
    } else {
      ASSERT_EQ(found.size(), expected.size());
      EXPECT_LT(testing::relative_error(found, expected), 2e-6);
    }
  }

  const std::vector<Sequence> sequences_ =
      testing::random_sequences(graph_, {17, 1, 30, 6, 30}, kModelSeed);
};
INSTANTIATE_TEST_SUITE_P(Models, BatchIndependence, ::testing::ValuesIn(testing::model_configs()),
                         testing::name_of);

TEST_P(BatchIndependence, OfOtherSequencesAndTheirOrder) {
  for (const Precision precision : {Precision::kBf16, Precision::kF32}) {
    const Logits together = run(sequences_, precision);
    const std::vector<Sequence> backwards(sequences_.rbegin(), sequences_.rend());
    const Logits reversed = run(backwards, precision);
    for (size_t i = 0; i < sequences_.size(); ++i) {
      SCOPED_TRACE("sequence " + std::to_string(i) + ", seed " + std::to_string(kModelSeed));
      expect_same(run({sequences_[i]}, precision)[0], together[i], precision);
      expect_same(reversed[sequences_.size() - 1 - i], together[i], precision);
    }
    EXPECT_NE(together[2], together[4]) << "different tokens gave the same logits";
  }
}

TEST_P(BatchIndependence, OfThreads) {
  for (const Precision precision : {Precision::kBf16, Precision::kF32}) {
    EXPECT_EQ(run(sequences_, precision, 3), run(sequences_, precision, 1))
        << "seed " << kModelSeed;
  }
}

// A sequence that is cut short has the logits of its beginning: nothing looks ahead.
TEST_P(BatchIndependence, OfLaterTokens) {
  if (testing::rotates_by_length(graph_))
    GTEST_SKIP() << "rotation depends on the length of the sequence";
  std::vector<Sequence> cut = {sequences_[2]};
  const std::vector<float> whole = run(cut, Precision::kBf16)[0];
  cut[0].ids.resize(11);
  const std::vector<float> part = run(cut, Precision::kBf16)[0];
  EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin())) << "seed " << kModelSeed;
}

}  // namespace
}  // namespace pare
