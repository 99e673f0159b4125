#include "tools/evaluation_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <string_view>

#include "pare/error.h"

namespace pare::tools {
namespace {

[[noreturn]] void usage(const std::string& message) { throw Error(ErrorCode::kUsage, message); }

bool given(const CLI::App& app, const char* option) { return app.count(option) > 0; }

// What every mode takes.
constexpr std::array<std::string_view, 7> kCommon = {
    "--json", "--force", "--threads", "--progress", "--quiet", "--version", "--help"};

// What was typed and means nothing beside `mode`: it would be ignored in silence.
void refuse_others(const CLI::App& app, std::string_view mode,
                   std::initializer_list<std::string_view> allowed) {
  std::vector<std::string> typed;
  for (const CLI::Option* option : app.get_options()) {
    if (option->count() == 0 || option->get_lnames().empty()) continue;
    const std::string name = "--" + option->get_lnames().front();
    const auto is_in = [&](const auto& names) {
      return std::find(names.begin(), names.end(), name) != names.end();
    };
    if (!is_in(kCommon) && !is_in(allowed)) typed.push_back(name);
  }
  if (typed.empty()) return;
  usage(fmt::format("{} does not go with {}: leave {} out", mode, fmt::join(typed, ", "),
                    typed.size() == 1 ? "it" : "them"));
}

// The tasks by their kinds, as the library lists them.
bool needs_text(const std::string& task) { return is_perplexity_task(task); }

bool runs(const EvaluateOptions& options, const std::string& task) {
  return std::find(options.tasks.begin(), options.tasks.end(), task) != options.tasks.end();
}

std::vector<std::string> task_names() {
  std::vector<std::string> names;
  for (const auto& [name, remark] : evaluation_tasks()) names.push_back(name);
  return names;
}

void resolve_task_data(const CLI::App& app, EvaluationCommand& command) {
  EvaluateOptions& options = command.options;
  std::vector<std::string> pairs = command.task_data;
  if (given(app, "--mmlu_dir")) pairs.push_back("mmlu=" + command.mmlu_dir);
  for (const std::string& text : pairs) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
      usage(fmt::format("--task_data: expected TASK=PATH, found \"{}\"", text));
    }
    const std::string task = text.substr(0, equals);
    check_choice(task, task_names(), "--task_data");
    if (needs_text(task)) usage(fmt::format("task {} reads --text, not --task_data", task));
    if (!runs(options, task)) {
      usage(fmt::format("data is given for {}, which is not in --tasks {}", task, command.tasks));
    }
    options.task_data[task] = text.substr(equals + 1);
  }
}

// What the tasks need, and that nothing is given for a task that does not run.
void check_tasks(const CLI::App& app, const EvaluationCommand& command) {
  const EvaluateOptions& options = command.options;
  const bool has_text = std::any_of(options.tasks.begin(), options.tasks.end(), needs_text);
  const bool has_questions = !std::all_of(options.tasks.begin(), options.tasks.end(), needs_text);
  if (has_text && options.text.empty()) usage("no text given; add --text FILE");
  for (const char* option :
       {"--text", "--ctx", "--parse-special", "--by-layer", "--max-kl", "--max-ppl-ratio"}) {
    if (given(app, option) && !has_text) {
      usage(
          fmt::format("{} is about perplexity, which is not in --tasks {}", option, command.tasks));
    }
  }
  for (const char* option : {"--shots", "--log_samples", "--no-prefix-reuse"}) {
    if (given(app, option) && !has_questions) {
      usage(fmt::format("{} is about tasks of questions, none is in --tasks {}", option,
                        command.tasks));
    }
  }
  if (given(app, "--stride") && !runs(options, "perplexity_strided")) {
    usage("--stride is about perplexity_strided, which is not in --tasks " + command.tasks);
  }
  if (given(app, "--layer-windows") && !options.by_layer) {
    usage("--layer-windows needs --by-layer");
  }
  for (const std::string& task : options.tasks) {
    if (needs_text(task) || task.ends_with(".jsonl") || options.task_data.contains(task)) continue;
    usage(
        fmt::format("task {} needs its questions: add {}", task,
                    task == "mmlu" ? "--mmlu_dir DIR" : fmt::format("--task_data {}=PATH", task)));
  }
}

// 0 stands for the default where an option is not given, and means nothing where it is.
void require_positive(const CLI::App& app, const char* option, double value) {
  if (given(app, option) && !(value > 0)) {
    usage(fmt::format("{}: expected a number above 0, found {}", option, value));
  }
}

int64_t memory_limit(const CLI::App& app, const EvaluationCommand& command) {
  return given(app, "--max-memory") ? parse_size(command.max_memory, "--max-memory") : 0;
}

}  // namespace

void describe_evaluation(CLI::App& app, EvaluationCommand& command) {
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

  add("--lora", options.lora, "DIR", "LoRA adapter of the baseline, in PEFT's form");
  add("--candidate-lora", options.candidate_lora, "DIR",
      "LoRA adapter of all candidates: merged, or beside weights that are quantized");

  group = "Task";
  add("--tasks", command.tasks, "NAME[,NAME]",
      "What to measure; --list-tasks explains each; also a .jsonl file of questions")
      ->capture_default_str();
  add("--text", options.text, "FILE",
      "What to score: text, .jsonl with \"text\" or \"input_ids\" (models with an encoder: "
      "\"source\" and \"target\"), or token ids in .json, .ids, .tokens");
  flag("--parse-special", options.parse_special,
       "Special tokens that the text spells, such as </s>, are special; without it they are text");
  add("--ctx", options.ctx, "TOKENS", "Length of a window")
      ->default_str("512; perplexity_gptq: 2048");
  add("--stride", options.stride, "TOKENS", "perplexity_strided: tokens between windows")
      ->default_str("half of --ctx");
  add("--mmlu_dir", command.mmlu_dir, "DIR", "MMLU's folder with dev and test");
  add("--task_data", command.task_data, "TASK=PATH", "File or folder of another task's questions")
      ->allow_extra_args(false);
  add("--shots", options.shots, "N", "Examples before each question")
      ->default_str("as usual for the task");
  add("--limit", options.limit, "N",
      "Only so many windows or questions, or that share when below 1; 0: all")
      ->default_str("0");
  add("--precision", options.precision, "bf16|fp32", "As deployed, or slow and exact")
      ->capture_default_str();
  flag("--by-layer", options.by_layer,
       "Also the error of each linear by itself, and the divergence that it alone causes");
  add("--layer-windows", options.layer_windows, "N", "Windows that --by-layer takes")
      ->capture_default_str();

  group = "Gates (exit status 8), judged on the worse end of the 95 % interval";
  add("--max-loss", command.max_loss, "P%",
      "Relative loss of accuracy, relative rise of perplexity; for example 1%");
  add("--max-ppl-ratio", command.max_ppl_ratio, "R", "Perplexity over the baseline's");
  add("--max-kl", command.max_kl, "X", "Mean KL divergence from the baseline, in nats");

  group = "Instead";
  add("--verify", command.golden, "FILE.safetensors",
      "Run the file's input_ids through one model and compare with its logits");
  add("--draft", command.speculative.drafts, "MODEL",
      "Speculative decoding: a draft model; may be repeated")
      ->allow_extra_args(false);
  add("--target", command.speculative.targets, "MODEL", "Its target model; may be repeated")
      ->allow_extra_args(false);
  add("--temperature", command.speculative.temperature, "T", "Of sampling with a draft")
      ->capture_default_str();
  add("--draft-cost", command.speculative.draft_cost, "C", "A draft's step in steps of the target")
      ->default_str("ratio of the bytes read");

  describe_outputs(app, command.outputs);

  group = "Running";
  add("-t,--threads", options.threads, "N", "0: all processors; never changes the result")
      ->capture_default_str();
  add("--max-memory", command.max_memory, "SIZE",
      "Such as 8GiB or 800MB; refused up front when it cannot be kept")
      ->default_str("no limit");
  add("--cache", options.cache, "DIR",
      "Keep finished parts: an interrupted run goes on, a later one skips what it has");
  flag("--no-prefix-reuse", command.no_prefix_reuse, "Run each question's examples again; slower");
  add("--progress", command.progress, "auto|bar|plain|none", "Progress on stderr")
      ->capture_default_str();
  flag("-q,--quiet", command.quiet, "No progress on stderr");

  group = "Information";
  flag("--list-tasks", command.list_tasks, "Names and meanings for --tasks");
  flag("--version", command.version, "Version, libraries and instruction sets");
  flag("-h,--help", command.help, "This page");
}

std::string evaluation_help(const CLI::App& app) {
  return help_page(app,
                   "accuracy-eval --baseline MODEL_DIR CANDIDATE... --text FILE [options]\n"
                   "       accuracy-eval --baseline MODEL_DIR CANDIDATE... --tasks mmlu ...\n"
                   "       accuracy-eval --draft MODEL --target MODEL --text FILE [options]\n"
                   "       accuracy-eval --verify FILE.safetensors MODEL_DIR [options]\n"
                   "       accuracy-eval compare A.json B.json ... [output, gates]",
                   {"accuracy-eval --baseline llama-8b fp8.h5 int4.h5 --text wiki.test.raw",
                    "accuracy-eval --baseline llama-8b out.h5 --text wiki.test.raw --max-kl 0.02",
                    "accuracy-eval --baseline llama-8b out.h5 --tasks mmlu --mmlu_dir mmlu/ \\\n"
                    "      --max-loss 1% --report mmlu.html --json mmlu.json",
                    "accuracy-eval compare mmlu.json hellaswag.json --markdown card.md"});
}

void resolve_evaluation(const CLI::App& app, EvaluationCommand& command) {
  EvaluateOptions& options = command.options;
  options.tasks = split_list(command.tasks);
  if (options.tasks.empty()) usage("--tasks: expected a name, for example perplexity");
  for (const std::string& task : options.tasks) {
    if (!task.ends_with(".jsonl")) check_choice(task, task_names(), "--tasks");
  }
  check_choice(options.precision, {"bf16", "fp32"}, "--precision");
  require_positive(app, "--ctx", static_cast<double>(options.ctx));
  require_positive(app, "--stride", static_cast<double>(options.stride));
  require_positive(app, "--layer-windows", static_cast<double>(options.layer_windows));
  options.max_memory = memory_limit(app, command);
  for (const char* option : {"--temperature", "--draft-cost"}) {
    if (given(app, option)) usage(fmt::format("{} needs --draft and --target", option));
  }
  if (options.baseline.empty()) {
    usage(
        "no baseline given; usage: accuracy-eval --baseline MODEL_DIR CANDIDATE... --text "
        "FILE (--help lists all options)");
  }
  if (given(app, "--cache") && options.cache.empty()) usage("--cache: the name is empty");
  resolve_task_data(app, command);
  check_tasks(app, command);
  for (const char* option :
       {"--max-loss", "--max-ppl-ratio", "--max-kl", "--by-layer", "--candidate-lora"}) {
    if (given(app, option) && options.candidates.empty()) {
      usage(fmt::format("{} needs a candidate", option));
    }
  }
  options.reuse_prefix = !command.no_prefix_reuse;
  options.keep_samples = given(app, "--log_samples");
}

void resolve_verify(const CLI::App& app, EvaluationCommand& command) {
  check_choice(command.options.precision, {"bf16", "fp32"}, "--precision");
  refuse_others(app, "--verify", {"--verify", "--precision"});
  if (command.options.candidates.size() != 1) {
    usage(
        fmt::format("--verify takes one model, found {}; usage: accuracy-eval --verify "
                    "GOLDEN.safetensors MODEL_DIR",
                    command.options.candidates.size()));
  }
}

void resolve_speculative(const CLI::App& app, EvaluationCommand& command) {
  const EvaluateOptions& given_options = command.options;
  SpeculativeOptions& options = command.speculative;
  check_choice(given_options.precision, {"bf16", "fp32"}, "--precision");
  refuse_others(app, "--draft",
                {"--draft", "--target", "--text", "--parse-special", "--ctx", "--limit",
                 "--precision", "--temperature", "--draft-cost", "--max-memory"});
  if (!given_options.candidates.empty()) {
    usage(fmt::format("--draft and --target name all models; \"{}\" is one too many",
                      given_options.candidates.front()));
  }
  if (options.drafts.empty() || options.targets.empty()) {
    usage(fmt::format("{} needs {}; usage: accuracy-eval --draft MODEL --target MODEL --text FILE",
                      options.drafts.empty() ? "--target" : "--draft",
                      options.drafts.empty() ? "--draft" : "--target"));
  }
  if (given_options.text.empty()) usage("no text given; add --text FILE");
  require_positive(app, "--ctx", static_cast<double>(given_options.ctx));
  require_positive(app, "--draft-cost", options.draft_cost);
  options.text = given_options.text;
  options.parse_special = given_options.parse_special;
  if (given(app, "--ctx")) options.ctx = given_options.ctx;
  options.limit = given_options.limit;
  options.precision = given_options.precision;
  options.threads = given_options.threads;
  options.max_memory = memory_limit(app, command);
}

void resolve_compare(const CLI::App& app, const EvaluationCommand& command) {
  refuse_others(app, "compare",
                {"--csv", "--markdown", "--report", "--max-loss", "--max-ppl-ratio", "--max-kl"});
  if (command.options.candidates.empty()) {
    usage("compare: no report given; usage: accuracy-eval compare A.json B.json ...");
  }
}

Gates parse_gates(const CLI::App& app, const EvaluationCommand& command) {
  Gates gates;
  if (given(app, "--max-loss")) gates.max_loss = parse_percent(command.max_loss, "--max-loss");
  if (given(app, "--max-ppl-ratio")) {
    gates.max_ppl_ratio = parse_number(command.max_ppl_ratio, "--max-ppl-ratio");
    require_positive(app, "--max-ppl-ratio", *gates.max_ppl_ratio);
  }
  if (given(app, "--max-kl")) {
    gates.max_kl = parse_number(command.max_kl, "--max-kl");
    if (!(*gates.max_kl >= 0)) usage("--max-kl: a divergence is never negative, nothing passes");
  }
  return gates;
}

}  // namespace pare::tools
