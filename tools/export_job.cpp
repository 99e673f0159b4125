#include "tools/export_job.h"

#include <algorithm>
#include <filesystem>
#include <new>

#include "pare/error.h"

namespace pare::tools {
namespace {

constexpr std::string_view kCheckpointEnding = ".h5";
constexpr const char* kRankForm = "tensorrt-llm";

/// A folder that several forms go into, for as long as their places are looked at.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::string& path) : path_(path) {
    std::error_code error;
    made_ = !path.empty() && std::filesystem::create_directory(path, error);
  }
  ~TemporaryFolder() {
    std::error_code error;
    if (made_) std::filesystem::remove(path_, error);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

 private:
  std::string path_;
  bool made_ = false;
};

}  // namespace

std::vector<std::string> export_forms(const Command& command) {
  std::vector<std::string> forms = split_list(command.export_formats);
  std::vector<std::string> known;
  for (const auto& [name, text] : export_formats()) known.push_back(name);
  const bool parallel = command.tp_size > 0 || command.pp_size > 0;
  if (forms.empty() && parallel) forms.emplace_back(kRankForm);
  for (const std::string& form : forms) {
    check_choice(form, known, "--export");
    if (std::count(forms.begin(), forms.end(), form) > 1) {
      throw Error(ErrorCode::kUsage, "--export names " + form + " twice");
    }
  }
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
    job.checkpoint = stem + ".pare-job" + std::string(kCheckpointEnding);
    job.recipe = stem + ".recipe.json";
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
  const TemporaryFolder folder(!job.keeps_checkpoint && job.exports.size() > 1 ? job.output : "");
  for (const ExportOptions& each : job.exports) {
    if (formats.size() > 1 && form_traits(each.format).one_scheme) {
      throw Error(ErrorCode::kUsage, "--export " + each.format +
                                         " has one kind for all linears, and --formats names "
                                         "several; use --export compressed-tensors");
    }
    for (const std::string& format : formats) {
      QuantizeOptions planned = options;
      planned.qformat = format;
      planned.output = job.checkpoint;
      check_export(planned, each);
    }
  }
}

void run_exports(const ExportJob& job, const Callbacks& callbacks,
                 const std::function<void(const ExportReport&)>& on_report) {
  if (!job.keeps_checkpoint && job.exports.size() > 1) {
    std::error_code error;  // The first export says what is wrong.
    std::filesystem::create_directory(job.output, error);
  }
  // Hours of work, maybe: for quantize export.
  const auto fail = [&](ErrorCode code, const std::string& what) {
    throw Error(code, what + "; the checkpoint is kept in " + job.checkpoint);
  };
  try {
    for (const ExportOptions& options : job.exports) {
      on_report(export_to(options, callbacks));
    }
  } catch (const Error& error) {
    fail(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    fail(ErrorCode::kLimitExceeded, "out of memory");
  } catch (const std::filesystem::filesystem_error& error) {
    fail(ErrorCode::kWriteFailed, error.what());
  }
  if (!job.exports.empty() && !job.keeps_checkpoint) std::filesystem::remove(job.checkpoint);
}

}  // namespace pare::tools
