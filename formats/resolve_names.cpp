#include "formats/resolve_names.h"

#include <array>
#include <set>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "pare/error.h"

namespace pare {
namespace {

/// A stored name is `add` + the wanted name without `strip`, which it must begin with.
struct Rule {
  std::string_view strip;
  std::string add;
};

using NameSet = std::unordered_set<std::string_view>;

/// In the order in which equally good rules are tried.
std::vector<Rule> make_rules() {
  constexpr std::array<std::string_view, 3> kOuter{"", "model.", "transformer."};
  constexpr std::array<std::string_view, 3> kLanguage{"language_model.", "model.language_model.",
                                                      "language_model.model."};
  constexpr std::string_view kAdapter = "base_model.model.";
  std::vector<Rule> rules{{"", ""}};
  for (const std::string_view outer : {kOuter[1], kOuter[2]}) {
    rules.push_back({outer, ""});
    rules.push_back({"", std::string(outer)});
  }
  for (const std::string_view outer : kOuter) {
    for (const std::string_view language : kLanguage) {
      rules.push_back({outer, std::string(language)});
    }
  }
  const size_t plain = rules.size();
  for (size_t i = 0; i < plain; ++i) {
    rules.push_back({rules[i].strip, std::string(kAdapter) + rules[i].add});
  }
  return rules;
}

class Matcher {
 public:
  Matcher(std::span<const std::string> wanted, std::span<const std::string> available,
          const std::string& subject)
      : subject_(subject), available_(available.begin(), available.end()) {
    for (const std::string& name : std::set<std::string>(wanted.begin(), wanted.end())) {
      if (available_.contains(name)) {
        taken_.emplace(name, name);
      } else {
        missing_.push_back(name);
      }
    }
  }

  std::map<std::string, std::string> match() {
    const std::vector<Rule> rules = make_rules();
    std::map<std::string, std::string> result;
    while (!missing_.empty()) {
      std::vector<std::map<std::string, std::string>> best;
      for (const Rule& rule : rules) {
        std::map<std::string, std::string> hits = apply(rule);
        if (hits.empty() || (!best.empty() && hits.size() < best[0].size())) continue;
        if (!best.empty() && hits.size() > best[0].size()) best.clear();
        best.push_back(std::move(hits));
      }
      if (best.empty()) break;
      for (size_t i = 1; i < best.size(); ++i) check_agreement(best[0], best[i]);
      for (const auto& [name, stored] : best[0]) {
        take(name, stored);
        result.emplace(name, stored);
      }
      std::erase_if(missing_, [&](const std::string& name) { return result.contains(name); });
    }
    return result;
  }

 private:
  [[noreturn]] void ambiguous(const std::string& what) const {
    throw Error(ErrorCode::kInputMalformed, subject_ + ": " + what);
  }

  /// The missing names that the rule finds.
  std::map<std::string, std::string> apply(const Rule& rule) const {
    std::map<std::string, std::string> hits;
    for (const std::string& name : missing_) {
      if (!name.starts_with(rule.strip)) continue;
      const std::string plain = rule.add + name.substr(rule.strip.size());
      const std::string old = old_norm_name(plain);
      const bool has_plain = usable(name, plain);
      const bool has_old = !old.empty() && usable(name, old);
      if (has_plain && has_old) both(name, plain, old);
      if (has_plain) hits.emplace(name, plain);
      if (has_old) hits.emplace(name, old);
    }
    return hits;
  }

  bool usable(const std::string& name, const std::string& stored) const {
    if (!available_.contains(stored)) return false;
    const auto taken = taken_.find(stored);
    // What is wanted under its own name is no candidate; what stands for another is an error, which
    // take() reports.
    return taken == taken_.end() || (taken->second != stored && taken->second != name);
  }

  static std::string old_norm_name(const std::string& name) {
    constexpr std::array<std::pair<std::string_view, std::string_view>, 2> kEndings{
        {{".weight", ".gamma"}, {".bias", ".beta"}}};
    for (const auto& [now, before] : kEndings) {
      if (name.ends_with(now)) {
        return name.substr(0, name.size() - now.size()) + std::string(before);
      }
    }
    return {};
  }

  [[noreturn]] void both(const std::string& name, const std::string& a,
                         const std::string& b) const {
    ambiguous("tensor \"" + name + "\" could be \"" + a + "\" or \"" + b + "\"");
  }

  void check_agreement(const std::map<std::string, std::string>& a,
                       const std::map<std::string, std::string>& b) const {
    for (const auto& [name, stored] : a) {
      const auto other = b.find(name);
      if (other != b.end() && other->second != stored) both(name, stored, other->second);
    }
  }

  void take(const std::string& name, const std::string& stored) {
    const auto [place, fresh] = taken_.emplace(stored, name);
    if (!fresh) {
      ambiguous("tensor \"" + stored + "\" could be \"" + place->second + "\" or \"" + name + "\"");
    }
  }

  const std::string& subject_;
  NameSet available_;
  std::vector<std::string> missing_;
  std::map<std::string, std::string> taken_;  ///< Available name → wanted name.
};

}  // namespace

std::map<std::string, std::string> match_names(std::span<const std::string> wanted,
                                               std::span<const std::string> available,
                                               const std::string& subject) {
  return Matcher(wanted, available, subject).match();
}

std::map<std::string, StoredTensor> resolve_names(const std::vector<std::string>& wanted,
                                                  const WeightSource& source) {
  std::map<std::string, StoredTensor> result;
  for (const auto& [name, stored] : match_names(wanted, source.names(), source.path())) {
    result.emplace(name, whole_tensor(source, stored));
  }
  return result;
}

}  // namespace pare
