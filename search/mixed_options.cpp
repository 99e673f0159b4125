#include "search/mixed_options.h"

#include <set>

#include "formats/output_file.h"
#include "model/model_files.h"
#include "pare/error.h"
#include "pipeline/recipe_file.h"

namespace pare {

std::string recipe_path(const MixedOptions& options) {
  return options.recipe_output.empty() ? path_beside(options.quantize.output, ".recipe.json")
                                       : options.recipe_output;
}

MixedOptions resolve_options(const MixedOptions& given) {
  MixedOptions options = given;
  options.quantize = apply_recipe_file(given.quantize);
  options.quantize.recipe.clear();
  if (options.choose_sparsity && options.formats.empty()) {
    options.formats = {options.quantize.qformat};
  }
  return options;
}

void check_options(const MixedOptions& options) {
  const auto require = [](bool holds, const std::string& what) {
    if (!holds) throw Error(ErrorCode::kUsage, what);
  };
  const QuantizeOptions& job = options.quantize;
  require(!options.choose_sparsity || job.sparsity != "none",
          "choosing which layers stay dense needs a sparsity: give --sparsity sparsegpt");
  require(options.formats.size() >= (options.choose_sparsity ? 1 : 2),
          "a mixed plan needs at least two formats");
  const std::set<std::string> distinct(options.formats.begin(), options.formats.end());
  require(distinct.size() == options.formats.size(), "a format is named twice");
  require(options.target_bits > 0 || options.max_loss > 0,
          "a mixed plan needs target_bits or max_loss");
  require(job.algo == "auto" || job.algo == "rtn",
          "a mixed plan takes algo auto or rtn, which all formats have; found " + job.algo);
  require(job.overrides.empty(),
          "a mixed plan makes its own overrides; exclude layers that must not change");
  require(!job.calibration.empty(), "a mixed plan needs calibration text: give --calib");
  require(job.work_dir.empty() && !job.dry_run,
          "a mixed plan takes neither a work_dir nor a dry run");
  require(options.probe_windows > 0 && options.verify_windows > 0,
          "probe_windows and verify_windows must be at least 1");
  require(!job.output.empty(), "a mixed plan needs an output");
  check_output_place(job.output, !job.output.ends_with(".h5"), job.force);
  check_output_place(recipe_path(options), /*folder=*/false, job.force);
  if (!job.save_stats.empty()) {
    check_output_place(job.save_stats, !job.save_stats.ends_with(".h5"), job.force);
  }
  require(!open_model_files(job.model, job.lora, LoraUse::kMerge).graph.encoder,
          "a mixed plan needs errors by layer, which models with an encoder do not have; use "
          "--override");
}

}  // namespace pare
