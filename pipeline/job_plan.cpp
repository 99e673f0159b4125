#include "pipeline/job_plan.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <regex>

#include "calib/statistics_collector.h"
#include "core/dtype.h"
#include "model/block_parameters.h"
#include "model/block_runner.h"
#include "model/expert_rows.h"
#include "model/input_groups.h"
#include "pare/error.h"
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
  require(options.threads >= 0, "threads must not be negative");
  require(options.moe_calib == "routed" || options.moe_calib == "all",
          "moe_calib is \"" + options.moe_calib + "\"; expected routed or all");
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
  return symmetric ? 7 : 15;
}

int64_t distinct_plans(const JobPlan& plan, const BlockGraph& block, const InputGroup& group) {
  std::vector<LinearPlan> known;
  for (const size_t op : group.linears) {
    const LinearPlan& linear = plan.linear(block.full_name(block.ops[op]));
    if (std::find(known.begin(), known.end(), linear) == known.end()) known.push_back(linear);
  }
  return static_cast<int64_t>(known.size());
}

}  // namespace

const std::vector<QFormat>& qformat_table() {
  static const std::vector<QFormat> table = {
      {.name = "fp8",
       .remark = "FP8 E4M3 weights and activations, one static scale a tensor",
       .weight = WeightFormat::kFp8E4m3,
       .activation = ActivationFormat::kFp8Static},
      {.name = "int8_sq",
       .remark = "INT8 SmoothQuant: weights per output channel, activations static (or dynamic)",
       .weight = WeightFormat::kInt8,
       .activation = ActivationFormat::kInt8Static,
       .scaling = ScalingMethod::kSmoothQuant},
      {.name = "int8_wo",
       .remark = "INT8 weights only, per output channel, round to nearest",
       .weight = WeightFormat::kInt8},
      {.name = "int4_awq",
       .remark = "INT4 weights in groups, AWQ scales and clipping searched",
       .weight = WeightFormat::kInt4,
       .scaling = ScalingMethod::kAwq,
       .search_clip = true},
      {.name = "int4_wo",
       .remark = "INT4 weights in groups, plain round to nearest",
       .weight = WeightFormat::kInt4},
      {.name = "full_prec",
       .remark = "Not quantized; for 2:4 sparsity alone, or as a copy to compare with",
       .quantized = false},
  };
  return table;
}

const QFormat& find_qformat(const std::string& name) {
  std::string known;
  for (const QFormat& format : qformat_table()) {
    if (format.name == name) return format;
    known += " " + format.name;
  }
  throw Error(ErrorCode::kUsage, "qformat \"" + name + "\" is not known; known:" + known);
}

SparsityMethod find_sparsity(const std::string& name) {
  if (name == "none") return SparsityMethod::kNone;
  if (name == "magnitude") return SparsityMethod::kMagnitude;
  if (name == "wanda") return SparsityMethod::kWanda;
  if (name == "sparsegpt") return SparsityMethod::kSparseGpt;
  throw Error(ErrorCode::kUsage,
              "sparsity \"" + name + "\" is not known; known: none magnitude wanda sparsegpt");
}

JobPlan make_plan(const QuantizeOptions& given, const ModelGraph& graph) {
  JobPlan plan;
  plan.options = apply_recipe_file(given);
  const QuantizeOptions& options = plan.options;
  check_options(options);
  const LinearPlan otherwise{&find_qformat(options.qformat), find_sparsity(options.sparsity)};
  const LinearPlan untouched{&find_qformat("full_prec"), SparsityMethod::kNone};

  struct Rule {
    std::string text;
    std::regex pattern;
    LinearPlan plan;
    int64_t matches = 0;
    bool general = false;  // matches layers that are not kept in high precision by themselves
  };
  std::vector<Rule> rules;
  for (const auto& [pattern, name] : options.overrides) {
    rules.push_back(
        {pattern, compile(pattern), {&find_qformat(name), otherwise.sparsity}, 0, false});
  }
  for (const std::string& pattern : options.exclude) {
    rules.push_back({pattern, compile(pattern), untouched, 0, false});
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
      check_shape(name, linear, block.in_features(op));
      any = any || linear.changes();
      const bool scaled = linear.format->scaling != ScalingMethod::kNone;
      const bool updated = linear.sparsity == SparsityMethod::kSparseGpt ||
                           (linear.sparsity != SparsityMethod::kNone && linear.format->quantized);
      plan.needs_gram = plan.needs_gram || scaled || updated;
      plan.needs_calibration = plan.needs_calibration || scaled || updated ||
                               linear.sparsity == SparsityMethod::kWanda ||
                               linear.format->activation != ActivationFormat::kBf16;
      plan.linears[name] = linear;
    }
  });
  for (const Rule& rule : rules) {
    if (rule.matches == 0) {
      throw Error(ErrorCode::kUsage, "\"" + rule.text +
                                         "\" matches no linear layer; names look like " +
                                         plan.linears.begin()->first);
    }
  }
  // full_prec by itself is asked for by name: the model as one checkpoint, to be compared with.
  if (!any && options.qformat != "full_prec") {
    throw Error(ErrorCode::kUsage,
                "nothing to do: everything is excluded, no layer is quantized or pruned");
  }
  if (plan.needs_calibration && options.calibration.empty()) {
    throw Error(ErrorCode::kUsage, "qformat " + options.qformat + " with sparsity " +
                                       options.sparsity + " needs calibration text: give --calib");
  }
  return plan;
}

std::vector<std::string> options_without_effect(const JobPlan& plan) {
  const QuantizeOptions& options = plan.options;
  const QuantizeOptions usual;
  bool int4 = false;
  bool clipped = false;
  bool smoothed = false;
  bool int8_activations = false;
  for (const auto& [name, linear] : plan.linears) {
    int4 = int4 || linear.format->weight == WeightFormat::kInt4;
    clipped = clipped || linear.format->search_clip;
    smoothed = smoothed || linear.format->scaling == ScalingMethod::kSmoothQuant;
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
  check("clip", options.clip != usual.clip, clipped, "int4_awq");
  check("smooth_strength",
        options.smooth != usual.smooth || options.smooth_strength != usual.smooth_strength,
        smoothed, "int8_sq");
  check("dynamic_activations", options.dynamic_activations, int8_activations, "int8_sq");
  check("sparsegpt_damping", options.sparsegpt_damping != usual.sparsegpt_damping, plan.needs_gram,
        "solved on a Gram matrix");
  return warnings;
}

std::string recipe_json(const JobPlan& plan, const std::string& text_sha256,
                        const std::string& ids_sha256) {
  const QuantizeOptions& options = plan.options;
  nlohmann::json json = {
      {"schema", "pare.recipe/1"},
      {"qformat", options.qformat},
      {"sparsity", options.sparsity},
      {"awq_block_size", options.awq_block_size},
      {"symmetric", options.symmetric},
      {"clip", options.clip},
      {"smooth", options.smooth},
      {"smooth_strength", options.smooth_strength},
      {"dynamic_activations", options.dynamic_activations},
      {"sparsegpt_damping", options.sparsegpt_damping},
      {"uncompressed_inputs", options.uncompressed_inputs},
      {"moe_calib", options.moe_calib},
      {"parse_special", options.parse_special},
      {"exclude", options.exclude},
      {"overrides", nlohmann::json::array()},
  };
  for (const auto& [pattern, name] : options.overrides) {
    json["overrides"].push_back({pattern, name});
  }
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

int64_t planned_bytes(const JobPlan& plan, const LinearPlan& linear, int64_t out_features,
                      int64_t in_features) {
  CompressedWeight weight;
  weight.format = linear.format->weight;
  weight.out_features = out_features;
  weight.in_features = in_features;
  weight.sparse = linear.sparsity != SparsityMethod::kNone;
  weight.group_size = weight.format == WeightFormat::kInt4   ? plan.options.awq_block_size
                      : weight.format == WeightFormat::kInt8 ? kPerChannel
                                                             : kPerTensor;
  int64_t bytes = out_features * (weight.row_bytes() + weight.mask_row_bytes());
  const bool dynamic = linear.format->activation == ActivationFormat::kInt8Static &&
                       plan.options.dynamic_activations;
  if (linear.format->activation != ActivationFormat::kBf16 && !dynamic) bytes += 4;  // input scale
  if (weight.format == WeightFormat::kBf16) return bytes;
  const int64_t scales = weight.group_size == kPerTensor ? 1 : out_features * weight.groups();
  bytes += 4 * scales;
  if (weight.format == WeightFormat::kInt4 && !plan.options.symmetric) bytes += scales;
  return bytes;
}

int64_t batch_windows(const QuantizeOptions& options, int64_t threads) {
  // About 8192 tokens: enough to keep every thread busy, few enough to be cheap to keep.
  const int64_t wanted = std::max<int64_t>(threads, 8192 / options.calibration_seqlen);
  return std::clamp<int64_t>(wanted, 1, options.calibration_size);
}

namespace {

// What compressing the linears of a block takes, its statistics included.
int64_t compressing_bytes(const JobPlan& plan, const BlockGraph& block, int64_t threads) {
  const QuantizeOptions& options = plan.options;
  int64_t weights = 0;
  int64_t biggest = 0;
  int64_t widest = 0;
  int64_t split = 0;
  std::vector<WatchedValue> watched;
  for (const InputGroup& group : input_groups(block)) {
    watched.push_back({group.value, group.in_features, plan.needs_gram, 0});
    widest = std::max(widest, group.in_features);
    split += (distinct_plans(plan, block, group) - 1) * group.in_features * group.in_features * 8;
    for (const size_t index : group.linears) {
      const int64_t size = block.out_features(block.ops[index]) * group.in_features;
      weights += size;
      biggest = std::max(biggest, size);
    }
  }
  // Packed BF16 of the block twice (original, compressed), its weights in FP32, and the searches'
  // copies of the largest linear; two working copies of the widest Gram matrix in FP32 and FP64.
  int64_t bytes = weights * (2 + 2 + 4) + biggest * 4 * 5;
  // Where a group is split, each further part has a Gram matrix of its own.
  if (plan.needs_gram) bytes += widest * widest * (8 + 4 + 4 + 8) + split;
  if (!options.calibration.empty()) {
    const int64_t batch = batch_windows(options, threads);
    // Experts see blocks of rows, whatever the windows' length.
    const int64_t rows = std::max(options.calibration_seqlen * batch, kExpertBatchTokens);
    bytes += StatisticsCollector::memory_bytes(watched, rows);
    const WorkspaceSize size{.length = std::max(options.calibration_seqlen, kChunkTokens),
                             .memory_length = block.memory >= 0 ? options.calibration_seqlen : 0};
    bytes += threads * (BlockWorkspace::memory_bytes(block, size, Precision::kBf16) +
                        kChunkTokens * widest * 4) +
             batch * options.calibration_seqlen * block.widths[0] * 4;
  }
  return bytes;
}

}  // namespace

int64_t planned_memory(const JobPlan& plan, const ModelGraph& graph, int64_t threads) {
  const QuantizeOptions& options = plan.options;
  const bool calibrated = !options.calibration.empty();
  const int64_t tokens = options.calibration_size * options.calibration_seqlen;
  int64_t largest = 0;
  const auto add_block = [&](const BlockGraph& block) {
    int64_t bytes = compressing_bytes(plan, block, threads);
    if (block.experts) {
      // Of the block, the packed weights stay while its experts are worked on, one by one.
      bytes += compressing_bytes(plan, expert_block(block, 0), threads);
      if (calibrated) bytes += 2 * ExpertRows::memory_bytes(block, tokens);
    }
    largest = std::max(largest, bytes);
  };
  for (const BlockGraph& block : graph.blocks) add_block(block);
  if (graph.encoder) {
    for (const BlockGraph& block : graph.encoder->blocks) add_block(block);
  }
  if (calibrated) {
    const int64_t stacks = graph.encoder ? 2 : 1;
    largest += stacks * tokens * (graph.hidden_size * 4 + 4);
  }
  // HDF5 keeps what it knows of each dataset in a cache of up to 32 MiB, once to write and once to
  // read; the rest are libraries, generated kernels and the largest tensor that is copied whole.
  constexpr int64_t kDatasetBytes = 64 << 10;
  constexpr int64_t kMetadataCache = int64_t{40} << 20;
  const int64_t metadata =
      std::min(kMetadataCache, kDatasetBytes * static_cast<int64_t>(plan.linears.size()));
  return largest + graph.vocab_size * graph.hidden_size * 2 + (int64_t{64} << 20) + metadata;
}

}  // namespace pare
