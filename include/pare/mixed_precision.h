// Chooses a format for each layer, and whether it is pruned, under a budget of bits or of loss.
//
//   pare::MixedOptions options;
//   options.quantize.model = "models/llama";
//   options.quantize.output = "llama-5bit.h5";
//   options.quantize.calibration = "c4_sample.jsonl";
//   options.formats = {"int4_awq", "int8_sq", "fp8"};
//   options.target_bits = 5.0;
//   pare::MixedReport report = pare::quantize_mixed(options, {});
//
// 1. The model is calibrated once and compressed in every format.
// 2. Probe: with one linear of one format at a time in the uncompressed model, the divergence of
//    its predictions. Linears that share an input stay together, because engines fuse them.
// 3. Of each group of linears the format that is best at a price of λ a bit; λ such that the budget
//    is met (Lagrange), what is left is spent where it gains most.
// 4. The plan is compressed, and its true divergence measured.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pare/export.h"
#include "pare/measured.h"
#include "pare/progress.h"
#include "pare/quantize.h"

namespace pare {

struct MixedOptions {
  /// Everything else; qformat is not used, overrides must be empty.
  QuantizeOptions quantize;
  std::vector<std::string> formats;  ///< At least two; full_prec leaves weights unquantized.
  /// With quantize.sparsity: each layer may also stay dense. One format is enough then.
  bool choose_sparsity = false;

  /// Bits a weight of the linears that may change, scales included; 0: no limit.
  double target_bits = 0;
  /// The largest relative rise of perplexity on the probe text, by the worse end of its 95 %
  /// interval: the smallest plan that was found to pass is taken; 0: not asked for.
  double max_loss = 0;

  std::string probe_text;       ///< "": the calibration text.
  int64_t probe_windows = 8;    ///< For each linear and format.
  int64_t verify_windows = 64;  ///< For the plan.
  std::string recipe_output;    ///< Where the plan goes; "": output + ".recipe.json".
};

/// What a layer may become.
struct LayerChoice {
  std::string qformat;
  bool sparse = false;
};

/// What the probe found, and the choice.
struct MixedGroup {
  std::vector<std::string> linears;  ///< That share an input.
  std::vector<int64_t> bits;         ///< By alternative, of all its weights.
  std::vector<double> loss;          ///< By alternative: divergence, nats a token.
  size_t chosen = 0;                 ///< Index into alternatives.
};

struct MixedReport {
  std::vector<LayerChoice> alternatives;
  std::vector<MixedGroup> groups;
  double bits = 0;          ///< A weight, of the linears that may change.
  double predicted_kl = 0;  ///< Sum of the groups' losses.
  Measured measured_kl;     ///< Of the plan.
  Measured ppl_ratio;       ///< Of the plan, on the probe text.
  int64_t trials = 0;       ///< Plans that were compressed and measured.
  std::string recipe;       ///< The file.
  QuantizeReport quantize;  ///< Of the plan.
};

/// Throws pare::Error; kGateFailed when not even the largest plan keeps max_loss.
PARE_EXPORT MixedReport quantize_mixed(const MixedOptions& options, const Callbacks& callbacks);

/// Schema "pare.mixed/1".
PARE_EXPORT std::string to_json(const MixedReport& report);

}  // namespace pare
