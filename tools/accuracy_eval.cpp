// accuracy-eval: measures what compression cost. Parses, calls the library, renders.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "pare/error.h"
#include "pare/evaluate.h"
#include "pare/version.h"
#include "tools/arguments.h"
#include "tools/main_guard.h"
#include "tools/progress_view.h"
#include "tools/report_file.h"
#include "tools/table.h"

namespace pare::tools {
namespace {

/// What the command line says; strings where a value has its own syntax.
struct Command {
  EvaluateOptions options;
  std::string tasks = "perplexity";
  std::string golden;
  std::string json;
  std::string max_loss;
  std::string max_memory;
  std::string progress = "auto";
  bool force = false;
  bool quiet = false;
  bool version = false;
  bool help = false;
};

void describe(CLI::App& app, Command& command) {
  EvaluateOptions& options = command.options;
  std::string group = "Models";
  const auto add = [&](const char* name, auto& value, const char* type, const char* text) {
    return app.add_option(name, value, text)->type_name(type)->group(group);
  };
  const auto flag = [&](const char* name, bool& value, const char* text) {
    app.add_flag(name, value, text)->group(group);
  };
  add("candidates", options.candidates, "CANDIDATE", "");
  add("--baseline", options.baseline, "DIR", "The model that the candidates are compared with");
  add("--verify", command.golden, "FILE.safetensors",
      "Instead: run the file's input_ids through one model and compare with its logits");

  group = "Task";
  add("--tasks", command.tasks, "NAME[,NAME]", "What to measure; perplexity in this version")
      ->capture_default_str();
  add("--text", options.text, "FILE",
      "What to score: text, .jsonl with \"text\" or \"input_ids\", or token ids in .json, .ids, "
      ".tokens");
  add("--ctx", options.ctx, "TOKENS", "Length of a window; the tail is dropped")
      ->capture_default_str();
  add("--limit", options.limit, "N", "Only so many windows, or that share when below 1; 0: all")
      ->default_str("0");
  add("--precision", options.precision, "NAME", "bf16, as deployed, or fp32, slow and exact")
      ->capture_default_str();
  add("--max-loss", command.max_loss, "P%",
      "Exit with status 8 when any candidate's perplexity is worse by more, for example 1%");

  group = "Output";
  add("--json", command.json, "FILE", "Result as JSON; - prints it instead of the table");
  flag("--force", command.force, "Replace an existing --json FILE, after success only");

  group = "Running";
  add("-t,--threads", options.threads, "N", "0: all processors; never changes the result")
      ->capture_default_str();
  add("--max-memory", command.max_memory, "SIZE",
      "Such as 8GiB or 800MB; refused up front when it cannot be kept")
      ->default_str("no limit");
  add("--progress", command.progress, "MODE", "auto, bar, plain or none, on stderr")
      ->capture_default_str();
  flag("-q,--quiet", command.quiet, "No progress on stderr");

  group = "Information";
  flag("--version", command.version, "Version, libraries and instruction sets");
  flag("-h,--help", command.help, "This page");
}

std::string help(const CLI::App& app) {
  return help_page(app, "accuracy-eval --baseline MODEL_DIR CANDIDATE... --text FILE [options]",
                   {"accuracy-eval --baseline llama-8b fp8.h5 int4.h5 --text wiki.test.raw",
                    "accuracy-eval --baseline llama-8b out.h5 --text wiki.test.raw --max-loss 1%",
                    "accuracy-eval --verify golden.safetensors llama-8b --precision fp32"});
}

/// --verify compares logits: what is about scoring a text would be ignored.
void check_verify(const CLI::App& app, const Command& command) {
  std::vector<std::string> typed;
  for (const char* name :
       {"--baseline", "--text", "--tasks", "--ctx", "--limit", "--max-loss", "--max-memory"}) {
    if (app.count(name) > 0) typed.emplace_back(name);
  }
  if (!typed.empty()) {
    throw Error(ErrorCode::kUsage,
                fmt::format("--verify does not go with {}: leave {} out", fmt::join(typed, ", "),
                            typed.size() == 1 ? "it" : "them"));
  }
  if (command.options.candidates.size() != 1) {
    throw Error(ErrorCode::kUsage,
                fmt::format("--verify takes one model, found {}; usage: accuracy-eval --verify "
                            "GOLDEN.safetensors MODEL_DIR",
                            command.options.candidates.size()));
  }
}

void resolve(const CLI::App& app, Command& command) {
  EvaluateOptions& options = command.options;
  options.tasks = split_list(command.tasks);
  if (options.tasks.empty()) {
    throw Error(ErrorCode::kUsage, "--tasks: expected a name, for example perplexity");
  }
  for (const std::string& task : options.tasks) {
    check_choice(task, {"perplexity"}, "--tasks",
                 {"mmlu", "hellaswag", "piqa", "arc_easy", "arc_challenge", "winogrande", "boolq",
                  "lambada"});
  }
  check_choice(options.precision, {"bf16", "fp32"}, "--precision");
  if (app.count("--max-memory") > 0) {
    options.max_memory = parse_size(command.max_memory, "--max-memory");
  }
  if (app.count("--verify") > 0) {
    check_verify(app, command);
    return;
  }
  if (options.baseline.empty()) {
    throw Error(ErrorCode::kUsage,
                "no baseline given; usage: accuracy-eval --baseline MODEL_DIR CANDIDATE... --text "
                "FILE (--help lists all options)");
  }
  if (options.text.empty()) {
    throw Error(ErrorCode::kUsage, "no text given; add --text FILE");
  }
  if (app.count("--max-loss") > 0 && options.candidates.empty()) {
    throw Error(ErrorCode::kUsage, "--max-loss needs a candidate to judge");
  }
}

std::string scientific_or_fixed(double value) {
  return value != 0 && value < 1e-4 ? fmt::format("{:.2e}", value) : fmt::format("{:.5f}", value);
}

std::vector<std::string> row(const ModelResult& model, bool is_baseline) {
  const PerplexityResult& result = model.perplexity;
  std::string format = model.qformat;
  if (model.sparsity != "none") format += " + 2:4 " + model.sparsity;
  std::vector<std::string> cells = {
      printable(model.name), format, fmt::format("{:.3f}", model.bits_per_weight),
      format_bytes(model.bytes), fmt::format("{:.4f} ± {:.4f}", result.ppl, result.ppl_se)};
  if (is_baseline) {
    cells.insert(cells.end(), {"1", "-", "-", "-"});
  } else {
    cells.insert(cells.end(),
                 {fmt::format("{:.5f} ± {:.5f}", result.ppl_ratio, result.ppl_ratio_se),
                  scientific_or_fixed(result.kl_mean), scientific_or_fixed(result.kl_p99),
                  fmt::format("{:.2f} %", 100 * result.top1_agreement)});
  }
  return cells;
}

std::string render(const EvaluateReport& report) {
  constexpr Align kRight = Align::kRight;
  TextTable table(
      {"Model", "Format", "bits/weight", "size", "perplexity ± se", "ratio ± se", "KL mean",
       "KL 99 %", "top-1 same"},
      {Align::kLeft, Align::kLeft, kRight, kRight, kRight, kRight, kRight, kRight, kRight});
  table.add(row(report.baseline, true));
  for (const ModelResult& candidate : report.candidates) table.add(row(candidate, false));
  const PerplexityResult& result = report.baseline.perplexity;
  std::string text = table.render();
  text += fmt::format("\nPerplexity: {}\n", printable(result.method));
  text += fmt::format(
      "{} positions in {} windows are scored; ± is one standard error, that of "
      "ratios from paired windows.\n",
      format_count(result.tokens), format_count(result.windows));
  if (!report.candidates.empty()) {
    text += "KL is the divergence from the baseline over the whole vocabulary, in nats.\n";
  }
  text += fmt::format("Arithmetic: {}, kernels {}. {:.1f} s, peak memory {}.\n", report.precision,
                      report.kernel, report.seconds, format_bytes(report.peak_rss_bytes));
  for (const std::string& warning : report.warnings) {
    text += fmt::format("Warning: {}\n", printable(warning));
  }
  return text;
}

std::string render(const VerifyReport& report) {
  TextTable table({"precision", "positions", "max abs", "rel L2", "argmax same"},
                  {Align::kLeft, Align::kRight, Align::kRight, Align::kRight, Align::kRight});
  table.add({report.precision, format_count(report.positions),
             fmt::format("{:.3e}", report.max_abs), fmt::format("{:.3e}", report.rel_l2),
             fmt::format("{:.2f} %", 100 * report.argmax_agreement)});
  return table.render();
}

/// One line naming every candidate that lost more than `limit`; empty when none did.
std::string gate_verdict(const EvaluateReport& report, double limit) {
  std::string failed;
  for (const ModelResult& candidate : report.candidates) {
    const double loss = candidate.perplexity.ppl_ratio - 1;
    if (loss <= limit) continue;  // A NaN fails.
    failed +=
        fmt::format("{}\"{}\" by {:.3f} %", failed.empty() ? "" : ", ", candidate.name, 100 * loss);
  }
  if (failed.empty()) return failed;
  return fmt::format("perplexity is worse than the baseline's: {}; --max-loss allows {} %", failed,
                     100 * limit);
}

int run(std::vector<std::string> arguments) {
  Command command;
  CLI::App app("Measures what compressing a language model cost.");
  app.set_help_flag("");
  describe(app, command);
  parse_arguments(app, std::move(arguments), {"mmlu_dir", "shots", "report"});
  if (command.help) {
    write_stdout(help(app));
    return 0;
  }
  if (command.version) {
    write_stdout(version_details());
    return 0;
  }
  resolve(app, command);
  const EvaluateOptions& options = command.options;
  double max_loss = -1;
  if (app.count("--max-loss") > 0) max_loss = parse_percent(command.max_loss, "--max-loss");
  const ProgressMode mode = parse_progress_mode(command.progress);
  std::optional<ReportFile> file;
  const bool json_on_stdout = command.json == "-";
  if (app.count("--json") > 0 && !json_on_stdout) {
    std::vector<std::string> inputs = {options.baseline, options.text, command.golden};
    inputs.insert(inputs.end(), options.candidates.begin(), options.candidates.end());
    check_report_path(command.json, inputs);
    file.emplace(command.json, command.force);
  }

  std::string table;
  std::string json;
  EvaluateReport report;
  ProgressView view("accuracy-eval", command.quiet ? ProgressMode::kNone : mode);
  Callbacks callbacks = view.callbacks();
  callbacks.on_warning = nullptr;  // They are part of the result.
  try {
    if (app.count("--verify") > 0) {
      const VerifyReport verified = verify(command.golden, options.candidates.front(),
                                           options.precision, options.threads, callbacks);
      table = render(verified);
      json = to_json(verified) + "\n";
    } else {
      report = evaluate(options, callbacks);
      table = render(report);
      json = to_json(report) + "\n";
    }
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInterrupted) throw;
    throw Error(ErrorCode::kInterrupted, "interrupted; no report was written");
  }
  view.clear();
  if (file) file->commit(json);
  write_stdout(json_on_stdout ? json : table);
  if (max_loss < 0) return 0;
  const std::string verdict = gate_verdict(report, max_loss);
  if (verdict.empty()) return 0;
  // The result is complete and on stdout already: only the verdict is left to say.
  print_error("accuracy-eval", verdict);
  return static_cast<int>(ErrorCode::kGateFailed);
}

/// Whether errors belong on stdout as JSON too: "--json -" or "--json=-".
bool json_on_stdout(const std::vector<std::string>& arguments) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--json=-") return true;
    if (arguments[i] == "--json" && i + 1 < arguments.size() && arguments[i + 1] == "-")
      return true;
  }
  return false;
}

}  // namespace
}  // namespace pare::tools

int main(int argc, char** argv) {
  auto arguments = pare::tools::arguments_of(argc, argv);
  const bool json = pare::tools::json_on_stdout(arguments);
  return pare::tools::run_guarded("accuracy-eval", json,
                                  [&] { return pare::tools::run(std::move(arguments)); });
}
