#include "pare/mixed_precision.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <span>
#include <utility>

#include "core/temporary_path.h"
#include "formats/output_file.h"
#include "model/block_parameters.h"
#include "model/input_groups.h"
#include "model/model_files.h"
#include "pare/error.h"
#include "pare/evaluate.h"
#include "pipeline/recipe_file.h"
#include "search/format_choice.h"
#include "search/mixed_options.h"
#include "search/plan_options.h"

namespace pare {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int kTrials = 6;  // of plans under a budget of loss

// A folder beside the output that is removed however this ends.
class PlanFolder {
 public:
  explicit PlanFolder(const std::string& output) : folder_(path_beside(output, ".pare-plan")) {
    std::error_code error;
    if (!fs::create_directories(folder_.path(), error)) {
      throw Error(ErrorCode::kWriteFailed, folder_.path() + ": cannot be made: " + error.message());
    }
  }

  std::string operator/(const std::string& name) const {
    return (fs::path(folder_.path()) / name).string();
  }

 private:
  TemporaryPath folder_;
};

// One linear in one of the files: its size, and noise over signal of its output.
struct FoundLayer {
  int64_t bits = 0;
  double noise = 0;
};
using LayersOfFile = std::map<std::string, FoundLayer>;

double relative_noise(const LayerReport& layer) {
  return layer.sqnr_db ? std::pow(10.0, -*layer.sqnr_db / 10) : 0.0;
}

class MixedPlan {
 public:
  MixedPlan(const MixedOptions& options, const Callbacks& callbacks)
      : options_(options), callbacks_(callbacks), folder_(options.quantize.output) {
    const bool sparse = options.quantize.sparsity != "none";
    for (const std::string& name : options.formats) {
      report_.alternatives.push_back({name, sparse});
      if (options.choose_sparsity) report_.alternatives.push_back({name, false});
    }
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

  static bool is_unchanged(const LayerChoice& choice) {
    return choice.qformat == "full_prec" && !choice.sparse;
  }
  std::string file_of(const LayerChoice& choice) const {
    return folder_ / (choice.qformat + (choice.sparse ? "-sparse.h5" : ".h5"));
  }

  // Every alternative once, with what calibration found in a file.
  void compress_all() {
    QuantizeOptions each = options_.quantize;
    each.kv_cache = "none";  // It is the plan's.
    if (each.stats.empty() && each.save_stats.empty()) each.save_stats = folder_ / "stats.h5";
    std::map<std::string, LayersOfFile> found;
    for (const bool sparse : {true, false}) {
      std::vector<FormatOutput> outputs;
      for (const LayerChoice& choice : report_.alternatives) {
        if (choice.sparse == sparse && !is_unchanged(choice)) {
          outputs.push_back({choice.qformat, file_of(choice)});
        }
      }
      // Rotation changes every layer's input: layers are compared with the rotated model.
      if (!sparse && each.rotate != "none") {
        outputs.push_back({"full_prec", folder_ / "baseline.h5"});
      }
      if (outputs.empty()) continue;
      if (!sparse) each = without_sparsity(std::move(each));
      for (const QuantizeReport& report : quantize_each(each, outputs, callbacks_)) {
        LayersOfFile& layers = found[report.output];
        for (const LayerReport& layer : report.layers) {
          layers[layer.name] = {8 * layer.bytes, relative_noise(layer)};
        }
        for (const ExpertReport& expert : report.experts) {
          share_of_expert_[expert.name] =
              static_cast<double>(expert.tokens) / static_cast<double>(report.calibration_tokens);
        }
      }
      if (each.stats.empty()) each.stats = std::exchange(each.save_stats, "");
    }
    const ModelFiles files =
        open_model_files(options_.quantize.model, options_.quantize.lora, LoraUse::kMerge);
    const auto add_block = [&](const BlockGraph& block) {
      for (const InputGroup& group : input_groups(block)) add_group(block, group, found);
    };
    for_each_block(files.graph, add_block);
    if (report_.groups.empty()) {
      throw Error(ErrorCode::kUsage, "everything is excluded: there is nothing to choose");
    }
  }

  void add_group(const BlockGraph& block, const InputGroup& group,
                 const std::map<std::string, LayersOfFile>& found) {
    const size_t count = report_.alternatives.size();
    MixedGroup mixed{{}, std::vector<int64_t>(count, 0), std::vector<double>(count, 0.0)};
    std::vector<double> noise(count, 0.0);
    int64_t weights = 0;
    for (const size_t index : group.linears) {
      const std::string name = block.full_name(block.ops[index]);
      const int64_t size = block.out_features(block.ops[index]) * group.in_features;
      std::vector<FoundLayer> own;
      for (const LayerChoice& choice : report_.alternatives) {
        const auto file = found.find(file_of(choice));
        own.push_back(file != found.end() && file->second.contains(name)
                          ? file->second.at(name)
                          : FoundLayer{16 * size, 0});
      }
      // Linears that keep 16 bits whatever is chosen are not for compressing.
      const auto keeps = [&](const FoundLayer& layer) { return layer.bits >= 16 * size; };
      if (std::all_of(own.begin(), own.end(), keeps)) continue;
      mixed.linears.push_back(name);
      weights += size;
      for (size_t i = 0; i < count; ++i) {
        mixed.bits[i] += own[i].bits;
        noise[i] += own[i].noise;
      }
    }
    if (mixed.linears.empty()) return;
    weights_ += weights;
    for (const std::string& name : mixed.linears) group_of_[name] = report_.groups.size();
    report_.groups.push_back(std::move(mixed));
    noise_.push_back(std::move(noise));
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
    std::vector<size_t> alternative_of;
    for (size_t i = 0; i < report_.alternatives.size(); ++i) {
      if (is_unchanged(report_.alternatives[i])) continue;
      candidates.push_back(file_of(report_.alternatives[i]));
      alternative_of.push_back(i);
    }
    EvaluateOptions probing = evaluation(candidates);
    probing.by_layer = true;
    probing.limit = static_cast<double>(options_.probe_windows);
    probing.layer_windows = options_.probe_windows;
    const EvaluateReport found = evaluate(probing, callbacks_);
    std::vector<bool> probed(report_.groups.size(), false);
    for (size_t c = 0; c < found.candidates.size(); ++c) {
      for (const LayerError& layer : found.candidates[c].layers) {
        const auto group = group_of_.find(layer.name);
        if (group == group_of_.end()) continue;
        probed[group->second] = true;
        report_.groups[group->second].loss[alternative_of[c]] += std::max(0.0, layer.kl_mean.value);
      }
    }
    estimate_experts(probed);
    for (const MixedGroup& group : report_.groups) costs_.push_back({group.bits, group.loss});
  }

  // The probe leaves experts out. Their relative output noise is known from compressing them; what
  // that costs is taken from the linears that were probed, for the tokens that an expert sees.
  void estimate_experts(const std::vector<bool>& probed) {
    for (size_t i = 0; i < report_.alternatives.size(); ++i) {
      double loss = 0;
      double noise = 0;
      for (size_t g = 0; g < probed.size(); ++g) {
        if (!probed[g]) continue;
        loss += report_.groups[g].loss[i];
        noise += noise_[g][i];
      }
      if (!(noise > 0)) continue;
      for (size_t g = 0; g < probed.size(); ++g) {
        if (probed[g]) continue;
        MixedGroup& group = report_.groups[g];
        group.loss[i] = loss / noise * noise_[g][i] * share_of(group.linears[0]);
      }
    }
  }

  // Of the tokens, those that reach a linear: one of an expert has the expert's name in front.
  double share_of(const std::string& linear) const {
    for (size_t end = linear.rfind('.'); end != std::string::npos && end > 0;
         end = linear.rfind('.', end - 1)) {
      const auto expert = share_of_expert_.find(linear.substr(0, end));
      if (expert != share_of_expert_.end()) return expert->second;
    }
    return 1;
  }

  double bits_of(const std::vector<size_t>& choice) const {
    return static_cast<double>(total_bits(costs_, choice)) / static_cast<double>(weights_);
  }

  // Bits a weight of the linears that may change, as they were stored.
  double stored_bits(const QuantizeReport& report) const {
    int64_t bits = 0;
    for (const LayerReport& layer : report.layers) {
      if (group_of_.contains(layer.name)) bits += 8 * layer.bytes;
    }
    return static_cast<double>(bits) / static_cast<double>(weights_);
  }

  QuantizeReport compress_plan(const std::vector<size_t>& choice) {
    plan_ = plan_options(options_.quantize, report_, choice);
    plan_.output = folder_ / "plan.h5";
    plan_.force = true;
    return quantize(plan_, callbacks_);
  }

  // Compresses and measures the plan with at most so many bits a weight. Formats that meet can need
  // more than each took by itself (a scale that no neighbour absorbs any more is stored): the
  // budget is lowered until what is stored keeps it.
  void take(double bits) {
    double asked = bits;
    std::vector<size_t> choice;
    QuantizeReport compressed;
    for (;;) {
      const auto budget = static_cast<int64_t>(std::floor(asked * static_cast<double>(weights_)));
      choice = choose_formats(costs_, budget);
      if (options_.target_bits > 0 && total_bits(costs_, choice) > budget) fail_target(choice);
      compressed = compress_plan(choice);
      report_.bits = stored_bits(compressed);
      if (options_.target_bits == 0 || report_.bits <= options_.target_bits) break;
      asked = std::min(asked, bits_of(choice)) - (report_.bits - options_.target_bits);
    }
    EvaluateOptions verifying = evaluation({plan_.output});
    verifying.limit = static_cast<double>(options_.verify_windows);
    const EvaluateReport measured = evaluate(verifying, callbacks_);
    const PerplexityResult& result = measured.candidates.at(0).perplexities.begin()->second;
    for (size_t i = 0; i < choice.size(); ++i) report_.groups[i].chosen = choice[i];
    report_.predicted_kl = total_loss(costs_, choice);
    report_.measured_kl = result.divergence.kl_mean;
    report_.ppl_ratio = result.ratio;
    report_.quantize = std::move(compressed);
    ++report_.trials;
  }

  [[noreturn]] void fail_target(const std::vector<size_t>& choice) const {
    throw Error(ErrorCode::kUsage, "target_bits " + std::to_string(options_.target_bits) +
                                       " is below the smallest plan, which has " +
                                       std::to_string(bits_of(choice)) + " bits a weight");
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
    if (low > high) fail_target(choose_formats(costs_, 0));
    take(low + 1e-9);
    if (passes()) return;
    take(high);
    if (!passes()) {
      throw Error(ErrorCode::kGateFailed,
                  "no plan keeps max_loss: the largest of " + std::to_string(report_.bits) +
                      " bits a weight has a perplexity ratio of " +
                      std::to_string(report_.ppl_ratio.value) + " on the probe text");
    }
    bool last_passed = true;
    while (report_.trials < kTrials && high - low > 0.05) {
      const double middle = (low + high) / 2;
      take(middle);
      last_passed = passes();
      (last_passed ? high : low) = middle;
    }
    if (!last_passed) take(high);
  }

  void publish() {
    const QuantizeOptions& wanted = options_.quantize;
    report_.recipe = recipe_path(options_);
    Json recipe = recipe_values(plan_);
    recipe["calib_size"] = plan_.calibration_size;
    recipe["calib_seqlen"] = plan_.calibration_seqlen;
    recipe["seed"] = plan_.seed;
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
    const std::string text = recipe.dump(2) + "\n";
    OutputFile file(report_.recipe, wanted.force);
    file.append(std::as_bytes(std::span(text)));
    file.commit();
    if (options_.probe_text.empty()) {
      report_.quantize.warnings.push_back(
          "layers and plans were judged on the calibration text, which the weights were fitted to; "
          "--probe-text judges them on other text");
    }
  }

  const MixedOptions options_;
  const Callbacks& callbacks_;
  PlanFolder folder_;
  MixedReport report_;
  std::map<std::string, size_t> group_of_;
  std::vector<std::vector<double>> noise_;         // of the groups, by alternative
  std::map<std::string, double> share_of_expert_;  // of the calibration tokens
  std::vector<FormatCosts> costs_;
  int64_t weights_ = 0;
  QuantizeOptions plan_;
};

}  // namespace

MixedReport quantize_mixed(const MixedOptions& options, const Callbacks& callbacks) {
  const MixedOptions resolved = resolve_options(options);
  check_options(resolved);
  return MixedPlan(resolved, callbacks).run();
}

}  // namespace pare
