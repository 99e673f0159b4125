// What both programs do with their command line, around CLI11: spelling, suggestions, sizes, help.
//
// Long options may be typed with "-" or "_"; an option that does not exist is refused with the
// nearest one that does. Everything here throws pare::Error(kUsage) on what it cannot accept.
// Stateless and safe to call from any thread.
//
//   CLI::App app;
//   app.add_option("--calib_size", size, "Windows of calibration text");
//   parse_arguments(app, {"--calib-size", "128"}, {});
#pragma once

#include <CLI/CLI.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pare::tools {

/// The program's arguments without its name.
std::vector<std::string> arguments_of(int argc, char** argv);

/// Parses into the variables bound to `app`. `later` names options, without dashes, that are part
/// of the interface but not of this version; they are refused by name. So is an option without its
/// value, and one that is given twice and holds one value: neither of two wins in silence.
void parse_arguments(CLI::App& app, std::vector<std::string> arguments,
                     const std::vector<std::string>& later);

/// Of `known`, the name with the fewest edits from `word` ("-" and "_" count as equal), or "" when
/// none is near enough to be what was meant.
std::string nearest(std::string_view word, const std::vector<std::string>& known);

/// Bytes in "8GiB", "800MB", "1.5G" or "4096". KB, MB … are powers of 1000; KiB, K, MiB, M … of
/// 1024. Here and below, `option` is named in the message, for example "--max-memory".
int64_t parse_size(std::string_view text, std::string_view option);

/// 0.01 from "1%". The sign is required: a bare "1" could mean either.
double parse_percent(std::string_view text, std::string_view option);

/// A decimal number that fills all of `text`.
double parse_number(std::string_view text, std::string_view option);

/// A whole number from 0 to 2^64 − 1 that fills all of `text`.
uint64_t parse_unsigned(std::string_view text, std::string_view option);

/// Throws Error(kUsage) unless `value` is in `known`; suggests the nearest.
void check_choice(const std::string& value, const std::vector<std::string>& known,
                  std::string_view option);

/// Parts of "a,b,c"; empty ones are dropped.
std::vector<std::string> split_list(std::string_view text);

/// Column at which descriptions of options begin on a help page.
inline constexpr size_t kHelpIndent = 28;

/// The page that --help prints: usage, examples, then the options by group with defaults, within
/// 80 columns.
std::string help_page(const CLI::App& app, std::string_view usage,
                      const std::vector<std::string>& examples);

}  // namespace pare::tools
