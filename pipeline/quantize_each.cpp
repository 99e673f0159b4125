// Several formats of one model, calibrated once.
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include "pare/quantize.h"

namespace pare {

std::vector<QuantizeReport> quantize_each(const QuantizeOptions& options,
                                          const std::vector<FormatOutput>& outputs,
                                          const Callbacks& callbacks) {
  namespace fs = std::filesystem;
  // Removed however this ends.
  struct Temporary {
    std::string path;
    ~Temporary() {
      std::error_code ignored;
      if (!path.empty()) fs::remove(path, ignored);
    }
  } temporary;
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
      temporary.path = one.output + ".pare-stats.h5";
      fs::remove(temporary.path);  // of a run that was killed
      job.save_stats = temporary.path;
    }
    reports.push_back(quantize(job, callbacks));
    if (calibrates && options.kv_cache == "none") {
      statistics = job.stats.empty() ? job.save_stats : job.stats;
    }
  }
  return reports;
}

}  // namespace pare
