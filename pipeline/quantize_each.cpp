// Several formats of one model, calibrated once.
#include <optional>
#include <string>
#include <vector>

#include "core/temporary_path.h"
#include "formats/output_file.h"
#include "pare/quantize.h"
#include "pipeline/recipe_file.h"

namespace pare {

std::vector<QuantizeReport> quantize_each(const QuantizeOptions& given,
                                          const std::vector<FormatOutput>& outputs,
                                          const Callbacks& callbacks) {
  // Now, because a recipe must not win against the formats of the outputs.
  QuantizeOptions options = apply_recipe_file(given);
  options.recipe.clear();
  std::optional<TemporaryPath> temporary;
  std::string statistics = options.stats;
  std::vector<QuantizeReport> reports;
  for (const FormatOutput& one : outputs) {
    QuantizeOptions job = options;
    job.qformat = one.qformat;
    job.output = one.output;
    const bool calibrates = !options.dry_run && !options.calibration.empty();
    if (!statistics.empty()) {
      job.stats = statistics;
      job.save_stats.clear();
    } else if (calibrates && options.kv_cache != "none") {
      // The cache is calibrated on the text itself, so that each format reads it anew.
      job.uncompressed_inputs = job.uncompressed_inputs || outputs.size() > 1;
    } else if (calibrates && outputs.size() > 1 && job.save_stats.empty()) {
      job.save_stats = temporary.emplace(path_beside(one.output, ".pare-stats.h5")).path();
    }
    reports.push_back(quantize(job, callbacks));
    if (calibrates && options.kv_cache == "none") {
      statistics = job.stats.empty() ? job.save_stats : job.stats;
    }
    options.save_stats.clear();
  }
  return reports;
}

}  // namespace pare
