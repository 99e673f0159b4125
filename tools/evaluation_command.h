// accuracy-eval's command line: one structure for all of its modes, and what each mode accepts.
#pragma once

#include <string>
#include <vector>

#include "pare/evaluate.h"
#include "pare/gates.h"
#include "pare/speculative.h"
#include "tools/arguments.h"
#include "tools/report_outputs.h"

namespace pare::tools {

/// What the command line says; strings where a value has its own syntax.
struct EvaluationCommand {
  EvaluateOptions options;
  SpeculativeOptions speculative;
  OutputOptions outputs;
  std::string tasks = "perplexity";
  std::string golden;
  std::string max_loss;
  std::string max_ppl_ratio;
  std::string max_kl;
  std::string max_memory;
  std::string mmlu_dir;
  std::vector<std::string> task_data;
  bool no_prefix_reuse = false;
  bool list_tasks = false;
  std::string progress = "auto";
  bool quiet = false;
  bool version = false;
  bool help = false;
};

/// Adds all options.
void describe_evaluation(CLI::App& app, EvaluationCommand& command);

std::string evaluation_help(const CLI::App& app);

/// Checks what belongs to `--baseline` and fills command.options. Throws Error(kUsage).
void resolve_evaluation(const CLI::App& app, EvaluationCommand& command);
/// The same for `--verify`.
void resolve_verify(const CLI::App& app, EvaluationCommand& command);
/// The same for `--draft` and `--target`; fills command.speculative.
void resolve_speculative(const CLI::App& app, EvaluationCommand& command);
/// The same for `compare`, whose positional arguments are reports.
void resolve_compare(const CLI::App& app, const EvaluationCommand& command);

/// The gates that were given. Throws Error(kUsage).
Gates parse_gates(const CLI::App& app, const EvaluationCommand& command);

}  // namespace pare::tools
