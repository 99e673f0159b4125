#include "tools/quantize_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "pare/engines.h"
#include "pare/error.h"
#include "tools/export_job.h"

namespace pare::tools {
namespace {

/// Where the name of each format goes in -o.
constexpr const char* kFormatPlace = "{qformat}";

void describe_scheme(CLI::App& app, Command& command) {
  QuantizeOptions& options = command.options;
  const auto add = [&](const char* name, auto& value, const char* type, const char* text) {
    return app.add_option(name, value, text)->type_name(type)->group("Scheme");
  };
  add("--qformat", options.qformat, "NAME[,NAME]",
      "Number format, --list-qformats explains each; several are calibrated once, and -o has "
      "{qformat} in its name")
      ->capture_default_str();
  add("--sparsity", options.sparsity, "none|magnitude|wanda|ria|sparsegpt|admm",
      "2:4 sparsity, with any format")
      ->capture_default_str();
  add("--permute-channels", options.permute_channels, "on|off|auto",
      "2:4: put channels that pruning would make compete apart, where that is free; auto: where it "
      "pays on the calibration text")
      ->capture_default_str();
  add("--algo", options.algo, "auto|rtn|clip|awq|gptq|smoothquant",
      "Method: auto, the best for the format; rtn; clip, awq, gptq (INT4, FP4); gptq (FP8); "
      "clip, gptq, smoothquant (INT8)")
      ->capture_default_str();
  add("--awq_block_size,--group-size", options.awq_block_size, "N",
      "INT4: weights that share a scale; 0: a whole output channel")
      ->capture_default_str();
  app.add_flag("--sym,!--asym", options.symmetric, "INT4: symmetric, or with zero points")
      ->default_str("sym")
      ->group("Scheme");
  app.add_flag("--clip,!--no-clip", options.clip, "INT4, FP4: search each group's clipping range")
      ->default_str("clip")
      ->group("Scheme");
  add("--smooth-strength", command.smooth_strength, "S",
      "INT8: share of the activations' range that moves into the weights: auto searches it, "
      "none leaves it, 0 ... 1 fixes it")
      ->capture_default_str();
  app.add_flag("--dynamic-activations", options.dynamic_activations,
               "INT8: one activation scale a token, instead of one from calibration")
      ->group("Scheme");
  app.add_flag("--pre-quant-scale,!--no-pre-quant-scale", options.pre_quant_scale,
               "AWQ, SmoothQuant: scales of an input that nothing before it can absorb are stored; "
               "without, such an input is not scaled, as most engines want it")
      ->default_str("pre-quant-scale")
      ->group("Scheme");
  add("--gptaq-alpha", options.gptaq_alpha, "SHARE",
      "How far weights make up for what compression did to their input; negative: as measured best")
      ->default_str("-1");
  add("--sparsegpt-damping", options.sparsegpt_damping, "SHARE",
      "SparseGPT, ADMM, GPTQ: share of the mean diagonal that is added to the Gram matrix")
      ->default_str("0.01");
  add("--rotate", options.rotate, "none|residual|residual+heads",
      "residual: a Hadamard matrix spreads the residual stream's outliers over all channels, "
      "folded into the weights; residual+heads: also attention's values, head by head")
      ->capture_default_str();
  add("--rotate-seed", command.rotate_seed, "S", "Signs of that matrix")->capture_default_str();
  add("--sparsity-skip", options.sparsity_skip, "REGEX",
      "2:4: matching linears stay dense, in their format; may be repeated; auto: those that lose "
      "most, under a budget as for mixed precision")
      ->allow_extra_args(false);
  add("--exclude", options.exclude, "REGEX", "Keep matching linears in BF16; may be repeated")
      ->allow_extra_args(false);
  add("--override", command.overrides, "REGEX=QFORMAT",
      "Another format for matching linears; may be repeated, the last match counts")
      ->allow_extra_args(false);
  add("--formats", command.formats, "NAME,NAME",
      "Mixed precision: each layer gets one of these, under the budget below");
  add("--target-bits", command.mixed.target_bits, "BITS",
      "Mixed precision: at most so many bits a weight, of the linears that may change");
  add("--max-loss", command.max_loss, "P%",
      "Mixed precision: the smallest plan whose perplexity rises by less, for example 1%");
  add("--probe-text", command.mixed.probe_text, "FILE",
      "Mixed precision: text that layers and plans are judged on; else that of --calib");
  add("--save-recipe", command.mixed.recipe_output, "FILE.json",
      "Mixed precision: where the plan goes; else beside the output");
  add("--recipe", options.recipe, "FILE.json",
      "These options from a file; flags given beside it win");
  add("--kv-cache,--kv_cache_dtype", options.kv_cache, "none|fp8|int8",
      "How keys and values are cached; none: in the model's type; needs --calib")
      ->capture_default_str();
  add("--kv-scales", options.kv_scales, "tensor|head",
      "KV cache: one static scale a tensor, or one for each head")
      ->capture_default_str();
  app.add_flag("--kv-affine", options.kv_affine,
               "KV cache: an offset for each channel, for models with large key biases")
      ->group("Scheme");
  add("--dtype", command.dtype, "NAME", "Accepted for other tools' scripts; only bfloat16");
}

void describe_rest(CLI::App& app, Command& command) {
  QuantizeOptions& options = command.options;
  std::string group;
  const auto add = [&](const char* name, auto& value, const char* type, const char* text) {
    return app.add_option(name, value, text)->type_name(type)->group(group);
  };
  const auto flag = [&](const char* name, bool& value, const char* text) {
    app.add_flag(name, value, text)->group(group);
  };
  group = "Calibration";
  add("--calib", options.calibration, "FILE",
      "Text, .jsonl with \"text\" or \"input_ids\" (models with an encoder: \"source\" and "
      "\"target\"), or token ids in .json, .ids, .tokens; builtin: the text that pare brings, as "
      "with --calib_size alone");
  add("--calib_size", options.calibration_size, "N", "Windows of text")->capture_default_str();
  add("--calib_seqlen,--calib_max_seq_length", options.calibration_seqlen, "TOKENS",
      "Length of a window")
      ->capture_default_str();
  add("--seed", command.seed, "S", "Order in which documents are drawn; 0: as in the file")
      ->capture_default_str();
  flag("--parse-special", options.parse_special,
       "Special tokens that the text spells, such as </s>, are special; without it they are text");
  add("--save-stats", options.save_stats, "FILE.h5",
      "Keep what calibration found, of the uncompressed model, for other formats");
  add("--stats", options.stats, "FILE.h5", "Such a file, instead of calibrating again");
  add("--moe-calib", options.moe_calib, "routed|all",
      "Experts see the tokens that chose them (routed; more where those are too few), or all")
      ->capture_default_str();
  flag("--uncompressed-inputs", options.uncompressed_inputs,
       "Calibrate each layer on the original model's activations, not the compressed one's");

  group = "Output";
  add("-o,--output,--output_dir", options.output, "PATH",
      "NAME.h5 makes one file, any other name a folder of shards");
  add("--export", command.export_formats, "FORM[,FORM]",
      "Folders that engines load, see quantize export --help: beside NAME.h5 as NAME-FORM; without "
      ".h5 the folder PATH, or PATH/FORM for several, and no checkpoint");
  add("--tp_size", command.tp_size, "N", "TensorRT-LLM: ranks that share each layer")
      ->check(CLI::Range(1, 1 << 20));
  add("--pp_size", command.pp_size, "N", "TensorRT-LLM: ranks that share the layers")
      ->check(CLI::Range(1, 1 << 20));
  flag("--force", options.force, "Replace existing output, after success only");
  flag("--dry-run", options.dry_run, "Check model and options, print the plan, write nothing");
  flag("--json", command.json, "Result as JSON on stdout; errors too");

  group = "Running";
  add("-t,--threads", options.threads, "N", "0: all processors; never changes the result")
      ->capture_default_str();
  add("--max-memory", command.max_memory, "SIZE",
      "Such as 8GiB or 800MB; refused up front when it cannot be kept")
      ->default_str("no limit");
  add("--work-dir", options.work_dir, "DIR", "Keep finished layers there, for --resume");
  flag("--resume", options.resume, "Go on from --work-dir");
  add("--progress", command.progress, "auto|bar|plain|none", "Progress on stderr")
      ->capture_default_str();
  flag("-q,--quiet", command.quiet, "Neither progress nor warnings on stderr");

  group = "Information";
  flag("--list-qformats", command.list_qformats, "Names and meanings for --qformat");
  flag("--list-architectures", command.list_architectures,
       "Models that can be read; with --json as JSON");
  flag("--version", command.version, "Version, libraries and instruction sets");
  flag("-h,--help", command.help, "This page");
}

/// The options of mixed precision, which go together.
void resolve_mixed(Command& command, const std::vector<std::string>& known) {
  MixedOptions& mixed = command.mixed;
  mixed.formats = split_list(command.formats);
  for (const std::string& name : mixed.formats) check_choice(name, known, "--formats");
  if (!command.max_loss.empty()) mixed.max_loss = parse_percent(command.max_loss, "--max-loss");
  std::vector<std::string>& skip = command.options.sparsity_skip;
  mixed.choose_sparsity = std::erase(skip, "auto") > 0;
  const bool budget = mixed.target_bits != 0 || mixed.max_loss != 0;
  if (budget != is_mixed(mixed)) {
    throw Error(ErrorCode::kUsage,
                budget ? "--target-bits and --max-loss choose between formats: add --formats, such "
                         "as --formats int4_awq,int8_sq,fp8, or --sparsity-skip auto"
                : mixed.choose_sparsity
                    ? "--sparsity-skip auto needs a budget: add --max-loss or --target-bits"
                    : "--formats needs a budget: add --target-bits or --max-loss");
  }
  mixed.quantize = command.options;
}

}  // namespace

bool is_mixed(const MixedOptions& options) {
  return !options.formats.empty() || options.choose_sparsity;
}

void describe_options(CLI::App& app, Command& command) {
  describe_scheme(app, command);
  describe_rest(app, command);
}

std::vector<std::string> typed_keys(const CLI::App& app) {
  const std::map<std::string, std::string> other_names = {
      {"sym", "symmetric"}, {"override", "overrides"}, {"smooth_strength", "smooth"}};
  std::vector<std::string> keys;
  for (const CLI::Option* option : app.get_options()) {
    if (option->count() == 0) continue;
    for (std::string name : option->get_lnames()) {
      std::replace(name.begin(), name.end(), '-', '_');
      keys.push_back(name);
      const auto other = other_names.find(name);
      if (other != other_names.end()) keys.push_back(other->second);
    }
  }
  return keys;
}

std::vector<FormatOutput> format_outputs(const QuantizeOptions& options) {
  std::vector<FormatOutput> outputs;
  for (const std::string& name : split_list(options.qformat)) {
    std::string output = options.output;
    const size_t place = output.find(kFormatPlace);
    if (place != std::string::npos) {
      output.replace(place, std::string_view(kFormatPlace).size(), name);
    }
    outputs.push_back({name, output});
  }
  return outputs;
}

void resolve(Command& command) {
  QuantizeOptions& options = command.options;
  std::vector<std::string> known;
  for (const auto& [name, text] : qformats()) known.push_back(name);
  const std::vector<std::string> formats = split_list(options.qformat);
  if (formats.empty()) check_choice(options.qformat, known, "--qformat");
  for (const std::string& name : formats) check_choice(name, known, "--qformat");
  if (formats.size() > 1 && options.output.find(kFormatPlace) == std::string::npos) {
    throw Error(ErrorCode::kUsage,
                fmt::format("--qformat names {} formats: -o needs {} in its name, such as "
                            "-o out-{}.h5",
                            formats.size(), kFormatPlace, kFormatPlace));
  }
  if (formats.size() > 1 && options.resume) {
    throw Error(ErrorCode::kUsage, "--resume goes on with one format; name that one alone");
  }
  check_choice(options.lora_mode, {"merge", "beside"}, "--lora-mode");
  check_choice(options.rotate, {"none", "residual", "residual+heads"}, "--rotate");
  check_choice(options.moe_calib, {"routed", "all"}, "--moe-calib");
  check_choice(options.sparsity, {"none", "magnitude", "wanda", "ria", "sparsegpt", "admm"},
               "--sparsity");
  check_choice(options.permute_channels, {"auto", "on", "off"}, "--permute-channels");
  check_choice(options.kv_cache, {"none", "fp8", "int8"}, "--kv-cache");
  check_choice(options.kv_scales, {"tensor", "head"}, "--kv-scales");
  if (!command.dtype.empty()) {
    check_choice(command.dtype, {"bfloat16", "bf16", "auto"}, "--dtype");
  }
  if (command.smooth_strength == "none") {
    options.smooth = false;
  } else if (command.smooth_strength != "auto") {
    options.smooth_strength = parse_number(command.smooth_strength, "--smooth-strength");
    if (options.smooth_strength < 0 || options.smooth_strength > 1) {
      throw Error(ErrorCode::kUsage,
                  fmt::format("--smooth-strength: expected auto, none or 0 ... 1, found {}",
                              command.smooth_strength));
    }
  }
  for (const std::string& text : command.overrides) {
    const size_t equals = text.rfind('=');  // A format has no "=", an expression may.
    if (equals == std::string::npos || equals == 0) {
      throw Error(ErrorCode::kUsage,
                  fmt::format("--override: expected REGEX=QFORMAT, found \"{}\"", text));
    }
    options.overrides.emplace_back(text.substr(0, equals), text.substr(equals + 1));
    check_choice(options.overrides.back().second, known, "--override");
  }
  options.seed = parse_unsigned(command.seed, "--seed");
  const auto& typed = options.explicit_options;
  const bool chose_scales = std::find(typed.begin(), typed.end(), "kv_scales") != typed.end();
  for (const std::string& form : export_forms(command)) {
    const FormTraits traits = form_traits(form);
    if (!traits.pre_quant_scale) options.pre_quant_scale = false;
    if (!traits.head_scales && !chose_scales) options.kv_scales = "tensor";
  }
  resolve_mixed(command, known);
  options.rotate_seed = parse_unsigned(command.rotate_seed, "--rotate-seed");
  if (!command.max_memory.empty()) {
    options.max_memory = parse_size(command.max_memory, "--max-memory");
  }
  if (options.resume && options.work_dir.empty()) {
    throw Error(ErrorCode::kUsage,
                "--resume needs --work-dir, where the earlier run kept its work");
  }
  if (options.model.empty()) {
    throw Error(ErrorCode::kUsage,
                "no model given; usage: quantize MODEL_DIR -o OUT.h5 --qformat fp8 (--help lists "
                "all options)");
  }
  if (options.output.empty() && !options.dry_run) {
    throw Error(ErrorCode::kUsage, "no output given; add -o OUT.h5, or --dry-run to plan only");
  }
}

}  // namespace pare::tools
