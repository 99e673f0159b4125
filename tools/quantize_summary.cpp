#include "tools/quantize_summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <utility>
#include <vector>

#include "tools/main_guard.h"
#include "tools/table.h"

namespace pare::tools {
namespace {

constexpr size_t kWorstLayers = 5;

std::string plan_table(const std::vector<LayerReport>& layers) {
  TextTable table({"Layer", "Shape", "Format", "Size"},
                  {Align::kLeft, Align::kLeft, Align::kLeft, Align::kRight});
  for (const LayerReport& layer : layers) {
    table.add({printable(layer.name), fmt::format("{}", fmt::join(layer.shape, "x")), layer.qformat,
               format_bytes(layer.bytes)});
  }
  return table.render();
}

/// The layers that lost most, worst first.
std::string worst_table(std::vector<LayerReport> layers) {
  std::erase_if(layers, [](const LayerReport& layer) { return !layer.sqnr_db; });
  if (layers.empty()) return "";
  std::stable_sort(layers.begin(), layers.end(), [](const LayerReport& a, const LayerReport& b) {
    return *a.sqnr_db < *b.sqnr_db;
  });
  if (layers.size() > kWorstLayers) layers.resize(kWorstLayers);
  TextTable table(
      {"Layer", "Shape", "Format", "dB", "RTN", "How"},
      {Align::kLeft, Align::kLeft, Align::kLeft, Align::kRight, Align::kRight, Align::kLeft});
  for (const LayerReport& layer : layers) {
    table.add({printable(layer.name), fmt::format("{}", fmt::join(layer.shape, "x")), layer.qformat,
               fmt::format("{:.1f}", *layer.sqnr_db),
               layer.rtn_sqnr_db ? fmt::format("{:.1f}", *layer.rtn_sqnr_db) : "-",
               printable(layer.detail)});
  }
  return "\nLowest signal-to-noise ratios of outputs, dB; RTN: of rounding to nearest:\n" +
         table.render();
}

/// "int4_awq 27, bf16 1; 2:4 sparse 28": what was done, which a recipe may have decided.
std::string linear_counts(const std::vector<LayerReport>& layers) {
  std::map<std::string, int> formats;
  int64_t sparse = 0;
  for (const LayerReport& layer : layers) {
    ++formats[layer.qformat];
    if (layer.sparsity >= 0.5) ++sparse;
  }
  std::string text;
  for (const auto& [format, count] : formats) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", format, count);
  }
  if (sparse > 0) text += fmt::format("; 2:4 sparse {}", sparse);
  return text;
}

std::string expert_counts(const std::vector<ExpertReport>& experts) {
  std::vector<int64_t> tokens;
  int64_t helped = 0;
  for (const ExpertReport& expert : experts) {
    tokens.push_back(expert.tokens);
    if (expert.added > 0) ++helped;
  }
  std::sort(tokens.begin(), tokens.end());
  std::string text =
      fmt::format("{}, chosen by {} to {} calibration tokens each, half of them by {} or more",
                  format_count(static_cast<int64_t>(experts.size())), format_count(tokens.front()),
                  format_count(tokens.back()), format_count(tokens[tokens.size() / 2]));
  if (helped > 0) {
    text += fmt::format("; {} of them calibrated on others' tokens as well", format_count(helped));
  }
  return text;
}

/// "fp8 in 8 attentions, a scale each head": the quantized cache of keys and values.
std::string cache_text(const std::vector<CacheReport>& caches) {
  const CacheReport& first = caches.front();
  return fmt::format("{} in {} attention{}, a scale each {}{}", first.format,
                     format_count(static_cast<int64_t>(caches.size())),
                     caches.size() == 1 ? "" : "s", first.scales,
                     first.affine ? ", an offset each channel" : "");
}

/// The attentions whose keys or values lost most.
std::string cache_table(std::vector<CacheReport> caches) {
  const auto lowest = [](const CacheReport& cache) {
    constexpr double kNoNoise = 1000;
    return std::min(cache.keys.sqnr_db.value_or(kNoNoise), cache.values.sqnr_db.value_or(kNoNoise));
  };
  if (caches.empty()) return "";
  std::stable_sort(caches.begin(), caches.end(), [&](const CacheReport& a, const CacheReport& b) {
    return lowest(a) < lowest(b);
  });
  if (caches.size() > kWorstLayers) caches.resize(kWorstLayers);
  TextTable table({"Cache", "Keys", "SQNR dB", "Values", "SQNR dB"},
                  {Align::kLeft, Align::kRight, Align::kRight, Align::kRight, Align::kRight});
  const auto range = [](const CacheFigures& figures) {
    return fmt::format("{:.3g} to {:.3g}", figures.minimum, figures.maximum);
  };
  const auto decibel = [](const CacheFigures& figures) {
    return figures.sqnr_db ? fmt::format("{:.1f}", *figures.sqnr_db) : std::string("-");
  };
  for (const CacheReport& cache : caches) {
    table.add({printable(cache.name), range(cache.keys), decibel(cache.keys), range(cache.values),
               decibel(cache.values)});
  }
  return "\nCaches with the lowest signal-to-noise ratio of keys or values:\n" + table.render();
}

/// The experts that the fewest calibration tokens chose.
std::string fewest_table(std::vector<ExpertReport> experts) {
  if (experts.empty()) return "";
  std::stable_sort(
      experts.begin(), experts.end(),
      [](const ExpertReport& a, const ExpertReport& b) { return a.tokens < b.tokens; });
  if (experts.size() > kWorstLayers) experts.resize(kWorstLayers);
  TextTable table({"Expert", "Tokens", "Others' tokens"},
                  {Align::kLeft, Align::kRight, Align::kRight});
  for (const ExpertReport& expert : experts) {
    table.add({printable(expert.name), format_count(expert.tokens), format_count(expert.added)});
  }
  return "\nExperts that the fewest calibration tokens chose:\n" + table.render();
}

}  // namespace

std::string quantize_summary(const QuantizeReport& report, const QuantizeOptions& options) {
  TextTable table(
      {options.dry_run ? "Plan" : "Result", options.output.empty() ? "-" : report.output},
      {Align::kLeft, Align::kLeft});
  table.add({"Linears", linear_counts(report.layers)});
  table.add(
      {"Weights", fmt::format("{} ({} bytes), {:.3f} bits per weight", format_bytes(report.bytes),
                              format_count(report.bytes), report.bits_per_weight)});
  if (report.rotation.kind != "none") {
    table.add({"Rotation", fmt::format("{}, {}", report.rotation.kind, report.rotation.matrix)});
    if (report.rotation.untied_head_bytes > 0) {
      table.add({"Own head", fmt::format("{}, apart from the embedding now",
                                         format_bytes(report.rotation.untied_head_bytes))});
    }
  }
  if (report.file_bytes > 0) {
    table.add({"File", fmt::format("{} ({} bytes)", format_bytes(report.file_bytes),
                                   format_count(report.file_bytes))});
  }
  if (report.calibration_tokens > 0) {
    table.add({"Calibration", fmt::format("{} tokens", format_count(report.calibration_tokens))});
  }
  if (!report.caches.empty()) table.add({"KV cache", cache_text(report.caches)});
  if (!report.experts.empty()) table.add({"Experts", expert_counts(report.experts)});
  if (report.planned_memory_bytes > 0) {
    table.add({"Memory needed", format_bytes(report.planned_memory_bytes)});
  }
  if (!options.dry_run) {
    std::string time = fmt::format("{:.1f} s", report.seconds);
    std::string separator = ": ";
    for (const auto& [phase, seconds] : report.phase_seconds) {
      if (seconds < 0.05) continue;
      time += fmt::format("{}{} {:.1f}", std::exchange(separator, ", "), phase, seconds);
    }
    table.add({"Time", time});
    table.add({"Peak memory", format_bytes(report.peak_rss_bytes)});
    if (!report.sha256.empty()) table.add({"SHA-256", report.sha256});
  }
  int64_t clipped = 0;
  int64_t weights = 0;
  int64_t fallbacks = 0;
  for (const LayerReport& layer : report.layers) {
    clipped += layer.clipped_weights;
    if (layer.qformat != "bf16") {
      weights +=
          std::accumulate(layer.shape.begin(), layer.shape.end(), int64_t{1}, std::multiplies<>());
    }
    fallbacks += layer.fallback.empty() ? 0 : 1;
  }
  if (clipped > 0) {
    table.add(
        {"Clipped weights", fmt::format("{} of {}", format_count(clipped), format_count(weights))});
  }
  if (fallbacks > 0) {
    table.add({"Fallbacks", fmt::format("{} layers; --json says what and why", fallbacks)});
  }
  table.add({"Warnings", fmt::format("{}", report.warnings.size())});
  return table.render() + (options.dry_run
                               ? "\n" + plan_table(report.layers)
                               : worst_table(report.layers) + cache_table(report.caches) +
                                     fewest_table(report.experts));
}

std::string mixed_summary(const MixedReport& report, const QuantizeOptions& options) {
  TextTable table({"Plan", report.recipe}, {Align::kLeft, Align::kLeft});
  table.add(
      {"Bits per weight", fmt::format("{:.3f}, of the linears that may change", report.bits)});
  const auto figure = [](const Measured& value, int digits) {
    return fmt::format("{:.{}f} ± {:.{}f}", value.value, digits, value.standard_error, digits);
  };
  table.add(
      {"Perplexity", fmt::format("ratio {}, on the probe text", figure(report.ppl_ratio, 4))});
  table.add({"Mean KL", fmt::format("{}; sum of the layers alone: {:.4f}",
                                    figure(report.measured_kl, 4), report.predicted_kl)});
  table.add({"Plans tried", fmt::format("{}", report.trials)});
  return table.render() + "\n" + quantize_summary(report.quantize, options);
}

}  // namespace pare::tools
