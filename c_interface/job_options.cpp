#include "c_interface/job_options.h"

#include <charconv>
#include <cmath>
#include <functional>
#include <map>
#include <type_traits>
#include <utility>

#include "pare/error.h"

namespace pare {
namespace {

/// A value on its way into an option.
struct Entry {
  const std::string& option;
  const std::string& text;
  bool first;  ///< Of a list: what is there is the default.
};

[[noreturn]] void expected(const Entry& entry, const std::string& what) {
  throw Error(ErrorCode::kUsage, "option \"" + entry.option + "\": expected " + what +
                                     ", found \"" + entry.text + "\"");
}

template <typename Number>
Number parse_number(const Entry& entry) {
  Number value{};
  const char* end = entry.text.data() + entry.text.size();
  const auto [stopped, status] = std::from_chars(entry.text.data(), end, value);
  bool good = status == std::errc() && stopped == end;
  if constexpr (std::is_floating_point_v<Number>) good = good && std::isfinite(value);
  if (!good) {
    expected(entry, std::is_floating_point_v<Number> ? "a number"
                    : std::is_unsigned_v<Number>     ? "a whole number from 0"
                                                     : "a whole number");
  }
  return value;
}

/// `last`: at the last "=" rather than the first, for keys that may hold one.
std::pair<std::string, std::string> parse_pair(const Entry& entry, bool last) {
  const size_t equals = last ? entry.text.rfind('=') : entry.text.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == entry.text.size()) {
    expected(entry, "KEY=VALUE");
  }
  return {entry.text.substr(0, equals), entry.text.substr(equals + 1)};
}

void assign(std::string& option, const Entry& entry) { option = entry.text; }
void assign(int& option, const Entry& entry) { option = parse_number<int>(entry); }
void assign(int64_t& option, const Entry& entry) { option = parse_number<int64_t>(entry); }
void assign(uint64_t& option, const Entry& entry) { option = parse_number<uint64_t>(entry); }
void assign(double& option, const Entry& entry) { option = parse_number<double>(entry); }
void assign(std::optional<double>& option, const Entry& entry) {
  option = parse_number<double>(entry);
}
void assign(bool& option, const Entry& entry) {
  if (entry.text != "true" && entry.text != "false") expected(entry, "true or false");
  option = entry.text == "true";
}
void assign(std::vector<std::string>& option, const Entry& entry) {
  if (entry.first) option.clear();
  option.push_back(entry.text);
}
void assign(std::map<std::string, std::string>& option, const Entry& entry) {
  const auto [key, value] = parse_pair(entry, /*last=*/false);
  option[key] = value;
}
// Regular expressions may hold "=", formats do not.
void assign(std::vector<std::pair<std::string, std::string>>& option, const Entry& entry) {
  option.push_back(parse_pair(entry, /*last=*/true));
}

using Setter = std::function<void(JobOptions&, const Entry&)>;
using Table = std::map<std::string, Setter>;

template <typename Structure, typename Value>
Setter option(Structure JobOptions::*structure, Value Structure::*member) {
  return
      [=](JobOptions& options, const Entry& entry) { assign(options.*structure.*member, entry); };
}

const Table& quantize_options() {
  const auto of = [](auto member) { return option(&JobOptions::quantize, member); };
  using Options = QuantizeOptions;
  static const Table table = {
      {"model", of(&Options::model)},
      {"output", of(&Options::output)},
      {"qformat", of(&Options::qformat)},
      {"sparsity", of(&Options::sparsity)},
      {"algo", of(&Options::algo)},
      {"rotate", of(&Options::rotate)},
      {"rotate_seed", of(&Options::rotate_seed)},
      {"kv_cache", of(&Options::kv_cache)},
      {"kv_scales", of(&Options::kv_scales)},
      {"kv_affine", of(&Options::kv_affine)},
      {"calibration", of(&Options::calibration)},
      {"calibration_size", of(&Options::calibration_size)},
      {"calibration_seqlen", of(&Options::calibration_seqlen)},
      {"seed", of(&Options::seed)},
      {"awq_block_size", of(&Options::awq_block_size)},
      {"symmetric", of(&Options::symmetric)},
      {"clip", of(&Options::clip)},
      {"smooth_strength", of(&Options::smooth_strength)},
      {"smooth", of(&Options::smooth)},
      {"dynamic_activations", of(&Options::dynamic_activations)},
      {"pre_quant_scale", of(&Options::pre_quant_scale)},
      {"gptaq_alpha", of(&Options::gptaq_alpha)},
      {"sparsegpt_damping", of(&Options::sparsegpt_damping)},
      {"permute_channels", of(&Options::permute_channels)},
      {"uncompressed_inputs", of(&Options::uncompressed_inputs)},
      {"save_stats", of(&Options::save_stats)},
      {"stats", of(&Options::stats)},
      {"moe_calib", of(&Options::moe_calib)},
      {"parse_special", of(&Options::parse_special)},
      {"lora", of(&Options::lora)},
      {"lora_mode", of(&Options::lora_mode)},
      {"sparsity_skip", of(&Options::sparsity_skip)},
      {"exclude", of(&Options::exclude)},
      {"overrides", of(&Options::overrides)},
      {"recipe", of(&Options::recipe)},
      {"threads", of(&Options::threads)},
      {"max_memory", of(&Options::max_memory)},
      {"work_dir", of(&Options::work_dir)},
      {"resume", of(&Options::resume)},
      {"force", of(&Options::force)},
      {"dry_run", of(&Options::dry_run)},
  };
  return table;
}

const Table& mixed_options() {
  const auto of = [](auto member) { return option(&JobOptions::mixed, member); };
  using Options = MixedOptions;
  static const Table table = [&] {
    Table both = {
        {"formats", of(&Options::formats)},
        {"choose_sparsity", of(&Options::choose_sparsity)},
        {"target_bits", of(&Options::target_bits)},
        {"max_loss", of(&Options::max_loss)},
        {"probe_text", of(&Options::probe_text)},
        {"probe_windows", of(&Options::probe_windows)},
        {"verify_windows", of(&Options::verify_windows)},
        {"recipe_output", of(&Options::recipe_output)},
    };
    both.insert(quantize_options().begin(), quantize_options().end());
    return both;
  }();
  return table;
}

const Table& evaluate_options() {
  const auto of = [](auto member) { return option(&JobOptions::evaluate, member); };
  const auto gate = [](auto member) { return option(&JobOptions::gates, member); };
  using Options = EvaluateOptions;
  static const Table table = {
      {"baseline", of(&Options::baseline)},
      {"candidates", of(&Options::candidates)},
      {"tasks", of(&Options::tasks)},
      {"text", of(&Options::text)},
      {"parse_special", of(&Options::parse_special)},
      {"lora", of(&Options::lora)},
      {"candidate_lora", of(&Options::candidate_lora)},
      {"ctx", of(&Options::ctx)},
      {"stride", of(&Options::stride)},
      {"limit", of(&Options::limit)},
      {"task_data", of(&Options::task_data)},
      {"shots", of(&Options::shots)},
      {"reuse_prefix", of(&Options::reuse_prefix)},
      {"by_layer", of(&Options::by_layer)},
      {"layer_windows", of(&Options::layer_windows)},
      {"precision", of(&Options::precision)},
      {"threads", of(&Options::threads)},
      {"max_memory", of(&Options::max_memory)},
      {"cache", of(&Options::cache)},
      {"checkpoint_seconds", of(&Options::checkpoint_seconds)},
      {"max_loss", gate(&Gates::max_loss)},
      {"max_ppl_ratio", gate(&Gates::max_ppl_ratio)},
      {"max_kl", gate(&Gates::max_kl)},
  };
  return table;
}

const Table& export_options() {
  const auto of = [](auto member) { return option(&JobOptions::exporting, member); };
  using Options = ExportOptions;
  static const Table table = {
      {"checkpoint", of(&Options::checkpoint)},   {"format", of(&Options::format)},
      {"output", of(&Options::output)},           {"force", of(&Options::force)},
      {"shard_bytes", of(&Options::shard_bytes)}, {"tp_size", of(&Options::tp_size)},
      {"pp_size", of(&Options::pp_size)},         {"threads", of(&Options::threads)},
  };
  return table;
}

const Table& check_options() {
  const auto of = [](auto member) { return option(&JobOptions::check, member); };
  static const Table table = {
      {"folder", of(&CheckOptions::folder)},
      {"tp_size", of(&CheckOptions::tp_size)},
  };
  return table;
}

const Table& table_of(JobKind kind) {
  switch (kind) {
    case JobKind::kQuantize:
      return quantize_options();
    case JobKind::kMixed:
      return mixed_options();
    case JobKind::kEvaluate:
      return evaluate_options();
    case JobKind::kExport:
      return export_options();
    case JobKind::kCheck:
      break;
  }
  return check_options();
}

/// The recipe's name of an option, where it has another.
std::string recipe_key(const std::string& option) {
  const std::map<std::string, std::string> others = {{"calibration", "calib"},
                                                     {"calibration_size", "calib_size"},
                                                     {"calibration_seqlen", "calib_seqlen"}};
  const auto other = others.find(option);
  return other == others.end() ? option : other->second;
}

}  // namespace

JobKind job_kind(const std::string& name) {
  if (name == "quantize") return JobKind::kQuantize;
  if (name == "mixed") return JobKind::kMixed;
  if (name == "evaluate") return JobKind::kEvaluate;
  if (name == "export") return JobKind::kExport;
  if (name == "check") return JobKind::kCheck;
  throw Error(
      ErrorCode::kUsage,
      "kind of job \"" + name + "\" is not known; known: quantize, mixed, evaluate, export, check");
}

void JobOptions::set(const std::string& name, const std::string& value) {
  const Table& table = table_of(kind_);
  const auto found = table.find(name);
  if (found == table.end()) {
    std::string known;
    for (const auto& [key, unused] : table) known += " " + key;
    throw Error(ErrorCode::kUsage, "option \"" + name + "\" is not known; known:" + known);
  }
  found->second(*this, {name, value, !given_.contains(name)});
  given_.insert(name);
  // What is set here wins over a recipe, also where it is the default.
  const bool quantizes = kind_ == JobKind::kQuantize || kind_ == JobKind::kMixed;
  if (quantizes && quantize_options().contains(name)) {
    quantize.explicit_options.push_back(recipe_key(name));
  }
}

void JobOptions::require(std::initializer_list<const char*> names) const {
  for (const char* name : names) {
    if (!given_.contains(name)) {
      throw Error(ErrorCode::kUsage, "option \"" + std::string(name) + "\" is not set");
    }
  }
}

}  // namespace pare
