// quantize: compresses a trained model into an HDF5 checkpoint. Parses, calls the library, renders.
#include "pare/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "pare/architectures.h"
#include "pare/error.h"
#include "pare/mixed_precision.h"
#include "pare/version.h"
#include "tools/arguments.h"
#include "tools/export_command.h"
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

/// quantize(), whose interruption says what is left of the work.
std::vector<QuantizeReport> run_job(const QuantizeOptions& options, const Callbacks& callbacks) {
  try {
    const std::vector<FormatOutput> outputs = format_outputs(options);
    if (outputs.size() > 1) return quantize_each(options, outputs, callbacks);
    // A recipe may name the one format.
    QuantizeOptions single = options;
    single.output = outputs.at(0).output;
    return {quantize(single, callbacks)};
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInterrupted) throw;
    std::string message = split_list(options.qformat).size() > 1
                              ? "interrupted; formats that were not finished were not written"
                              : "interrupted; no output was written";
    const int64_t kept = options.work_dir.empty() ? 0 : finished_layers(options.work_dir);
    if (kept > 0) {
      message += fmt::format(", {} finished layer{} kept in {}: go on with --resume", kept,
                             kept == 1 ? " is" : "s are", options.work_dir);
    }
    throw Error(ErrorCode::kInterrupted, message);
  }
}

int run(std::vector<std::string> arguments) {
  if (!arguments.empty() && arguments.front() == "export") {
    arguments.erase(arguments.begin());
    return run_export(std::move(arguments));
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
  parse_arguments(app, std::move(arguments), {"tp_size", "pp_size", "isa", "config"});

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
    resolve(command);
    command.options.explicit_options = typed_keys(app);
    const ProgressMode mode = parse_progress_mode(command.progress);
    ProgressView view("quantize", command.quiet ? ProgressMode::kNone : mode);
    Callbacks callbacks = view.callbacks();
    if (command.quiet) callbacks.on_warning = nullptr;
    if (is_mixed(command.mixed)) {
      command.mixed.quantize = command.options;
      const MixedReport report = quantize_mixed(command.mixed, callbacks);
      view.clear();
      write_stdout(command.json ? to_json(report) + "\n" : mixed_summary(report, command.options));
      return 0;
    }
    const std::vector<QuantizeReport> reports = run_job(command.options, callbacks);
    view.clear();
    std::string text;
    for (const QuantizeReport& report : reports) {
      const std::string one =
          command.json ? to_json(report) + "\n" : quantize_summary(report, command.options);
      text += (text.empty() || command.json ? "" : "\n") + one;
    }
    write_stdout(text);
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
