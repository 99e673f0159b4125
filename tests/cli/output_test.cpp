// Nothing half-written, whatever happens: existing files, full disks, signals, closed pipes.
#include <gmock/gmock.h>

#include <csignal>
#include <filesystem>

#include "tests/cli/cli_fixture.h"

namespace pare::testing {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;

class Output : public TinyModel {
 protected:
  // The demo model takes long enough to be interrupted in the middle.
  Arguments long_job() const {
    return {kDemo + "/model",
            "-o",
            out_,
            "--calib",
            kCalib,
            "--calib_size",
            "96",
            "--calib_seqlen",
            "256",
            "--qformat",
            "int4_awq",
            "--sparsity",
            "sparsegpt",
            "--progress",
            "plain"};
  }

  // Whether a file beside the model, under whatever temporary name, has grown to a megabyte.
  bool writing() const {
    for (const auto& entry : std::filesystem::directory_iterator(dir_.path())) {
      std::error_code vanished;
      if (entry.is_regular_file(vanished) && entry.file_size(vanished) >= 1'000'000 && !vanished) {
        return true;
      }
    }
    return false;
  }

  Arguments folder_names(const Arguments& more = {}) const {
    Arguments names = Arguments{"model"} + more;
    std::sort(names.begin(), names.end());
    return names;
  }
};

TEST_F(Output, ExistingFileIsKeptWithoutForce) {
  write_file(out_, "precious");
  expect_failure(arguments(), 5, {"out.h5", "--force"});
  EXPECT_EQ(read_file(out_), "precious");
  const Finished run = run_program(kQuantize, arguments({"--force"}));
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_NE(read_file(out_), "precious");
  EXPECT_EQ(list_folder(dir_.path()), folder_names({"out.h5"}));
}

TEST_F(Output, ForceKeepsTheOldFileWhenTheRunFails) {
  write_file(out_, "precious");
  poke_tensor(model_ + "/model-00002-of-00002.safetensors", "model.layers.1.mlp.up_proj.weight",
              0x7fc0);
  expect_failure(arguments({"--force"}), 7, {"model.layers.1"});
  EXPECT_EQ(read_file(out_), "precious");
}

TEST_F(Output, FullDisk) {
  // The smallest still lets the program say what happened: its stderr is a file here.
  for (const int64_t limit : {8192, 100000, 900000, 1900000}) {
    SCOPED_TRACE(limit);
    expect_failure(arguments(), 5, {"out.h5"}, {.file_size_limit = limit});
  }
}

TEST_F(Output, FolderThatDoesNotExistOrCannotBeWritten) {
  expect_failure({model_, "-o", "/no/such/folder/out.h5", "--calib", kCalib}, 5,
                 {"/no/such/folder"});
}

TEST_F(Output, FullDiskBehindStdout) {
  const Finished help = run_program(kQuantize, {"--help"}, {.stdout_path = "/dev/full"});
  EXPECT_EQ(help.status, 5);
  EXPECT_THAT(help.err, HasSubstr("standard output"));
}

TEST_F(Output, ClosedStdoutIsQuiet) {
  const Finished run = run_program(kQuantize, arguments({"-q"}), {.close_stdout = true});
  EXPECT_EQ(run.status, 0);
  EXPECT_EQ(run.err, "");
  // What was printed did not land in a file that the program opened.
  EXPECT_THAT(read_file(out_), ::testing::Not(HasSubstr("SHA-256")));
}

TEST_F(Output, ClosedPipeIsQuiet) {
  // The reader is gone before the first byte.
  const Finished run = run_program(
      "/bin/sh", {"-c", "{ sleep 0.3; \"$0\" --help; echo $? >&2; } | true", kQuantize});
  EXPECT_EQ(run.err, "0\n");
}

TEST_F(Output, JsonReportThatCannotBeWrittenIsKnownBeforeTheWork) {
  const Finished run = run_program(
      kAccuracyEval, {"--baseline", model_, "--text", kText, "--json", "/no/such/folder/x.json"});
  EXPECT_EQ(run.status, 5);
  EXPECT_EQ(run.out, "");
  EXPECT_THAT(run.err, ::testing::Not(HasSubstr("%")));
}

TEST_F(Output, KilledWhileWritingLeavesNothingUnderTheFinalName) {
  Program job(kQuantize, long_job());
  ASSERT_TRUE(wait_until([&] { return writing(); }, seconds(60))) << job.err();
  job.send(SIGKILL);
  EXPECT_EQ(job.wait().status, 128 + SIGKILL);
  EXPECT_FALSE(std::filesystem::exists(out_));
  // What is left does not hinder the next run.
  const Finished again = run_program(kQuantize, arguments());
  EXPECT_EQ(again.status, 0) << again.err;
}

TEST_F(Output, InterruptCleansUp) {
  for (const int signal : {SIGINT, SIGTERM}) {
    Program job(kQuantize, long_job());
    ASSERT_TRUE(wait_until([&] { return writing(); }, seconds(60))) << job.err();
    job.send(signal);
    const Finished run = job.wait();
    EXPECT_EQ(run.status, 130);
    EXPECT_EQ(run.out, "");
    ASSERT_EQ(error_lines(run.err).size(), 1U) << run.err;
    EXPECT_THAT(error_lines(run.err)[0], HasSubstr("interrupted; no output was written"));
    EXPECT_EQ(list_folder(dir_.path()), folder_names());
  }
}

TEST_F(Output, InterruptSaysWhatIsKept) {
  const std::string work = dir_ / "work";
  Program job(kQuantize, long_job() + Arguments{"--work-dir", work});
  const auto finished_a_layer = [&] { return std::filesystem::exists(work + "/layer-00000.json"); };
  ASSERT_TRUE(wait_until(finished_a_layer, seconds(120))) << job.err();
  job.send(SIGINT);
  const Finished run = job.wait();
  EXPECT_EQ(run.status, 130);
  ASSERT_EQ(error_lines(run.err).size(), 1U) << run.err;
  EXPECT_THAT(error_lines(run.err)[0],
              ::testing::ContainsRegex("interrupted; .* [1-4] finished layers? (is|are) kept in " +
                                       work + ": go on with --resume"));
}

TEST_F(Output, InterruptedEvaluationLeavesNoReport) {
  Program job(kAccuracyEval, {"--baseline", kDemo + "/model", kDemo + "/model", "--text", kText,
                              "--precision", "fp32", "--json", dir_ / "x.json"});
  ASSERT_TRUE(wait_until([&] { return job.err().find('%') != std::string::npos; }, seconds(60)));
  job.send(SIGINT);
  const Finished run = job.wait();
  EXPECT_EQ(run.status, 130);
  EXPECT_EQ(run.out, "");
  ASSERT_EQ(error_lines(run.err).size(), 1U) << run.err;
  EXPECT_THAT(error_lines(run.err)[0], HasSubstr("interrupted; no report was written"));
  EXPECT_EQ(list_folder(dir_.path()), folder_names());
}

TEST_F(Output, DryRunWritesNothing) {
  const Finished run = run_program(kQuantize, arguments({"--dry-run", "--qformat", "int4_awq"}));
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("model.layers.0.self_attn.q_proj"));
  EXPECT_EQ(list_folder(dir_.path()), folder_names());
}

TEST_F(Output, QuietSaysNothingOnStderr) {
  const Finished run = run_program(kQuantize, arguments({"--quiet"}));
  EXPECT_EQ(run.status, 0);
  EXPECT_EQ(run.err, "");
  EXPECT_THAT(run.out, HasSubstr("SHA-256"));
}

TEST_F(Output, PlainProgressHasNoControlCharacters) {
  const Finished run = run_program(kQuantize, arguments(), {.environment = {{"TERM", "xterm"}}});
  EXPECT_EQ(run.status, 0);
  EXPECT_THAT(run.err, HasSubstr("%"));
  for (const char letter : run.err) {
    EXPECT_TRUE(letter == '\n' || static_cast<unsigned char>(letter) >= 0x20);
  }
}

}  // namespace
}  // namespace pare::testing
