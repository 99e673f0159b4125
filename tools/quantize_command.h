// The command line of quantize: its options, and what they mean.
#pragma once

#include <string>
#include <vector>

#include "pare/mixed_precision.h"
#include "pare/quantize.h"
#include "tools/arguments.h"

namespace pare::tools {

/// What the command line says; strings where a value has its own syntax.
struct Command {
  QuantizeOptions options;
  std::string smooth_strength = "auto";
  std::string dtype;
  std::string export_formats;
  int64_t tp_size = 0;  ///< 0: not given
  int64_t pp_size = 0;
  std::string max_memory;
  std::string seed = "0";
  std::string rotate_seed = "0";
  std::string progress = "auto";
  std::vector<std::string> overrides;
  MixedOptions mixed;
  std::string formats;
  std::string max_loss;
  bool json = false;
  bool quiet = false;
  bool list_qformats = false;
  bool list_architectures = false;
  bool version = false;
  bool help = false;
};

/// Binds the options to `command`, which must outlive the parsing.
void describe_options(CLI::App& app, Command& command);

/// Whether layers are given one of several formats, or pruned or not.
bool is_mixed(const MixedOptions& options);

/// Names of the options that were typed, in the form of a recipe's keys.
std::vector<std::string> typed_keys(const CLI::App& app);

/// The output of each format: -o, with its name where {qformat} stands.
std::vector<FormatOutput> format_outputs(const QuantizeOptions& options);

/// Gives the strings of the command line their meaning. REQUIRES: command.options.explicit_options.
/// Throws Error(kUsage) for what cannot be.
void resolve(Command& command);

}  // namespace pare::tools
