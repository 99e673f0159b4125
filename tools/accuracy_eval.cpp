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
#include "tools/evaluation_table.h"
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
  std::string mmlu_dir;
  std::string log_samples;
  std::vector<std::string> task_data;
  bool no_prefix_reuse = false;
  bool list_tasks = false;
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
  add("--tasks", command.tasks, "NAME[,NAME]",
      "What to measure; --list-tasks explains each; also a .jsonl file of questions")
      ->capture_default_str();
  add("--text", options.text, "FILE",
      "What to score: text, .jsonl with \"text\" or \"input_ids\", or token ids in .json, .ids, "
      ".tokens");
  add("--ctx", options.ctx, "TOKENS", "Length of a window; the tail is dropped")
      ->capture_default_str();
  add("--mmlu_dir", command.mmlu_dir, "DIR", "MMLU's folder with dev and test");
  add("--task_data", command.task_data, "TASK=PATH", "File or folder of another task's questions")
      ->allow_extra_args(false);
  add("--shots", options.shots, "N", "Examples before each question")
      ->default_str("as usual for the task");
  add("--limit", options.limit, "N",
      "Only so many windows or questions, or that share when below 1; 0: all")
      ->default_str("0");
  add("--precision", options.precision, "NAME", "bf16, as deployed, or fp32, slow and exact")
      ->capture_default_str();
  add("--max-loss", command.max_loss, "P%",
      "Exit with status 8 when any candidate is worse by more, for example 1%");

  group = "Output";
  add("--json", command.json, "FILE", "Result as JSON; - prints it instead of the table");
  flag("--force", command.force, "Replace an existing --json FILE, after success only");

  add("--log_samples", command.log_samples, "FILE.jsonl",
      "A line a question: log-likelihoods of all choices in all models");

  group = "Running";
  add("-t,--threads", options.threads, "N", "0: all processors; never changes the result")
      ->capture_default_str();
  add("--max-memory", command.max_memory, "SIZE",
      "Such as 8GiB or 800MB; refused up front when it cannot be kept")
      ->default_str("no limit");
  flag("--no-prefix-reuse", command.no_prefix_reuse, "Run each question's examples again; slower");
  add("--progress", command.progress, "MODE", "auto, bar, plain or none, on stderr")
      ->capture_default_str();
  flag("-q,--quiet", command.quiet, "No progress on stderr");

  group = "Information";
  flag("--list-tasks", command.list_tasks, "Names and meanings for --tasks");
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
       {"--baseline", "--text", "--tasks", "--ctx", "--limit", "--max-loss", "--max-memory",
        "--mmlu_dir", "--task_data", "--shots", "--log_samples", "--no-prefix-reuse"}) {
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

/// What the tasks need, and that nothing is given for a task that does not run.
void resolve_tasks(const CLI::App& app, Command& command, const std::vector<std::string>& known) {
  EvaluateOptions& options = command.options;
  const auto runs = [&](const std::string& task) {
    return std::find(options.tasks.begin(), options.tasks.end(), task) != options.tasks.end();
  };
  if (app.count("--mmlu_dir") > 0) command.task_data.push_back("mmlu=" + command.mmlu_dir);
  for (const std::string& text : command.task_data) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
      throw Error(ErrorCode::kUsage,
                  fmt::format("--task_data: expected TASK=PATH, found \"{}\"", text));
    }
    const std::string task = text.substr(0, equals);
    check_choice(task, known, "--task_data");
    if (!runs(task)) {
      throw Error(ErrorCode::kUsage, fmt::format("data is given for {}, which is not in --tasks {}",
                                                 task, command.tasks));
    }
    options.task_data[task] = text.substr(equals + 1);
  }
  if (runs("perplexity") && options.text.empty()) {
    throw Error(ErrorCode::kUsage, "no text given; add --text FILE");
  }
  for (const std::string& task : options.tasks) {
    if (task == "perplexity" || task.ends_with(".jsonl") || options.task_data.contains(task)) {
      continue;
    }
    throw Error(
        ErrorCode::kUsage,
        fmt::format("task {} needs its questions: add {}", task,
                    task == "mmlu" ? "--mmlu_dir DIR" : fmt::format("--task_data {}=PATH", task)));
  }
  options.reuse_prefix = !command.no_prefix_reuse;
  options.keep_samples = app.count("--log_samples") > 0;
}

void resolve(const CLI::App& app, Command& command) {
  EvaluateOptions& options = command.options;
  options.tasks = split_list(command.tasks);
  if (options.tasks.empty()) {
    throw Error(ErrorCode::kUsage, "--tasks: expected a name, for example perplexity");
  }
  std::vector<std::string> known;
  for (const auto& [name, remark] : evaluation_tasks()) known.push_back(name);
  for (const std::string& task : options.tasks) {
    if (!task.ends_with(".jsonl")) check_choice(task, known, "--tasks");
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
  resolve_tasks(app, command, known);
  if (app.count("--max-loss") > 0 && options.candidates.empty()) {
    throw Error(ErrorCode::kUsage, "--max-loss needs a candidate to judge");
  }
}

/// One line naming every candidate that lost more than `limit`; empty when none did. A task of
/// questions is judged on the worse end of the interval of its relative loss: what is not shown to
/// be small enough does not pass.
std::string gate_verdict(const EvaluateReport& report, double limit) {
  std::string failed;
  const auto judge = [&](const ModelResult& candidate, const std::string& task, double loss) {
    if (loss <= limit) return;  // A NaN fails.
    failed += fmt::format("{}\"{}\" on {} by {:.3f} %", failed.empty() ? "" : ", ", candidate.name,
                          task, 100 * loss);
  };
  for (const ModelResult& candidate : report.candidates) {
    if (candidate.perplexity.windows > 0) {
      judge(candidate, "perplexity", candidate.perplexity.ppl_ratio - 1);
    }
    for (const auto& [task, result] : candidate.choices) {
      judge(candidate, task, -result.relative_lower);
    }
  }
  if (failed.empty()) return failed;
  return fmt::format("worse than the baseline: {}; --max-loss allows {} %", failed, 100 * limit);
}

int run(std::vector<std::string> arguments) {
  Command command;
  CLI::App app("Measures what compressing a language model cost.");
  app.set_help_flag("");
  describe(app, command);
  parse_arguments(app, std::move(arguments), {"report"});
  if (command.help) {
    write_stdout(help(app));
    return 0;
  }
  if (command.version) {
    write_stdout(version_details());
    return 0;
  }
  if (command.list_tasks) {
    TextTable table({"Name", "Meaning"}, {Align::kLeft, Align::kLeft});
    for (const auto& [name, text] : evaluation_tasks()) table.add({name, text});
    write_stdout(table.render());
    return 0;
  }
  resolve(app, command);
  const EvaluateOptions& options = command.options;
  double max_loss = -1;
  if (app.count("--max-loss") > 0) max_loss = parse_percent(command.max_loss, "--max-loss");
  const ProgressMode mode = parse_progress_mode(command.progress);
  std::optional<ReportFile> file;
  const bool json_on_stdout = command.json == "-";
  std::vector<std::string> inputs = {options.baseline, options.text, command.golden};
  inputs.insert(inputs.end(), options.candidates.begin(), options.candidates.end());
  for (const auto& [task, path] : options.task_data) inputs.push_back(path);
  if (app.count("--json") > 0 && !json_on_stdout) {
    check_report_path(command.json, inputs);
    file.emplace(command.json, command.force);
  }
  std::optional<ReportFile> samples;
  if (options.keep_samples) {
    check_report_path(command.log_samples, inputs);
    samples.emplace(command.log_samples, command.force);
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
  if (samples) {
    std::string lines;
    for (const TaskReport& task : report.tasks) lines += task.samples_jsonl;
    samples->commit(lines);
  }
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
