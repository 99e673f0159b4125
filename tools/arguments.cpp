#include "tools/arguments.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "pare/error.h"

namespace pare::tools {
namespace {

std::string with_hyphens(std::string_view name) {
  std::string result(name);
  std::replace(result.begin(), result.end(), '_', '-');
  return result;
}

// Levenshtein distance by rows.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

std::vector<std::string> long_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    const auto& more = option->get_lnames();
    names.insert(names.end(), more.begin(), more.end());
  }
  return names;
}

[[noreturn]] void unknown_option(const CLI::App& app, std::string_view name) {
  const std::string guess = nearest(name, long_names(app));
  std::string message = fmt::format("unknown option --{}", name);
  if (!guess.empty()) message += fmt::format("; did you mean --{}?", guess);
  throw Error(ErrorCode::kUsage, message + " (--help lists all)");
}

// One pass over the words of a command line before CLI11 parses them: it spells long options as
// they are registered, and refuses what CLI11 has no clear words for.
class CommandLine {
 public:
  CommandLine(const CLI::App& app, const std::vector<std::string>& later)
      : app_(app), later_(later) {
    for (const CLI::Option* option : app.get_options()) {
      for (const std::string& name : option->get_lnames()) {
        long_[with_hyphens(name)] = {name, option};
      }
      for (const std::string& name : option->get_snames()) short_[name.at(0)] = option;
    }
  }

  void normalize(std::vector<std::string>& words) {
    for (size_t i = 0; i < words.size(); ++i) {
      if (words[i] == "--") break;
      const Word word = read(words[i]);
      if (word.option == nullptr) {
        if (word.typed.empty() && position_.empty()) position_ = words[i];
        continue;
      }
      count(*word.option, word.typed);
      if (!word.wants_next) continue;
      if (i + 1 == words.size() || is_option(words[i + 1])) needs_value(word);
      ++i;  // The value, which may look like anything but an option.
    }
    check_position();
  }

 private:
  struct Named {
    std::string name;
    const CLI::Option* option = nullptr;
  };
  struct Word {
    const CLI::Option* option = nullptr;  // Null for a position.
    std::string typed;                    // "--calib-size" or "-o"
    bool wants_next = false;              // Its value is the next word.
  };

  static bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

  // Whether a word can only be an option; "-" and "-1" may be values.
  bool is_option(const std::string& word) const {
    if (word.starts_with("--")) return true;
    return word.size() == 2 && word[0] == '-' && short_.contains(word[1]);
  }

  Word read(std::string& word) const {
    if (word.starts_with("--")) return read_long(word);
    if (word.size() < 2 || word[0] != '-') return {};
    const auto found = short_.find(word[1]);
    if (found == short_.end()) return {nullptr, word, false};  // CLI11 says that it is not known.
    return {found->second, word.substr(0, 2), takes_value(*found->second) && word.size() == 2};
  }

  Word read_long(std::string& word) const {
    const size_t equals = word.find('=');
    const std::string typed = word.substr(2, equals == std::string::npos ? equals : equals - 2);
    const auto found = long_.find(with_hyphens(typed));
    if (found != long_.end()) {
      const auto& [name, option] = found->second;
      Word result{option, "--" + typed, takes_value(*option) && equals == std::string::npos};
      // CLI11 would take the next word for it.
      if (takes_value(*option) && equals + 1 == word.size()) {
        needs_value(result);
      }
      word.replace(2, typed.size(), name);
      return result;
    }
    for (const std::string& name : later_) {
      if (with_hyphens(name) != with_hyphens(typed)) continue;
      throw Error(ErrorCode::kUsage,
                  fmt::format("--{} is not supported yet in this version", typed));
    }
    unknown_option(app_, typed);
  }

  void count(const CLI::Option& option, const std::string& typed) {
    const auto [earlier, first] = seen_.emplace(&option, typed);
    if (first || option.get_items_expected_max() > 1) return;
    throw Error(ErrorCode::kUsage,
                earlier->second == typed
                    ? fmt::format("{} is given twice; give it once", typed)
                    : fmt::format("{} and {} set the same option; give one of them once",
                                  earlier->second, typed));
  }

  [[noreturn]] static void needs_value(const Word& word) {
    throw Error(ErrorCode::kUsage,
                fmt::format("{} needs a value: {} {} (--help lists all options)", word.typed,
                            word.typed, word.option->get_type_name()));
  }

  // What has a position may have a name too, but not both at once.
  void check_position() const {
    if (position_.empty()) return;
    for (const auto& [option, typed] : seen_) {
      if (!option->get_positional() || option->get_items_expected_max() > 1) continue;
      throw Error(
          ErrorCode::kUsage,
          fmt::format("\"{}\" and {} set the same option; give one of them", position_, typed));
    }
  }

  const CLI::App& app_;
  const std::vector<std::string>& later_;
  std::map<std::string, Named> long_;
  std::map<char, const CLI::Option*> short_;
  std::map<const CLI::Option*, std::string> seen_;  // As it was typed first.
  std::string position_;                            // The first word that is none.
};

}  // namespace

std::vector<std::string> arguments_of(int argc, char** argv) {
  if (argc < 1) return {};
  return {argv + 1, argv + argc};
}

std::string nearest(std::string_view word, const std::vector<std::string>& known) {
  const std::string wanted = with_hyphens(word);
  std::string best;
  // A third of the word may be wrong: more would suggest what was never meant.
  size_t best_distance = std::max<size_t>(2, wanted.size() / 3) + 1;
  for (const std::string& name : known) {
    const std::string candidate = with_hyphens(name);
    size_t distance = edit_distance(wanted, candidate);
    // "--group" for "--group-size": a beginning is the commonest slip.
    if (wanted.size() >= 3 && candidate.starts_with(wanted))
      distance = std::min<size_t>(distance, 2);
    if (distance < best_distance) {
      best_distance = distance;
      best = name;
    }
  }
  return best;
}

void parse_arguments(CLI::App& app, std::vector<std::string> arguments,
                     const std::vector<std::string>& later) {
  CommandLine(app, later).normalize(arguments);
  std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back.
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    throw Error(ErrorCode::kUsage, fmt::format("{} (--help lists all options)", error.what()));
  }
}

double parse_number(std::string_view text, std::string_view option) {
  double value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    throw Error(ErrorCode::kUsage,
                fmt::format("{}: expected a number, found \"{}\"", option, text));
  }
  return value;
}

int64_t parse_size(std::string_view text, std::string_view option) {
  const size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
  const std::string_view unit = text.substr(digits);
  constexpr std::string_view kPrefixes = "KMGT";
  double factor = 1;
  bool known = unit.empty() || unit == "B";
  if (!known) {
    const size_t power = kPrefixes.find(unit.front() == 'k' ? 'K' : unit.front());
    const std::string_view rest = unit.substr(1);
    known = power != std::string_view::npos && (rest.empty() || rest == "B" || rest == "iB");
    if (known) factor = std::pow(rest == "B" ? 1000.0 : 1024.0, static_cast<double>(power) + 1);
  }
  if (digits == 0 || !known) {
    throw Error(
        ErrorCode::kUsage,
        fmt::format("{}: expected a size such as 8GiB, 800MB or 4096, found \"{}\"", option, text));
  }
  const double bytes = parse_number(text.substr(0, digits), option) * factor;
  if (bytes >= static_cast<double>(std::numeric_limits<int64_t>::max())) {
    throw Error(ErrorCode::kUsage, fmt::format("{}: \"{}\" is too large", option, text));
  }
  return static_cast<int64_t>(bytes);
}

double parse_percent(std::string_view text, std::string_view option) {
  if (!text.ends_with('%')) {
    throw Error(ErrorCode::kUsage,
                fmt::format("{}: expected a percentage such as 1%, found \"{}\"", option, text));
  }
  const double percent = parse_number(text.substr(0, text.size() - 1), option);
  if (percent < 0) {
    throw Error(ErrorCode::kUsage,
                fmt::format("{}: expected 0% or more, found \"{}\"", option, text));
  }
  return percent / 100;
}

uint64_t parse_unsigned(std::string_view text, std::string_view option) {
  uint64_t value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc() || end != text.data() + text.size()) {
    throw Error(ErrorCode::kUsage,
                fmt::format("{}: expected a whole number from 0 to {}, found \"{}\"", option,
                            std::numeric_limits<uint64_t>::max(), text));
  }
  return value;
}

void check_choice(const std::string& value, const std::vector<std::string>& known,
                  std::string_view option) {
  if (std::find(known.begin(), known.end(), value) != known.end()) return;
  const std::string guess = nearest(value, known);
  throw Error(ErrorCode::kUsage,
              fmt::format("{}: expected one of {}, found \"{}\"{}", option, fmt::join(known, ", "),
                          value, guess.empty() ? "" : fmt::format("; did you mean {}?", guess)));
}

std::vector<std::string> split_list(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    if (comma > 0) parts.emplace_back(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return parts;
}

}  // namespace pare::tools
