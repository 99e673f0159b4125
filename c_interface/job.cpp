#include <memory>
#include <string>

#include "c_interface/job_options.h"
#include "c_interface/status.h"
#include "pare/progress.h"

struct pare_job {
  explicit pare_job(pare::JobKind kind) : options(kind) {}

  pare::JobOptions options;
  pare::Callbacks callbacks;
  std::string report;
};

namespace pare {
namespace {

void run_quantize(pare_job& job) {
  job.options.require({"model"});
  if (!job.options.quantize.dry_run) job.options.require({"output"});
  job.report = to_json(quantize(job.options.quantize, job.callbacks));
}

void run_mixed(pare_job& job) {
  job.options.require({"model", "formats", "output"});
  MixedOptions options = job.options.mixed;
  options.quantize = job.options.quantize;
  job.report = to_json(quantize_mixed(options, job.callbacks));
}

/// Throws Error(kGateFailed) when the report is complete.
void run_evaluate(pare_job& job) {
  job.options.require({"baseline"});
  const EvaluateReport report = evaluate(job.options.evaluate, job.callbacks);
  job.report = to_json(report);
  const Gates& gates = job.options.gates;
  if (!gates.any()) return;
  std::string failed;
  for (const FailedGate& gate : failed_gates(report, gates)) {
    failed += (failed.empty() ? "" : "; ") + gate.message;
  }
  if (!failed.empty()) throw Error(ErrorCode::kGateFailed, "gate failed: " + failed);
}

void run_export(pare_job& job) {
  job.options.require({"checkpoint", "format", "output"});
  job.report = to_json(export_to(job.options.exporting, job.callbacks));
}

/// Throws Error(kInputMalformed) when the report is complete.
void run_check(pare_job& job) {
  job.options.require({"folder"});
  const CheckReport report = check_folder(job.options.check);
  job.report = to_json(report);
  if (report.refusals.empty()) return;
  const CheckFinding& first = report.refusals.front();
  throw Error(ErrorCode::kInputMalformed, report.folder + ": an engine would refuse it: " +
                                              first.subject + " " + first.message);
}

}  // namespace
}  // namespace pare

extern "C" {

pare_status pare_job_new(const char* kind, pare_job** job) {
  return pare::guarded([&] {
    *pare::require(job, "job") = nullptr;
    *job = std::make_unique<pare_job>(pare::job_kind(pare::require(kind, "kind"))).release();
  });
}

void pare_job_free(pare_job* job) { delete job; }

pare_status pare_job_set(pare_job* job, const char* option, const char* value) {
  return pare::guarded([&] {
    pare::require(job, "job")
        ->options.set(pare::require(option, "option"), pare::require(value, "value"));
  });
}

pare_status pare_job_on_progress(pare_job* job, pare_progress_callback callback, void* user) {
  return pare::guarded([&] {
    auto& on_progress = pare::require(job, "job")->callbacks.on_progress;
    on_progress = nullptr;
    if (callback == nullptr) return;
    on_progress = [callback, user](const pare::Progress& at) {
      callback(user, at.phase.c_str(), at.detail.c_str(), at.done, at.seconds_left);
    };
  });
}

pare_status pare_job_on_warning(pare_job* job, pare_warning_callback callback, void* user) {
  return pare::guarded([&] {
    auto& on_warning = pare::require(job, "job")->callbacks.on_warning;
    on_warning = nullptr;
    if (callback == nullptr) return;
    on_warning = [callback, user](const std::string& text) { callback(user, text.c_str()); };
  });
}

pare_status pare_job_on_cancelled(pare_job* job, pare_cancelled_callback callback, void* user) {
  return pare::guarded([&] {
    auto& cancelled = pare::require(job, "job")->callbacks.cancelled;
    cancelled = nullptr;
    if (callback == nullptr) return;
    cancelled = [callback, user] { return callback(user) != 0; };
  });
}

pare_status pare_job_run(pare_job* job) {
  return pare::guarded([&] {
    pare::require(job, "job")->report.clear();
    switch (job->options.kind()) {
      case pare::JobKind::kQuantize:
        return pare::run_quantize(*job);
      case pare::JobKind::kMixed:
        return pare::run_mixed(*job);
      case pare::JobKind::kEvaluate:
        return pare::run_evaluate(*job);
      case pare::JobKind::kExport:
        return pare::run_export(*job);
      case pare::JobKind::kCheck:
        return pare::run_check(*job);
    }
  });
}

const char* pare_job_report(const pare_job* job) {
  return job == nullptr ? nullptr : job->report.c_str();
}

}  // extern "C"
