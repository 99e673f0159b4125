#include "pare/mixed_precision.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <utility>

#include "model/block_parameters.h"
#include "model/input_groups.h"
#include "model/model_files.h"
#include "pare/error.h"
#include "pare/evaluate.h"
#include "search/format_choice.h"

namespace pare {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int kTrials = 6;  // of plans under a budget of loss

// A folder beside the output that is removed however this ends.
class PlanFolder {
 public:
  explicit PlanFolder(const std::string& output) : path_(output + ".pare-plan") {
    std::error_code error;
    fs::remove_all(path_, error);  // of a run that was killed
    if (!fs::create_directories(path_, error)) {
      throw Error(ErrorCode::kWriteFailed, path_ + ": cannot be made: " + error.message());
    }
  }
  ~PlanFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  PlanFolder(const PlanFolder&) = delete;
  PlanFolder& operator=(const PlanFolder&) = delete;

  std::string operator/(const std::string& name) const { return (fs::path(path_) / name).string(); }

 private:
  std::string path_;
};

std::string escaped(const std::string& name) {
  std::string text;
  for (const char c : name) {
    if (std::string_view("\\^$.|?*+()[]{}").find(c) != std::string_view::npos) text += '\\';
    text += c;
  }
  return text;
}

void check(const MixedOptions& options) {
  const auto require = [](bool holds, const std::string& what) {
    if (!holds) throw Error(ErrorCode::kUsage, what);
  };
  require(options.formats.size() >= 2, "a mixed plan needs at least two formats");
  const std::set<std::string> distinct(options.formats.begin(), options.formats.end());
  require(distinct.size() == options.formats.size(), "a format is named twice");
  require(options.target_bits > 0 || options.max_loss > 0,
          "a mixed plan needs target_bits or max_loss");
  require(options.quantize.overrides.empty(),
          "a mixed plan makes its own overrides; exclude layers that must not change");
  require(!options.quantize.calibration.empty(),
          "a mixed plan needs calibration text: give --calib");
  require(options.quantize.work_dir.empty() && !options.quantize.dry_run,
          "a mixed plan takes neither a work_dir nor a dry run");
  require(options.probe_windows > 0 && options.verify_windows > 0,
          "probe_windows and verify_windows must be at least 1");
  require(!options.quantize.output.empty(), "a mixed plan needs an output");
  if (!options.quantize.force && fs::exists(options.quantize.output)) {
    throw Error(ErrorCode::kWriteFailed,
                options.quantize.output + ": exists already; use --force to replace it");
  }
}

class MixedPlan {
 public:
  MixedPlan(const MixedOptions& options, const Callbacks& callbacks)
      : options_(options), callbacks_(callbacks), folder_(options.quantize.output) {
    report_.formats = options.formats;
  }

  MixedReport run() {
    compress_all();
    probe();
    if (options_.max_loss > 0) {
      search_smallest();
    } else {
      take(options_.target_bits);
    }
    // Under the final name only now: earlier plans are not what was asked for.
    publish();
    return std::move(report_);
  }

 private:
  std::string baseline() const {
    return options_.quantize.rotate == "none" ? options_.quantize.model : folder_ / "baseline.h5";
  }
  const std::string& probe_text() const {
    return options_.probe_text.empty() ? options_.quantize.calibration : options_.probe_text;
  }

  // Every format once, with what calibration found in a file.
  void compress_all() {
    QuantizeOptions each = options_.quantize;
    each.force = true;
    each.kv_cache = "none";  // It is the plan's.
    if (each.stats.empty() && each.save_stats.empty()) each.save_stats = folder_ / "stats.h5";
    std::vector<FormatOutput> outputs;
    for (const std::string& name : options_.formats) {
      if (name != "full_prec") outputs.push_back({name, folder_ / (name + ".h5")});
    }
    // Rotation changes every layer's input: layers are compared with the rotated model.
    if (each.rotate != "none") outputs.push_back({"full_prec", folder_ / "baseline.h5"});
    std::map<std::string, std::map<std::string, int64_t>> bits;  // format, linear
    for (const QuantizeReport& report : quantize_each(each, outputs, callbacks_)) {
      const std::string format = fs::path(report.output).stem().string();
      for (const LayerReport& layer : report.layers) bits[format][layer.name] = 8 * layer.bytes;
    }
    const ModelFiles files =
        open_model_files(options_.quantize.model, options_.quantize.lora, LoraUse::kMerge);
    const auto& known = bits.at(outputs[0].qformat);
    const auto add_block = [&](const BlockGraph& block) {
      for (const InputGroup& group : input_groups(block)) add_group(block, group, bits, known);
    };
    for_each_block(files.graph, add_block);
    if (report_.groups.empty()) {
      throw Error(ErrorCode::kUsage, "everything is excluded: there is nothing to choose");
    }
  }

  void add_group(const BlockGraph& block, const InputGroup& group,
                 const std::map<std::string, std::map<std::string, int64_t>>& bits,
                 const std::map<std::string, int64_t>& known) {
    MixedGroup mixed;
    mixed.bits.assign(options_.formats.size(), 0);
    mixed.loss.assign(options_.formats.size(), 0.0);
    int64_t weights = 0;
    for (const size_t index : group.linears) {
      const std::string name = block.full_name(block.ops[index]);
      const int64_t size = block.out_features(block.ops[index]) * group.in_features;
      // Linears that keep 16 bits in the first format are not for compressing.
      const auto found = known.find(name);
      if (found == known.end() || found->second >= 16 * size) continue;
      mixed.linears.push_back(name);
      weights += size;
      for (size_t i = 0; i < options_.formats.size(); ++i) {
        const std::string& format = options_.formats[i];
        mixed.bits[i] += format == "full_prec" ? 16 * size : bits.at(format).at(name);
      }
    }
    if (mixed.linears.empty()) return;
    weights_ += weights;
    for (const std::string& name : mixed.linears) group_of_[name] = report_.groups.size();
    report_.groups.push_back(std::move(mixed));
  }

  EvaluateOptions evaluation(const std::vector<std::string>& candidates) const {
    EvaluateOptions evaluation;
    evaluation.baseline = baseline();
    evaluation.candidates = candidates;
    evaluation.text = probe_text();
    evaluation.parse_special = options_.quantize.parse_special;
    if (options_.quantize.rotate == "none") evaluation.lora = options_.quantize.lora;
    evaluation.ctx = options_.quantize.calibration_seqlen;
    evaluation.threads = options_.quantize.threads;
    evaluation.max_memory = options_.quantize.max_memory;
    return evaluation;
  }

  void probe() {
    std::vector<std::string> candidates;
    std::vector<size_t> format_of;
    for (size_t i = 0; i < options_.formats.size(); ++i) {
      if (options_.formats[i] == "full_prec") continue;
      candidates.push_back(folder_ / (options_.formats[i] + ".h5"));
      format_of.push_back(i);
    }
    EvaluateOptions probing = evaluation(candidates);
    probing.by_layer = true;
    probing.limit = static_cast<double>(options_.probe_windows);
    probing.layer_windows = options_.probe_windows;
    const EvaluateReport found = evaluate(probing, callbacks_);
    for (size_t c = 0; c < found.candidates.size(); ++c) {
      for (const LayerError& layer : found.candidates[c].layers) {
        const auto group = group_of_.find(layer.name);
        if (group == group_of_.end()) continue;
        report_.groups[group->second].loss[format_of[c]] += std::max(0.0, layer.kl_mean.value);
      }
    }
    for (const MixedGroup& group : report_.groups) costs_.push_back({group.bits, group.loss});
  }

  double bits_of(const std::vector<size_t>& choice) const {
    return static_cast<double>(total_bits(costs_, choice)) / static_cast<double>(weights_);
  }

  QuantizeOptions plan_options(const std::vector<size_t>& choice) const {
    QuantizeOptions plan = options_.quantize;
    std::map<size_t, int64_t> uses;
    for (const size_t format : choice) ++uses[format];
    const size_t usual = std::max_element(uses.begin(), uses.end(), [](auto& a, auto& b) {
                           return a.second < b.second;
                         })->first;
    plan.qformat = options_.formats[usual];
    for (size_t i = 0; i < choice.size(); ++i) {
      if (choice[i] == usual) continue;
      for (const std::string& name : report_.groups[i].linears) {
        plan.overrides.emplace_back("^" + escaped(name) + "$", options_.formats[choice[i]]);
      }
    }
    plan.stats.clear();
    plan.save_stats.clear();
    return plan;
  }

  // Compresses and measures the plan with at most so many bits a weight.
  void take(double bits) {
    const auto budget = static_cast<int64_t>(std::floor(bits * static_cast<double>(weights_)));
    const std::vector<size_t> choice = choose_formats(costs_, budget);
    if (options_.target_bits > 0 && total_bits(costs_, choice) > budget) {
      throw Error(ErrorCode::kUsage, "target_bits " + std::to_string(bits) +
                                         " is below the smallest plan, which has " +
                                         std::to_string(bits_of(choice)) + " bits a weight");
    }
    QuantizeOptions plan = plan_options(choice);
    plan.output = folder_ / "plan.h5";
    plan.force = true;
    MixedReport found;
    found.quantize = quantize(plan, callbacks_);
    EvaluateOptions verifying = evaluation({plan.output});
    verifying.limit = static_cast<double>(options_.verify_windows);
    const EvaluateReport measured = evaluate(verifying, callbacks_);
    const PerplexityResult& result = measured.candidates.at(0).perplexities.begin()->second;
    for (size_t i = 0; i < choice.size(); ++i) report_.groups[i].chosen = choice[i];
    report_.bits = bits_of(choice);
    report_.predicted_kl = total_loss(costs_, choice);
    report_.measured_kl = result.divergence.kl_mean;
    report_.ppl_ratio = result.ratio;
    report_.quantize = std::move(found.quantize);
    plan_ = std::move(plan);
    ++report_.trials;
  }

  bool passes() const {
    const Measured& ratio = report_.ppl_ratio;
    const double worst = ratio.interval ? ratio.interval->upper : ratio.value;
    return worst <= 1 + options_.max_loss;
  }

  // Bisection between the smallest and the largest plan; the smallest that passed is kept.
  void search_smallest() {
    const auto at = [&](bool largest) {
      double bits = 0;
      for (const FormatCosts& group : costs_) {
        const auto [low, high] = std::minmax_element(group.bits.begin(), group.bits.end());
        bits += static_cast<double>(largest ? *high : *low);
      }
      return bits / static_cast<double>(weights_);
    };
    double low = at(false);
    double high = options_.target_bits > 0 ? options_.target_bits : at(true);
    take(low + 1e-9);
    if (passes()) return;
    take(high);
    if (!passes()) {
      throw Error(ErrorCode::kGateFailed,
                  "no plan keeps max_loss: the largest of " + std::to_string(report_.bits) +
                      " bits a weight has a perplexity ratio of " +
                      std::to_string(report_.ppl_ratio.value) + " on the probe text");
    }
    double passed = report_.bits;
    bool last_passed = true;
    while (report_.trials < kTrials && high - low > 0.05) {
      const double middle = (low + high) / 2;
      take(middle);
      last_passed = passes();
      (last_passed ? high : low) = middle;
      if (last_passed) passed = report_.bits;
    }
    if (!last_passed) take(passed + 1e-9);
  }

  void publish() {
    const QuantizeOptions& wanted = options_.quantize;
    report_.recipe =
        options_.recipe_output.empty() ? wanted.output + ".recipe.json" : options_.recipe_output;
    Json recipe = {{"qformat", plan_.qformat}, {"overrides", Json::array()}};
    for (const auto& [pattern, name] : plan_.overrides) {
      recipe["overrides"].push_back({pattern, name});
    }
    if (wanted.output.ends_with(".h5")) {
      std::error_code error;
      fs::rename(plan_.output, wanted.output, error);
      if (error) {
        throw Error(ErrorCode::kWriteFailed, wanted.output + ": " + error.message());
      }
      report_.quantize.output = wanted.output;
    } else {
      // Shards are named after their folder: the same job once more.
      QuantizeOptions again = plan_;
      again.output = wanted.output;
      again.force = wanted.force;
      report_.quantize = quantize(again, callbacks_);
    }
    std::ofstream file(report_.recipe);
    file << recipe.dump(2) << "\n";
    if (!file.flush()) {
      throw Error(ErrorCode::kWriteFailed, report_.recipe + ": cannot be written");
    }
  }

  const MixedOptions& options_;
  const Callbacks& callbacks_;
  PlanFolder folder_;
  MixedReport report_;
  std::map<std::string, size_t> group_of_;
  std::vector<FormatCosts> costs_;
  int64_t weights_ = 0;
  QuantizeOptions plan_;
};

}  // namespace

MixedReport quantize_mixed(const MixedOptions& options, const Callbacks& callbacks) {
  check(options);
  return MixedPlan(options, callbacks).run();
}

std::string to_json(const MixedReport& report) {
  const auto measured = [](const Measured& value) {
    Json json = {{"value", value.value}, {"se", value.standard_error}};
    if (value.interval) json["ci"] = {value.interval->lower, value.interval->upper};
    return json;
  };
  Json groups = Json::array();
  for (const MixedGroup& group : report.groups) {
    groups.push_back({{"linears", group.linears},
                      {"bits", group.bits},
                      {"loss", group.loss},
                      {"chosen", report.formats[group.chosen]}});
  }
  return Json{{"schema", "pare.mixed/1"},
              {"formats", report.formats},
              {"bits", report.bits},
              {"predicted_kl", report.predicted_kl},
              {"measured_kl", measured(report.measured_kl)},
              {"ppl_ratio", measured(report.ppl_ratio)},
              {"trials", report.trials},
              {"recipe", report.recipe},
              {"groups", groups},
              {"quantize", Json::parse(to_json(report.quantize))}}
      .dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace pare
