#include "tools/export_job.h"

#include <algorithm>
#include <filesystem>

#include "pare/error.h"

namespace pare::tools {
namespace {

constexpr std::string_view kCheckpointEnding = ".h5";
constexpr const char* kRankForm = "tensorrt-llm";

}  // namespace

std::vector<std::string> export_forms(const Command& command) {
  std::vector<std::string> forms = split_list(command.export_formats);
  std::vector<std::string> known;
  for (const auto& [name, text] : export_formats()) known.push_back(name);
  const bool parallel = command.tp_size > 0 || command.pp_size > 0;
  if (forms.empty() && parallel) forms.emplace_back(kRankForm);
  for (const std::string& form : forms) check_choice(form, known, "--export");
  if (parallel && std::find(forms.begin(), forms.end(), kRankForm) == forms.end()) {
    throw Error(
        ErrorCode::kUsage,
        "--tp_size and --pp_size are of --export tensorrt-llm; the other forms are split by "
        "the engine that loads them");
  }
  return forms;
}

ExportJob plan_exports(const Command& command, const std::string& output) {
  ExportJob job;
  job.output = output;
  job.checkpoint = output;
  const std::vector<std::string> forms = export_forms(command);
  if (forms.empty() || output.empty()) return job;
  std::string stem = output;
  while (stem.size() > 1 && stem.ends_with('/')) stem.pop_back();
  job.keeps_checkpoint = output.ends_with(kCheckpointEnding);
  if (job.keeps_checkpoint) {
    stem.resize(stem.size() - kCheckpointEnding.size());
  } else {
    job.checkpoint = stem + ".checkpoint" + std::string(kCheckpointEnding);
  }
  for (const std::string& form : forms) {
    ExportOptions options;
    options.checkpoint = job.checkpoint;
    options.format = form;
    options.output = job.keeps_checkpoint ? stem + "-" + form
                     : forms.size() == 1  ? stem
                                          : stem + "/" + form;
    options.force = command.options.force;
    options.threads = command.options.threads;
    if (form == kRankForm) {
      options.tp_size = std::max<int64_t>(command.tp_size, 1);
      options.pp_size = std::max<int64_t>(command.pp_size, 1);
    }
    job.exports.push_back(std::move(options));
  }
  return job;
}

void check_exports(const ExportJob& job, const QuantizeOptions& options,
                   const std::vector<std::string>& formats) {
  if (!job.keeps_checkpoint && job.exports.size() > 1) {
    std::error_code error;
    std::filesystem::create_directories(job.output, error);
  }
  for (const ExportOptions& each : job.exports) {
    for (const std::string& format : formats) {
      QuantizeOptions planned = options;
      planned.qformat = format;
      planned.output = job.checkpoint;
      check_export(planned, each);
    }
  }
}

std::vector<ExportReport> run_exports(const ExportJob& job, const Callbacks& callbacks) {
  std::vector<ExportReport> reports;
  try {
    for (const ExportOptions& options : job.exports) {
      reports.push_back(export_to(options, callbacks));
    }
  } catch (const Error& error) {
    // Hours of work, maybe: for quantize export.
    throw Error(error.code(),
                std::string(error.what()) + "; the checkpoint is kept in " + job.checkpoint);
  }
  if (!job.exports.empty() && !job.keeps_checkpoint) std::filesystem::remove(job.checkpoint);
  return reports;
}

}  // namespace pare::tools
