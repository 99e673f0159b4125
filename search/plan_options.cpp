#include "search/plan_options.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

namespace pare {
namespace {

// A regular expression for this name alone.
std::string pattern_of(const std::string& name) {
  std::string text = "^";
  for (const char c : name) {
    if (std::string_view("\\^$.|?*+()[]{}").find(c) != std::string_view::npos) text += '\\';
    text += c;
  }
  return text + "$";
}

}  // namespace

QuantizeOptions without_sparsity(QuantizeOptions options) {
  options.sparsity = "none";
  options.sparsity_skip.clear();
  options.permute_channels = QuantizeOptions{}.permute_channels;
  return options;
}

QuantizeOptions plan_options(const QuantizeOptions& base, const MixedReport& report,
                             std::span<const size_t> choice) {
  QuantizeOptions plan = base;
  std::map<std::string, int64_t> uses;
  bool sparse = false;
  for (const size_t one : choice) {
    ++uses[report.alternatives[one].qformat];
    sparse = sparse || report.alternatives[one].sparse;
  }
  plan.qformat = std::max_element(uses.begin(), uses.end(), [](auto& a, auto& b) {
                   return a.second < b.second;
                 })->first;
  if (!sparse) plan = without_sparsity(std::move(plan));
  for (size_t i = 0; i < choice.size(); ++i) {
    const LayerChoice& chosen = report.alternatives[choice[i]];
    for (const std::string& name : report.groups[i].linears) {
      if (chosen.qformat != plan.qformat) {
        plan.overrides.emplace_back(pattern_of(name), chosen.qformat);
      }
      if (sparse && !chosen.sparse) plan.sparsity_skip.push_back(pattern_of(name));
    }
  }
  plan.stats.clear();
  plan.save_stats.clear();
  return plan;
}

}  // namespace pare
