// Jobs through the C interface: statuses, messages, callbacks, and that nothing gets out but those.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <thread>

#include "pare/error.h"
#include "pare/pare.h"
#include "pare/version.h"
#include "tests/support/program.h"
#include "tests/support/tiny_model.h"

namespace pare::testing {
namespace {

using ::testing::HasSubstr;

const std::string kDemo = PARE_SOURCE_DIR "/demo";

struct FreeJob {
  void operator()(pare_job* job) const { pare_job_free(job); }
};
using Job = std::unique_ptr<pare_job, FreeJob>;

Job new_job(const char* kind) {
  pare_job* job = nullptr;
  EXPECT_EQ(pare_job_new(kind, &job), PARE_OK);
  return Job(job);
}

void set(const Job& job, const std::string& option, const std::string& value) {
  EXPECT_EQ(pare_job_set(job.get(), option.c_str(), value.c_str()), PARE_OK) << pare_last_error();
}

class CInterface : public ::testing::Test {
 protected:
  void SetUp() override { write_tiny_llama(model_, kDemo + "/model/tokenizer.json", 23); }

  Job quantize_job() const {
    Job job = new_job("quantize");
    set(job, "model", model_);
    set(job, "output", out_);
    set(job, "qformat", "int4_wo");
    set(job, "awq_block_size", "32");
    return job;
  }

  TempDir dir_;
  std::string model_ = dir_ / "model";
  std::string out_ = dir_ / "out.h5";
};

TEST_F(CInterface, QuantizesEvaluatesAndExports) {
  const Job quantize = quantize_job();
  EXPECT_STREQ(pare_job_report(quantize.get()), "");
  ASSERT_EQ(pare_job_run(quantize.get()), PARE_OK) << pare_last_error();
  const auto report = nlohmann::json::parse(pare_job_report(quantize.get()));
  EXPECT_EQ(report["schema"], "pare.quantize/1");
  EXPECT_EQ(report["layers"][0]["qformat"], "int4_wo");

  const Job evaluate = new_job("evaluate");
  set(evaluate, "baseline", model_);
  set(evaluate, "candidates", out_);
  set(evaluate, "text", kDemo + "/eval.txt");
  set(evaluate, "ctx", "64");
  set(evaluate, "limit", "4");
  ASSERT_EQ(pare_job_run(evaluate.get()), PARE_OK) << pare_last_error();
  const auto found = nlohmann::json::parse(pare_job_report(evaluate.get()));
  EXPECT_EQ(found["schema"], "pare.eval/1");
  EXPECT_GT(found["candidates"][0]["tasks"]["perplexity"]["kl_mean"], 0);
  // The gate fails, the report is there all the same.
  set(evaluate, "max_kl", "0");
  EXPECT_EQ(pare_job_run(evaluate.get()), PARE_GATE_FAILED);
  EXPECT_THAT(pare_last_error(), HasSubstr("max_kl"));
  EXPECT_EQ(nlohmann::json::parse(pare_job_report(evaluate.get()))["schema"], "pare.eval/1");

  const Job exporting = new_job("export");
  set(exporting, "checkpoint", out_);
  set(exporting, "format", "dense");
  set(exporting, "output", dir_ / "exported");
  ASSERT_EQ(pare_job_run(exporting.get()), PARE_OK) << pare_last_error();
  EXPECT_EQ(nlohmann::json::parse(pare_job_report(exporting.get()))["schema"], "pare.export/1");
  EXPECT_TRUE(std::filesystem::exists(dir_ / "exported/config.json"));
}

TEST_F(CInterface, FindsAFormatForEachLayer) {
  const Job mixed = new_job("mixed");
  set(mixed, "model", model_);
  set(mixed, "output", out_);
  set(mixed, "calibration", kDemo + "/calib.jsonl");
  set(mixed, "calibration_size", "4");
  set(mixed, "calibration_seqlen", "64");
  set(mixed, "target_bits", "7");
  set(mixed, "verify_windows", "2");
  set(mixed, "awq_block_size", "32");
  EXPECT_EQ(pare_job_run(mixed.get()), PARE_USAGE);
  EXPECT_THAT(pare_last_error(), HasSubstr("\"formats\" is not set"));
  set(mixed, "formats", "fp8");
  set(mixed, "formats", "int4_awq");
  ASSERT_EQ(pare_job_run(mixed.get()), PARE_OK) << pare_last_error();
  const auto report = nlohmann::json::parse(pare_job_report(mixed.get()));
  EXPECT_EQ(report["schema"], "pare.mixed/1");
  EXPECT_LE(report["bits"], 7);
  EXPECT_TRUE(std::filesystem::exists(out_));
}

TEST_F(CInterface, FailuresAreStatusesWithMessages) {
  const Job job = quantize_job();
  set(job, "model", dir_ / "nothing");
  EXPECT_EQ(pare_job_run(job.get()), PARE_INPUT_MISSING);
  EXPECT_THAT(pare_last_error(), HasSubstr("nothing"));
  EXPECT_STREQ(pare_job_report(job.get()), "");
  set(job, "model", model_);
  set(job, "qformat", "int5");
  EXPECT_EQ(pare_job_run(job.get()), PARE_USAGE);
  EXPECT_THAT(pare_last_error(), HasSubstr("int5"));
  set(job, "qformat", "int4_wo");
  write_file(out_, "in the way");
  EXPECT_EQ(pare_job_run(job.get()), PARE_WRITE_FAILED);
  EXPECT_EQ(read_file(out_), "in the way");
  set(job, "force", "true");
  EXPECT_EQ(pare_job_run(job.get()), PARE_OK) << pare_last_error();
  // The message is that of the last failure, and of this thread.
  EXPECT_THAT(pare_last_error(), HasSubstr("out.h5"));
  std::string other = "unset";
  std::thread([&] { other = pare_last_error(); }).join();
  EXPECT_EQ(other, "");
}

TEST_F(CInterface, MissingOptionsAreUsageErrors) {
  for (const auto& [kind, option] : std::vector<std::pair<const char*, const char*>>{
           {"quantize", "model"}, {"evaluate", "baseline"}, {"export", "checkpoint"}}) {
    const Job job = new_job(kind);
    EXPECT_EQ(pare_job_run(job.get()), PARE_USAGE) << kind;
    EXPECT_THAT(pare_last_error(), HasSubstr("\"" + std::string(option) + "\" is not set"));
  }
}

TEST_F(CInterface, JobsInTwoThreadsDoNotMeet) {
  const Job alone = quantize_job();
  ASSERT_EQ(pare_job_run(alone.get()), PARE_OK) << pare_last_error();
  const std::string expected = read_file(out_);
  std::vector<std::string> outputs;
  std::vector<std::string> errors(2);
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) outputs.push_back(dir_ / ("thread" + std::to_string(i) + ".h5"));
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&, i] {
      const Job job = quantize_job();
      set(job, "output", outputs[i]);
      EXPECT_EQ(pare_job_run(job.get()), PARE_OK) << pare_last_error();
      EXPECT_EQ(pare_job_run(job.get()), PARE_WRITE_FAILED) << "it exists by now";
      errors[i] = pare_last_error();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(read_file(outputs[i]), expected);
    EXPECT_THAT(errors[i], HasSubstr(outputs[i]));
  }
}

struct Seen {
  int progress = 0;
  double done = 0;
  int warnings = 0;
  int polls = 0;
  int stop_at = 1 << 30;
};

TEST_F(CInterface, CallbacksSeeProgressAndStop) {
  Seen seen;
  const auto on_progress = [](void* user, const char* phase, const char* detail, double done,
                              double /*seconds_left*/) {
    auto* at = static_cast<Seen*>(user);
    EXPECT_STRNE(phase, "");
    EXPECT_NE(detail, nullptr);
    EXPECT_GE(done, at->done);
    at->done = done;
    ++at->progress;
  };
  const auto cancelled = [](void* user) {
    auto* at = static_cast<Seen*>(user);
    return ++at->polls >= at->stop_at ? 7 : 0;
  };
  const Job job = quantize_job();
  EXPECT_EQ(pare_job_on_progress(job.get(), on_progress, &seen), PARE_OK);
  EXPECT_EQ(pare_job_on_cancelled(job.get(), cancelled, &seen), PARE_OK);
  EXPECT_EQ(pare_job_run(job.get()), PARE_OK) << pare_last_error();
  EXPECT_GT(seen.progress, 2);
  EXPECT_GT(seen.polls, 2);
  std::filesystem::remove(out_);
  seen = {.stop_at = 2};
  EXPECT_EQ(pare_job_run(job.get()), PARE_INTERRUPTED);
  EXPECT_EQ(list_folder(dir_.path()), std::vector<std::string>{"model"});
  // Taken away again, neither is called.
  EXPECT_EQ(pare_job_on_progress(job.get(), nullptr, nullptr), PARE_OK);
  EXPECT_EQ(pare_job_on_cancelled(job.get(), nullptr, nullptr), PARE_OK);
  seen = {};
  EXPECT_EQ(pare_job_run(job.get()), PARE_OK) << pare_last_error();
  EXPECT_EQ(seen.progress + seen.polls, 0);
}

TEST_F(CInterface, NoExceptionOfACallbackGetsOut) {
  const Job job = quantize_job();
  EXPECT_EQ(pare_job_on_cancelled(
                job.get(), [](void*) -> int { throw std::runtime_error("from C++"); }, nullptr),
            PARE_OK);
  EXPECT_EQ(pare_job_run(job.get()), PARE_INTERNAL);
  EXPECT_THAT(pare_last_error(), HasSubstr("from C++"));
  EXPECT_EQ(pare_job_on_cancelled(
                job.get(), [](void*) -> int { throw 5; }, nullptr),
            PARE_OK);
  EXPECT_EQ(pare_job_run(job.get()), PARE_INTERNAL);
  EXPECT_EQ(list_folder(dir_.path()), std::vector<std::string>{"model"});
}

TEST(CInterfaceArguments, NullIsAUsageError) {
  const Job owned = new_job("quantize");
  pare_job* job = owned.get();
  const auto on_progress = [](void*, const char*, const char*, double, double) {};
  const auto on_warning = [](void*, const char*) {};
  const auto cancelled = [](void*) { return 0; };
  pare_job* made = job;
  for (const pare_status status :
       {pare_job_new("quantize", nullptr), pare_job_new(nullptr, &made),
        pare_job_set(nullptr, "model", "m"), pare_job_set(job, nullptr, "m"),
        pare_job_set(job, "model", nullptr), pare_job_on_progress(nullptr, on_progress, nullptr),
        pare_job_on_warning(nullptr, on_warning, nullptr),
        pare_job_on_cancelled(nullptr, cancelled, nullptr), pare_job_run(nullptr)}) {
    EXPECT_EQ(status, PARE_USAGE);
    EXPECT_THAT(pare_last_error(), HasSubstr("NULL"));
  }
  EXPECT_EQ(made, nullptr) << "a call that fails leaves no handle";
  EXPECT_EQ(pare_job_report(nullptr), nullptr);
  pare_job_free(nullptr);
  EXPECT_EQ(pare_job_new("compress", &made), PARE_USAGE);
  EXPECT_THAT(pare_last_error(), HasSubstr("quantize, mixed, evaluate, export"));
  EXPECT_EQ(pare_job_set(job, "bits", "4"), PARE_USAGE);
}

TEST(CInterfaceArguments, NamesAndVersions) {
  EXPECT_STREQ(pare_version(), PARE_VERSION_STRING);
  EXPECT_EQ(version(), pare_version());
  EXPECT_EQ(std::to_string(PARE_VERSION_MAJOR) + "." + std::to_string(PARE_VERSION_MINOR) + "." +
                std::to_string(PARE_VERSION_PATCH),
            pare_version());
  EXPECT_STREQ(pare_status_name(PARE_OK), "ok");
  EXPECT_STREQ(pare_status_name(PARE_GATE_FAILED), "gate_failed");
  EXPECT_STREQ(pare_status_name(PARE_INTERRUPTED), error_code_name(ErrorCode::kInterrupted));
  EXPECT_STREQ(pare_status_name(static_cast<pare_status>(99)), "internal");
}

}  // namespace
}  // namespace pare::testing
