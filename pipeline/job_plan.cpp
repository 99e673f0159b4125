#include "pipeline/job_plan.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <regex>

#include "core/dtype.h"
#include "model/block_parameters.h"
#include "pare/error.h"
#include "pipeline/compress_cache.h"
#include "pipeline/recipe_file.h"

namespace pare {
namespace {

constexpr int64_t kLargestGroup = int64_t{1} << 30;
constexpr int64_t kMostTokens = int64_t{1} << 32;  // of calibration: keeps products in range

std::regex compile(const std::string& pattern) {
  try {
    return std::regex(pattern, std::regex::ECMAScript | std::regex::optimize);
  } catch (const std::regex_error& error) {
    throw Error(ErrorCode::kUsage,
                "\"" + pattern + "\" is not a regular expression: " + error.what());
  }
}

void check_options(const QuantizeOptions& options) {
  const auto require = [](bool holds, const std::string& what) {
    if (!holds) throw Error(ErrorCode::kUsage, what);
  };
  require(options.awq_block_size >= 0 && options.awq_block_size % 2 == 0,
          "awq_block_size must be 0 (per output channel) or an even number, found " +
              std::to_string(options.awq_block_size));
  require(options.awq_block_size <= kLargestGroup,
          "awq_block_size must be at most " + std::to_string(kLargestGroup));
  require(options.calibration_size > 0, "calib_size must be at least 1");
  require(options.calibration_seqlen > 0, "calib_seqlen must be at least 1");
  require(options.calibration_size <= kMostTokens / options.calibration_seqlen,
          "calib_size times calib_seqlen must be at most " + std::to_string(kMostTokens));
  require(options.smooth_strength <= 1, "smooth_strength must be at most 1");
  require(options.sparsegpt_damping > 0 && options.sparsegpt_damping < 1,
          "sparsegpt_damping must be between 0 and 1");
  require(options.gptaq_alpha <= 1, "gptaq_alpha must be at most 1");
  require(options.threads >= 0, "threads must not be negative");
  require(options.moe_calib == "routed" || options.moe_calib == "all",
          "moe_calib is \"" + options.moe_calib + "\"; expected routed or all");
  require(options.rotate == "none" || options.rotate == "residual" ||
              options.rotate == "residual+heads",
          "rotate is \"" + options.rotate + "\"; expected none, residual or residual+heads");
  require(options.save_stats.empty() || options.stats.empty(),
          "save_stats and stats exclude each other: statistics from a file are saved already");
  require(options.save_stats.empty() || !options.calibration.empty(),
          "save_stats needs calibration text");
  require(options.save_stats.empty() || !options.resume,
          "save_stats cannot go on from a work_dir: finished layers are not calibrated again");
  require(options.stats.empty() || options.kv_cache == "none",
          "kv_cache is calibrated on the text itself: give --calib instead of --stats");
  const std::string& permute = options.permute_channels;
  require(permute == "auto" || permute == "on" || permute == "off",
          "permute_channels is \"" + permute + "\"; expected auto, on or off");
  require(!options.resume || !options.work_dir.empty(), "resume needs a work_dir");
}

void check_shape(const std::string& name, const LinearPlan& plan, int64_t in_features) {
  if (plan.sparsity != SparsityMethod::kNone && in_features % 4 != 0) {
    throw Error(ErrorCode::kInputMalformed,
                name + ": 2:4 sparsity needs a width that 4 divides, found " +
                    std::to_string(in_features) + "; leave the layer out with --exclude");
  }
}

// What the largest magnitude of a run of weights is divided by to give its scale; without symmetry,
// what the range is divided by.
float divisor(WeightFormat format, bool symmetric) {
  if (format == WeightFormat::kFp8E4m3) return kE4m3Max;
  if (format == WeightFormat::kInt8) return 127;
  if (is_fp4(format)) return kE2m1Max;
  return symmetric ? 7 : 15;
}

// "model.layers.3.mlp.experts."
std::vector<std::string> expert_prefixes(const ModelGraph& graph) {
  std::vector<std::string> prefixes;
  for (const BlockGraph& block : graph.blocks) {
    if (block.experts) prefixes.push_back(block.prefix + block.experts->expert_prefix);
  }
  return prefixes;
}

// 2:4 sparsity moves a layer's output far enough for the next ones to see other inputs.
double gptaq_alpha(const QuantizeOptions& options, const LinearPlan& linear) {
  if (options.uncompressed_inputs) return 0;
  if (options.gptaq_alpha >= 0) return options.gptaq_alpha;
  return linear.sparsity != SparsityMethod::kNone ? 0.5 : 0;
}

}  // namespace

JobPlan make_plan(const QuantizeOptions& given, const ModelGraph& graph) {
  JobPlan plan;
  plan.options = apply_recipe_file(given);
  if (!plan.options.stats.empty() || !plan.options.save_stats.empty()) {
    plan.options.uncompressed_inputs = true;
  }
  const QuantizeOptions& options = plan.options;
  check_options(options);
  const SparsityMethod sparsity = find_sparsity(options.sparsity);
  const QFormat& usual = find_qformat(options.qformat);
  const LinearPlan otherwise{&usual, find_stack(options.algo, usual), sparsity};
  // A method that another format does not have is not meant for it.
  const auto override_plan = [&](const QFormat& format) {
    const bool same = options.algo == "rtn" || (format.weight == usual.weight &&
                                                format.stack.scaling == usual.stack.scaling);
    return LinearPlan{&format, find_stack(same ? options.algo : "auto", format), sparsity};
  };
  const LinearPlan untouched{&find_qformat("full_prec"), {}, SparsityMethod::kNone};

  struct Rule {
    std::string text;
    std::regex pattern;
    LinearPlan plan;
    int64_t matches = 0;
    bool general = false;  // matches layers that are not kept in high precision by themselves
  };
  std::vector<Rule> rules;
  for (const auto& [pattern, name] : options.overrides) {
    rules.push_back({pattern, compile(pattern), override_plan(find_qformat(name)), 0, false});
  }
  for (const std::string& pattern : options.exclude) {
    rules.push_back({pattern, compile(pattern), untouched, 0, false});
  }
  std::vector<Rule> skips;
  for (const std::string& pattern : options.sparsity_skip) {
    skips.push_back({pattern, compile(pattern), untouched, 0, false});
  }
  for_each_block(graph, [&](const BlockGraph& block) {
    for (const Op& op : block.ops) {
      if (op.kind != OpKind::kLinear || op.linear.keep) continue;
      const std::string name = block.full_name(op);
      for (Rule& rule : rules) {
        rule.general = rule.general || std::regex_search(name, rule.pattern);
      }
    }
  });
  const auto is_expert = [&, prefixes = expert_prefixes(graph)](const std::string& name) {
    return std::any_of(prefixes.begin(), prefixes.end(),
                       [&](const std::string& prefix) { return name.starts_with(prefix); });
  };
  bool any = false;
  for_each_block(graph, [&](const BlockGraph& block) {
    for (const Op& op : block.ops) {
      if (op.kind != OpKind::kLinear) continue;
      const std::string name = block.full_name(op);
      // Routers and the like only where somebody names them.
      LinearPlan linear = op.linear.keep ? untouched : otherwise;
      for (Rule& rule : rules) {
        if (!std::regex_search(name, rule.pattern)) continue;
        ++rule.matches;
        // A pattern that also means other layers does not ask for this one.
        if (!op.linear.keep || !rule.general) linear = rule.plan;
      }
      for (Rule& skip : skips) {
        if (!std::regex_search(name, skip.pattern)) continue;
        ++skip.matches;
        linear.sparsity = SparsityMethod::kNone;
      }
      check_shape(name, linear, block.in_features(op));
      any = any || linear.changes();
      const bool scaled = linear.stack != AlgorithmStack{};
      const bool updated = linear.sparsity == SparsityMethod::kSparseGpt ||
                           linear.sparsity == SparsityMethod::kAdmm ||
                           (linear.sparsity != SparsityMethod::kNone && linear.format->quantized);
      plan.needs_gram = plan.needs_gram || scaled || updated;
      plan.needs_calibration = plan.needs_calibration || scaled || updated ||
                               linear.sparsity == SparsityMethod::kWanda ||
                               linear.sparsity == SparsityMethod::kRia ||
                               has_input_scale(input_activation(*linear.format, options));
      // What the original's experts would see in place of a token's input is not kept.
      const bool matched = (updated || linear.stack.gptq) && !is_expert(name);
      if (matched) linear.gptaq_alpha = gptaq_alpha(options, linear);
      plan.needs_original = plan.needs_original || linear.gptaq_alpha > 0;
      plan.linears[name] = linear;
    }
  });
  rules.insert(rules.end(), skips.begin(), skips.end());
  for (const Rule& rule : rules) {
    if (rule.matches == 0) {
      throw Error(ErrorCode::kUsage, "\"" + rule.text +
                                         "\" matches no linear layer; names look like " +
                                         plan.linears.begin()->first);
    }
  }
  plan.cache = find_cache_spec(options);
  const bool caches = plan.cache.format != CacheFormat::kNone;
  plan.needs_calibration = plan.needs_calibration || caches;
  // full_prec by itself is asked for by name: the model as one checkpoint, to be compared with.
  if (!any && !caches && options.qformat != "full_prec") {
    throw Error(ErrorCode::kUsage,
                "nothing to do: everything is excluded, no layer is quantized or pruned");
  }
  if (!options.save_stats.empty()) plan.needs_gram = true;
  if (plan.needs_calibration && options.calibration.empty() && options.stats.empty()) {
    throw Error(ErrorCode::kUsage, "qformat " + options.qformat + " with sparsity " +
                                       options.sparsity +

                                       (caches ? " and kv_cache " + options.kv_cache : "") +
                                       " needs calibration text: give --calib, or --stats");
  }
  return plan;
}

std::vector<std::string> options_without_effect(const JobPlan& plan) {
  const QuantizeOptions& options = plan.options;
  const QuantizeOptions usual;
  bool int4 = false;
  bool clipped = false;
  bool smoothed = false;
  bool scaled = false;
  bool int8_activations = false;
  for (const auto& [name, linear] : plan.linears) {
    int4 = int4 || linear.format->weight == WeightFormat::kInt4;
    clipped = clipped || linear.stack.search_clip;
    smoothed = smoothed || linear.stack.scaling == ScalingMethod::kSmoothQuant;
    scaled = scaled || linear.stack.scaling != ScalingMethod::kNone;
    int8_activations =
        int8_activations || linear.format->activation == ActivationFormat::kInt8Static;
  }
  std::vector<std::string> warnings;
  const auto check = [&](const char* key, bool changed, bool used, const char* users) {
    const auto& named = options.explicit_options;
    const bool given = changed || std::find(named.begin(), named.end(), key) != named.end();
    if (given && !used) {
      warnings.push_back(std::string("option ") + key + " has no effect: no layer is " + users);
    }
  };
  check("awq_block_size", options.awq_block_size != usual.awq_block_size, int4, "INT4");
  check("symmetric", options.symmetric != usual.symmetric, int4, "INT4");
  check("clip", options.clip != usual.clip, clipped, "searched for its clipping");
  check("smooth_strength",
        options.smooth != usual.smooth || options.smooth_strength != usual.smooth_strength,
        smoothed, "smoothed");
  check("pre_quant_scale", !options.pre_quant_scale, scaled, "scaled");
  check("dynamic_activations", options.dynamic_activations, int8_activations, "int8_sq");
  check("sparsity_skip", !options.sparsity_skip.empty(), options.sparsity != "none", "pruned");
  check("permute_channels", options.permute_channels != usual.permute_channels,
        options.sparsity != "none", "pruned");
  check("gptaq_alpha", options.gptaq_alpha > 0, plan.needs_original || options.gptaq_alpha == 0,
        "made to make up for its input");
  check("rotate_seed", options.rotate_seed != usual.rotate_seed, options.rotate != "none",
        "rotated");
  const bool caches = plan.cache.format != CacheFormat::kNone;
  check("kv_scales", options.kv_scales != usual.kv_scales, caches, "given a quantized KV cache");
  check("kv_affine", options.kv_affine, caches, "given a quantized KV cache");
  check("sparsegpt_damping", options.sparsegpt_damping != usual.sparsegpt_damping, plan.needs_gram,
        "solved on a Gram matrix");
  return warnings;
}

std::string recipe_json(const JobPlan& plan, const std::string& text_sha256,
                        const std::string& ids_sha256) {
  const QuantizeOptions& options = plan.options;
  nlohmann::json json = recipe_values(options);
  if (!ids_sha256.empty()) {
    json["calibration"] = {{"text_sha256", text_sha256},
                           {"ids_sha256", ids_sha256},
                           {"calib_size", options.calibration_size},
                           {"calib_seqlen", options.calibration_seqlen},
                           {"seed", options.seed}};
  }
  for (const auto& [name, linear] : plan.linears) {
    if (!linear.changes()) json["unquantized"].push_back(name);
    if (!linear.format->quantized) continue;
    const WeightFormat weight = linear.format->weight;
    json["divisor"][linear.format->name] = divisor(weight, options.symmetric);
  }
  return json.dump();
}

}  // namespace pare
