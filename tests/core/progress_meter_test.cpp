#include "core/progress_meter.h"

#include <gtest/gtest.h>

#include <vector>

#include "pare/error.h"

namespace pare {
namespace {

class ProgressMeterTest : public testing::Test {
 protected:
  ProgressMeterTest() {
    callbacks_.on_progress = [this](const Progress& progress) { seen_.push_back(progress); };
  }
  Callbacks callbacks_;
  std::vector<Progress> seen_;
};

TEST_F(ProgressMeterTest, NewPhasesAndTheEndAreReportedAtOnce) {
  ProgressMeter meter(callbacks_, 4);
  meter.phase("read", "a");
  meter.advance(1);
  meter.phase("write", "b");
  meter.advance(3);
  ASSERT_EQ(seen_.size(), 3U);
  EXPECT_EQ(seen_[0].phase, "read");
  EXPECT_EQ(seen_[0].done, 0);
  EXPECT_LT(seen_[0].seconds_left, 0);
  EXPECT_EQ(seen_[1].detail, "b");
  EXPECT_EQ(seen_[1].done, 0.25);
  EXPECT_EQ(seen_[2].done, 1);
  EXPECT_EQ(seen_[2].seconds_left, 0);
}

TEST_F(ProgressMeterTest, ManySmallStepsAreFewReports) {
  ProgressMeter meter(callbacks_, 1e6);
  meter.phase("work", "");
  for (int i = 0; i < 1000; ++i) meter.advance(1);
  // A thousand additions take far less than the seconds that so many reports would need.
  EXPECT_LT(seen_.size(), 20U);
}

TEST_F(ProgressMeterTest, ALargerTotalDoesNotMoveTheShareBack) {
  ProgressMeter meter(callbacks_, 2);
  meter.phase("a", "");
  meter.advance(1);
  meter.phase("b", "");
  meter.set_total(10);
  meter.phase("c", "");
  meter.advance(9);
  ASSERT_EQ(seen_.size(), 4U);
  EXPECT_EQ(seen_[1].done, 0.5);
  EXPECT_EQ(seen_[2].done, 0.5);
  EXPECT_EQ(seen_[3].done, 1);
}

TEST_F(ProgressMeterTest, PartsShareTheBar) {
  ProgressMeter meter(callbacks_, 0);
  meter.begin_part(0, 2);
  meter.set_total(4);
  meter.phase("a", "");
  meter.advance(4);
  meter.phase("b", "");
  EXPECT_EQ(seen_.back().done, 0.5);
  EXPECT_NE(seen_.back().seconds_left, 0);
  meter.begin_part(1, 2);
  meter.phase("c", "");
  EXPECT_EQ(seen_.back().done, 0.5);
  meter.set_total(1000);
  meter.advance(500);
  meter.phase("d", "");
  EXPECT_EQ(seen_.back().done, 0.75);
  meter.advance(500);
  EXPECT_EQ(seen_.back().done, 1);
  EXPECT_EQ(seen_.back().seconds_left, 0);
}

TEST_F(ProgressMeterTest, CancellationThrows) {
  bool cancel = false;
  callbacks_.cancelled = [&] { return cancel; };
  const ProgressMeter meter(callbacks_, 1);
  EXPECT_FALSE(meter.cancelled());
  EXPECT_NO_THROW(meter.check_cancelled());
  cancel = true;
  EXPECT_TRUE(meter.cancelled());
  try {
    meter.check_cancelled();
    FAIL() << "did not throw";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInterrupted);
  }
}

TEST(ProgressMeter, NeedsNoCallbacks) {
  const Callbacks callbacks;
  ProgressMeter meter(callbacks, 0);
  meter.phase("read", "");
  meter.advance(1);
  meter.warn("nobody listens");
  EXPECT_FALSE(meter.cancelled());
}

}  // namespace
}  // namespace pare
