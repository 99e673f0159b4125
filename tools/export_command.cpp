#include "tools/export_command.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "pare/engines.h"
#include "pare/error.h"
#include "tools/arguments.h"
#include "tools/main_guard.h"
#include "tools/progress_view.h"
#include "tools/table.h"

namespace pare::tools {
namespace {

std::string help(const CLI::App& app) {
  std::string page =
      help_page(app, "quantize export CHECKPOINT --export FORM -o DIR [options]",
                {"quantize export llama-int4.h5 --export compressed-tensors -o llama-int4-vllm"});
  page += "\nForms:\n";
  TextTable table({"Name", "Meaning"}, {Align::kLeft, Align::kLeft});
  for (const auto& [name, text] : export_formats()) table.add({name, text});
  return page + table.render();
}

}  // namespace

std::string export_summary(const ExportReport& report) {
  int64_t bytes = 0;
  for (const ExportedFile& file : report.files) bytes += file.bytes;
  TextTable table({"Result", printable(report.output)}, {Align::kLeft, Align::kLeft});
  table.add({"Form", report.format});
  table.add({"Quantized", fmt::format("{} linears", report.quantized_linears)});
  table.add({"Files", fmt::format("{}, {}", report.files.size(), format_bytes(bytes))});
  table.add({"Checked", "read back: codes and scales are those of the checkpoint"});
  table.add({"Time", fmt::format("{:.1f} s", report.seconds)});
  table.add({"Warnings", fmt::format("{}", report.warnings.size())});
  return table.render();
}

int run_export(std::vector<std::string> arguments) {
  ExportOptions options;
  std::string shard_size = "5GiB";
  std::string progress = "auto";
  bool quiet = false;
  bool json = false;
  bool show_help = false;
  CLI::App app("Writes a checkpoint in the form that an inference engine reads.");
  app.set_help_flag("");
  app.add_option("checkpoint,--checkpoint", options.checkpoint,
                 "Checkpoint of quantize; also the first argument")
      ->type_name("FILE.h5")
      ->group("Input");
  app.add_option("--export", options.format, "Form, see below")->type_name("FORM")->group("Output");
  app.add_option("-o,--output,--output_dir", options.output, "Folder to write")
      ->type_name("DIR")
      ->group("Output");
  app.add_option("--shard-size", shard_size, "Largest file of weights")
      ->type_name("SIZE")
      ->capture_default_str()
      ->group("Output");
  app.add_option("--tp_size", options.tp_size, "tensorrt-llm: ranks that share each layer")
      ->type_name("N")
      ->capture_default_str()
      ->group("Output");
  app.add_option("--pp_size", options.pp_size, "tensorrt-llm: ranks that have layers of their own")
      ->type_name("N")
      ->capture_default_str()
      ->group("Output");
  app.add_flag("--force", options.force, "Replace an exported folder, after success only")
      ->group("Output");
  app.add_flag("--json", json, "Result as JSON on stdout; errors too")->group("Output");
  app.add_option("-t,--threads", options.threads, "0: all processors; never changes the result")
      ->type_name("N")
      ->capture_default_str()
      ->group("Running");
  app.add_option("--progress", progress, "auto, bar, plain or none, on stderr")
      ->type_name("MODE")
      ->capture_default_str()
      ->group("Running");
  app.add_flag("-q,--quiet", quiet, "Neither progress nor warnings on stderr")->group("Running");
  app.add_flag("-h,--help", show_help, "This page")->group("Information");
  parse_arguments(app, std::move(arguments), {});
  if (show_help) {
    write_stdout(help(app));
    return 0;
  }
  if (options.checkpoint.empty()) {
    throw Error(ErrorCode::kUsage,
                "no checkpoint given; usage: quantize export FILE.h5 --export FORM -o DIR");
  }
  std::vector<std::string> known;
  for (const auto& [name, text] : export_formats()) known.push_back(name);
  if (options.format.empty()) {
    throw Error(ErrorCode::kUsage,
                fmt::format("no form given; add --export with one of: {}", fmt::join(known, ", ")));
  }
  check_choice(options.format, known, "--export");
  if (options.output.empty()) {
    throw Error(ErrorCode::kUsage, "no output given; add -o DIR");
  }
  options.shard_bytes = parse_size(shard_size, "--shard-size");
  ProgressView view("quantize export", quiet ? ProgressMode::kNone : parse_progress_mode(progress));
  Callbacks callbacks = view.callbacks();
  if (quiet) callbacks.on_warning = nullptr;
  const ExportReport report = export_to(options, callbacks);
  view.clear();
  write_stdout(json ? to_json(report) + "\n" : export_summary(report));
  return 0;
}

}  // namespace pare::tools
