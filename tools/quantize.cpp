// quantize: compresses a trained model into an HDF5 checkpoint. Parses, calls the library, renders.
#include "pare/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "pare/architectures.h"
#include "pare/error.h"
#include "pare/mixed_precision.h"
#include "pare/version.h"
#include "tools/arguments.h"
#include "tools/check_command.h"
#include "tools/export_command.h"
#include "tools/export_job.h"
#include "tools/main_guard.h"
#include "tools/progress_view.h"
#include "tools/quantize_command.h"
#include "tools/quantize_summary.h"
#include "tools/table.h"

namespace pare::tools {
namespace {

std::string help(const CLI::App& app) {
  return help_page(app, "quantize MODEL_DIR -o OUT.h5 [options]",
                   {"quantize llama-8b -o out.h5 --qformat fp8 --calib c4.jsonl",
                    "quantize llama-8b -o out.h5 --qformat int4_awq --calib c4.jsonl",
                    "quantize llama-8b -o out.h5 --qformat full_prec --sparsity sparsegpt \\",
                    "    --calib c4.jsonl --calib_size 128 --calib_seqlen 2048"});
}

std::string architecture_table() {
  constexpr size_t kRemarkColumns = 31;  // what the two names leave of 80
  TextTable table({"Architecture", "model_type", "Models"},
                  {Align::kLeft, Align::kLeft, Align::kLeft});
  for (const ArchitectureInfo& known : known_architectures()) {
    std::istringstream lines(wrapped(known.remark, kRemarkColumns));
    std::string line;
    std::getline(lines, line);
    table.add({known.name, known.model_type, line});
    while (std::getline(lines, line)) table.add({"", "", line});
  }
  return table.render();
}

/// Layers that a job has kept in its work folder.
int64_t finished_layers(const std::string& folder) {
  int64_t count = 0;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with("layer-") && name.ends_with(".json")) ++count;
  }
  return count;
}

/// What an interruption leaves of the work.
std::string interruption(const QuantizeOptions& options) {
  std::string message = split_list(options.qformat).size() > 1
                            ? "interrupted; formats that were not finished were not written"
                            : "interrupted; no output was written";
  const int64_t kept = options.work_dir.empty() ? 0 : finished_layers(options.work_dir);
  if (kept > 0) {
    message += fmt::format(", {} finished layer{} kept in {}: go on with --resume", kept,
                           kept == 1 ? " is" : "s are", options.work_dir);
  }
  return message;
}

/// quantize(), whose interruption says what is left of the work.
std::vector<QuantizeReport> run_job(const QuantizeOptions& options,
                                    const std::vector<FormatOutput>& outputs,
                                    const Callbacks& callbacks) {
  try {
    if (outputs.size() > 1) return quantize_each(options, outputs, callbacks);
    // A recipe may name the one format.
    QuantizeOptions single = options;
    single.output = outputs.at(0).output;
    return {quantize(single, callbacks)};
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInterrupted) throw;
    throw Error(ErrorCode::kInterrupted, interruption(options));
  }
}

/// What stays of a checkpoint that is only made to be exported: nothing to measure or to compare.
void forget_file(QuantizeReport& report, const ExportJob& job) {
  report.output = job.output;
  if (job.keeps_checkpoint) return;
  report.file_bytes = 0;
  report.sha256.clear();
}

/// Prints what was made, before the folders: a form that fails must not take it along.
void finish(const ExportJob& job, const Command& command, const std::string& text,
            const Callbacks& callbacks, ProgressView& view) {
  view.clear();
  write_stdout(text);
  if (command.options.dry_run) return;
  run_exports(job, callbacks, [&](const ExportReport& report) {
    view.clear();
    write_stdout(command.json ? to_json(report) + "\n" : "\n" + export_summary(report));
  });
}

int run_mixed(Command& command, const Callbacks& callbacks, ProgressView& view) {
  const ExportJob job = plan_exports(command, command.options.output);
  check_exports(job, command.options, command.mixed.formats);
  if (command.mixed.recipe_output.empty()) command.mixed.recipe_output = job.recipe;
  command.options.output = job.checkpoint;
  command.mixed.quantize = command.options;
  MixedReport report = quantize_mixed(command.mixed, callbacks);
  forget_file(report.quantize, job);
  finish(job, command,
         command.json ? to_json(report) + "\n" : mixed_summary(report, command.options), callbacks,
         view);
  return 0;
}

int run_command(Command& command) {
  const ProgressMode mode = parse_progress_mode(command.progress);
  ProgressView view("quantize", command.quiet ? ProgressMode::kNone : mode);
  Callbacks callbacks = view.callbacks();
  if (command.quiet) callbacks.on_warning = nullptr;
  if (is_mixed(command.mixed)) return run_mixed(command, callbacks, view);
  std::vector<FormatOutput> outputs = format_outputs(command.options);
  std::vector<ExportJob> jobs;
  for (FormatOutput& output : outputs) {
    jobs.push_back(plan_exports(command, output.output));
    check_exports(jobs.back(), command.options, {output.qformat});
    output.output = jobs.back().checkpoint;
  }
  std::vector<QuantizeReport> reports = run_job(command.options, outputs, callbacks);
  // Every format is worth its exports, whatever becomes of another's.
  std::optional<Error> failure;
  for (size_t i = 0; i < reports.size(); ++i) {
    forget_file(reports[i], jobs[i]);
    const std::string text =
        command.json ? to_json(reports[i]) + "\n" : quantize_summary(reports[i], command.options);
    try {
      finish(jobs[i], command, (i == 0 || command.json ? "" : "\n") + text, callbacks, view);
    } catch (const Error& error) {
      failure = failure ? Error(failure->code(), std::string(failure->what()) + "; " + error.what())
                        : error;
    }
  }
  if (failure) throw Error(*failure);
  return 0;
}

int run(std::vector<std::string> arguments) {
  if (!arguments.empty() && arguments.front() == "export") {
    arguments.erase(arguments.begin());
    return run_export(std::move(arguments));
  }
  if (!arguments.empty() && arguments.front() == "check") {
    arguments.erase(arguments.begin());
    return run_check(std::move(arguments));
  }
  Command command;
  CLI::App app("Compresses a trained language model after training.");
  app.set_help_flag("");
  app.add_option("model_dir,-m,--model_dir", command.options.model,
                 "Hugging Face folder; also the first argument")
      ->type_name("DIR")
      ->group("Input");
  app.add_option("--lora", command.options.lora, "LoRA adapter in PEFT's form")
      ->type_name("DIR")
      ->group("Input");
  app.add_option("--lora-mode", command.options.lora_mode,
                 "merge: into the weights before anything else; beside: stays as it is beside the "
                 "compressed ones")
      ->type_name("merge|beside")
      ->capture_default_str()
      ->group("Input");
  describe_options(app, command);
  parse_arguments(app, std::move(arguments), {"isa", "config"});

  if (command.help) {
    write_stdout(help(app));
  } else if (command.version) {
    write_stdout(version_details());
  } else if (command.list_qformats) {
    TextTable table({"Name", "Meaning"}, {Align::kLeft, Align::kLeft});
    for (const auto& [name, text] : qformats()) table.add({name, text});
    write_stdout(table.render());
  } else if (command.list_architectures) {
    write_stdout(command.json ? to_json(known_architectures()) + "\n" : architecture_table());
  } else {
    if (app.get_option("--export")->count() > 0 && split_list(command.export_formats).empty()) {
      throw Error(ErrorCode::kUsage,
                  "--export names no form; \"quantize export --help\" lists them");
    }
    // Other tools' command lines name how much text, not which.
    if (command.options.calibration.empty() && command.options.stats.empty() &&
        command.options.recipe.empty() && app.get_option("--calib_size")->count() > 0) {
      command.options.calibration = "builtin";
    }
    command.options.explicit_options = typed_keys(app);
    resolve(command);
    return run_command(command);
  }
  return 0;
}

}  // namespace
}  // namespace pare::tools

int main(int argc, char** argv) {
  auto arguments = pare::tools::arguments_of(argc, argv);
  const bool json = std::find(arguments.begin(), arguments.end(), "--json") != arguments.end();
  return pare::tools::run_guarded("quantize", json,
                                  [&] { return pare::tools::run(std::move(arguments)); });
}
