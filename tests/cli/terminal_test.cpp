// Colours and the live line, on a terminal of the test's own.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <unistd.h>

#include <cstdlib>

#include "tests/cli/cli_fixture.h"

namespace pare::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class Terminal : public TinyModel {
 protected:
  void SetUp() override {
    TinyModel::SetUp();
    master_ = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (master_ < 0 || grantpt(master_) != 0 || unlockpt(master_) != 0) {
      GTEST_SKIP() << "no pseudo-terminal can be opened";
    }
    // Held open, so that the other end can be read after the program has ended.
    slave_ = open(ptsname(master_), O_RDWR | O_NOCTTY | O_CLOEXEC);
    ASSERT_GE(slave_, 0);
  }

  void TearDown() override {
    if (slave_ >= 0) close(slave_);
    if (master_ >= 0) close(master_);
  }

  // What a program writes to stderr, which is the terminal; `variables` are env's words.
  std::string stderr_of(const Arguments& variables, const Arguments& program) {
    const Finished run = run_program(
        "/bin/sh", Arguments{"-c", "exec env \"$@\" 2>\"$0\"", ptsname(master_), "-u", "NO_COLOR"} +
                       variables + program);
    std::string text;
    pollfd ready{master_, POLLIN, 0};
    std::vector<char> buffer(4096);
    while (poll(&ready, 1, 100) == 1 && (ready.revents & POLLIN) != 0) {
      const ssize_t size = read(master_, buffer.data(), buffer.size());
      if (size <= 0) break;
      text.append(buffer.data(), static_cast<size_t>(size));
    }
    return text;
  }

  int master_ = -1;
  int slave_ = -1;
};

TEST_F(Terminal, ErrorsAreColouredUnlessTheEnvironmentSaysNo) {
  for (const std::string& program : {kQuantize, kAccuracyEval}) {
    const Arguments failing = {program, "--qzwxy"};
    const char* coloured = "\x1b[1;31merror:\x1b[0m";
    EXPECT_THAT(stderr_of({"TERM=xterm"}, failing), HasSubstr(coloured));
    EXPECT_THAT(stderr_of({"TERM=xterm", "NO_COLOR="}, failing), HasSubstr(coloured));
    for (const Arguments& plain :
         {Arguments{"TERM=xterm", "NO_COLOR=1"}, Arguments{"TERM=dumb"}, Arguments{"-u", "TERM"}}) {
      const std::string text = stderr_of(plain, failing);
      EXPECT_THAT(text, HasSubstr("error: unknown option --qzwxy")) << plain[0];
      EXPECT_THAT(text, Not(HasSubstr("\x1b"))) << plain[0];
    }
  }
}

TEST_F(Terminal, ProgressIsALiveLineUnlessTheTerminalIsDumb) {
  const Arguments job = Arguments{kQuantize} + arguments({"--dry-run", "--qformat", "int4_awq"});
  EXPECT_THAT(stderr_of({"TERM=xterm"}, job), HasSubstr("\r\x1b[K"));
  for (const Arguments& plain : {Arguments{"TERM=dumb"}, Arguments{"-u", "TERM"}}) {
    const std::string text = stderr_of(plain, job);
    EXPECT_THAT(text, HasSubstr("quantize: "));
    EXPECT_THAT(text, HasSubstr("%"));
    EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  }
}

}  // namespace
}  // namespace pare::testing
