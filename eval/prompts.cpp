#include "eval/prompts.h"

#include <algorithm>
#include <map>
#include <optional>
#include <span>

#include "core/sha256.h"
#include "pare/error.h"

namespace pare {
namespace {

// Tokens of a unit: a few full blocks of rows, so that little of the last one is wasted.
constexpr int64_t kUnitTokens = 4 * kChunkTokens;

using Ids = std::vector<int32_t>;

size_t common_length(std::span<const int32_t> a, std::span<const int32_t> b) {
  const auto [end, unused] = std::mismatch(
      a.begin(), a.begin() + static_cast<ptrdiff_t>(std::min(a.size(), b.size())), b.begin());
  return static_cast<size_t>(end - a.begin());
}

std::string beginning(const TaskGroup& group, int64_t shots) {
  std::string text = group.header;
  for (int64_t i = 0; i < shots; ++i) text += group.examples[static_cast<size_t>(i)];
  return text;
}

// A choice's prompt and continuation: `context` tokens of `ids` are given, the rest is scored.
struct ChoiceIds {
  Ids ids;
  size_t context = 0;
};

// Encodes continuations of one prompt.
//
// A context that ends in spaces gives them to the continuation, where tokenizers keep them with the
// word. Only what follows the last line break is encoded again for each continuation: tokens depend
// on their neighbourhood only, and whether the line break is a boundary of tokens is checked.
class PromptEncoder {
 public:
  PromptEncoder(const Tokenizer& tokenizer, const std::string& prompt) : tokenizer_(tokenizer) {
    const size_t end = prompt.find_last_not_of(' ') + 1;
    context_ = tokenizer.encode(std::string_view(prompt).substr(0, end), true);
    const size_t line = std::min(prompt.rfind('\n', end), end);
    const Ids last = tokenizer.encode(std::string_view(prompt).substr(line, end - line), false);
    const bool boundary = !last.empty() && last.size() < context_.size() &&
                          std::equal(last.rbegin(), last.rend(), context_.rbegin());
    if (boundary) {
      head_.assign(context_.begin(), context_.end() - static_cast<ptrdiff_t>(last.size()));
      tail_ = prompt.substr(line);
    } else {
      tail_ = prompt;
    }
  }

  ChoiceIds encode(const std::string& continuation) const {
    ChoiceIds choice;
    choice.ids = head_;
    const Ids rest = tokenizer_.encode(tail_ + continuation, head_.empty());
    choice.ids.insert(choice.ids.end(), rest.begin(), rest.end());
    // Where the end of the context falls inside a token, the token belongs to what is scored.
    choice.context = common_length(context_, choice.ids);
    return choice;
  }

 private:
  const Tokenizer& tokenizer_;
  Ids context_;
  Ids head_;  // tokens before tail_, or empty
  std::string tail_;
};

class Planner {
 public:
  Planner(const Task& task, const Tokenizer& tokenizer, const PromptOptions& options)
      : task_(task), tokenizer_(tokenizer), options_(options) {}

  PromptPlan run() {
    for (size_t g = 0; g < task_.groups.size(); ++g) add_group(g);
    flush();
    plan_.ids_sha256 = hash_.finish();
    for (const PromptUnit& unit : plan_.units)
      plan_.tokens += static_cast<int64_t>(unit.ids.size());
    for (const Ids& stem : plan_.stems) plan_.tokens += static_cast<int64_t>(stem.size());
    return std::move(plan_);
  }

 private:
  struct Prompt {
    std::vector<ChoiceIds> choices;
    int64_t shots = 0;
    size_t stem_length = 0;
  };

  void add_group(size_t g) {
    const TaskGroup& group = task_.groups[g];
    const auto most = static_cast<int64_t>(group.examples.size());
    stems_of_group_.clear();
    for (int64_t shots = 0; shots <= most; ++shots) {
      stems_of_group_.push_back(tokenizer_.encode(beginning(group, shots), true));
    }
    for (size_t i = 0; i < group.items.size(); ++i) {
      const Prompt prompt = fit(group, group.items[i], most);
      add_item(g, i, prompt);
    }
  }

  Prompt encode(const TaskGroup& group, const TaskItem& item, int64_t shots) const {
    Prompt prompt;
    prompt.shots = shots;
    const std::string text = beginning(group, shots) + item.question;
    std::optional<PromptEncoder> encoder;
    const std::string* encoded_prefix = nullptr;
    for (const Choice& choice : item.choices) {
      if (encoded_prefix == nullptr || *encoded_prefix != choice.prefix) {
        encoder.emplace(tokenizer_, text + choice.prefix);
        encoded_prefix = &choice.prefix;
      }
      prompt.choices.push_back(encoder->encode(choice.continuation));
      if (prompt.choices.back().context == 0 ||
          prompt.choices.back().context >= prompt.choices.back().ids.size()) {
        throw Error(ErrorCode::kInputMalformed,
                    item.source + ": choice \"" + choice.continuation +
                        "\" has no token of its own, or no context before it");
      }
    }
    return prompt;
  }

  bool fits(const Prompt& prompt) const {
    return std::all_of(prompt.choices.begin(), prompt.choices.end(), [&](const ChoiceIds& choice) {
      // The last token is only predicted.
      return static_cast<int64_t>(choice.ids.size()) - 1 <= options_.max_positions;
    });
  }

  Prompt fit(const TaskGroup& group, const TaskItem& item, int64_t most) {
    for (int64_t shots = most; shots >= 0; --shots) {
      Prompt prompt = encode(group, item, shots);
      if (!fits(prompt)) continue;
      if (shots < most) ++plan_.dropped_examples;
      if (options_.reuse_prefix) {
        const Ids& stem = stems_of_group_[static_cast<size_t>(shots)];
        prompt.stem_length = shared_length(prompt);
        prompt.stem_length =
            std::min(prompt.stem_length, common_length(stem, prompt.choices[0].ids));
      }
      return prompt;
    }
    throw Error(ErrorCode::kInputMalformed,
                item.source + ": the question does not fit into the model's " +
                    std::to_string(options_.max_positions) + " positions, even without examples");
  }

  // Tokens that all choices of a prompt have in common and that are context for all, less one: the
  // last row of the context must run, for its logits.
  static size_t shared_length(const Prompt& prompt) {
    size_t length = prompt.choices[0].context;
    for (const ChoiceIds& choice : prompt.choices) {
      length = std::min({length, choice.context, common_length(prompt.choices[0].ids, choice.ids)});
    }
    return length - 1;
  }

  size_t stem_number(std::span<const int32_t> ids) {
    const auto [found, is_new] =
        stem_numbers_.try_emplace(Ids(ids.begin(), ids.end()), plan_.stems.size());
    if (is_new) plan_.stems.push_back(found->first);
    return found->second;
  }

  void add_item(size_t g, size_t i, const Prompt& prompt) {
    const TaskItem& item = task_.groups[g].items[i];
    const std::vector<ChoiceIds>& choices = prompt.choices;
    const size_t stem = stem_number({choices[0].ids.data(), prompt.stem_length});
    // Another stem, or enough tokens: the next unit.
    if (!unit_.segments.empty() &&
        (unit_.stem != stem || static_cast<int64_t>(unit_.ids.size()) >= kUnitTokens)) {
      flush();
    }
    unit_.stem = stem;
    PlannedItem planned{g, i, prompt.shots, static_cast<int64_t>(choices[0].context),
                        plan_.choices};
    plan_.items.push_back(planned);
    plan_.choices += item.choices.size();

    // The context that all choices share, then each choice's own tokens.
    const size_t shared = shared_length(prompt) + 1;
    const size_t context_row = unit_.ids.size() + shared - 1 - prompt.stem_length;
    add_segment({choices[0].ids.data() + prompt.stem_length, shared - prompt.stem_length},
                prompt.stem_length);
    ScoredRow first{static_cast<int64_t>(context_row), {}, {}};
    std::vector<ScoredRow> others;
    for (size_t c = 0; c < choices.size(); ++c) {
      const ChoiceIds& choice = choices[c];
      const size_t number = planned.first_choice + c;
      hash_ids(choice.ids);
      plan_.prompt_tokens += c == 0 ? static_cast<int64_t>(choice.context) : 0;
      const size_t begin = unit_.ids.size();
      if (choice.ids.size() - 1 > shared) {
        add_segment({choice.ids.data() + shared, choice.ids.size() - 1 - shared}, shared);
      }
      for (size_t token = choice.context; token < choice.ids.size(); ++token) {
        if (token == shared) {
          first.tokens.push_back(choice.ids[token]);
          first.choices.push_back(number);
        } else {
          others.push_back(
              {static_cast<int64_t>(begin + token - 1 - shared), {choice.ids[token]}, {number}});
        }
      }
    }
    if (!first.tokens.empty()) unit_.scored.push_back(std::move(first));
    unit_.scored.insert(unit_.scored.end(), others.begin(), others.end());
  }

  void add_segment(std::span<const int32_t> ids, size_t position) {
    unit_.segments.push_back({static_cast<int64_t>(ids.size()), static_cast<int64_t>(position)});
    unit_.ids.insert(unit_.ids.end(), ids.begin(), ids.end());
    plan_.longest = std::max(plan_.longest, static_cast<int64_t>(position + ids.size()));
  }

  void flush() {
    if (!unit_.segments.empty()) plan_.units.push_back(std::move(unit_));
    unit_ = {};
  }

  void hash_ids(const Ids& ids) {
    const auto count = static_cast<uint32_t>(ids.size());
    hash_.update(std::as_bytes(std::span(&count, 1)));
    hash_.update(std::as_bytes(std::span(ids)));
  }

  const Task& task_;
  const Tokenizer& tokenizer_;
  const PromptOptions& options_;
  PromptPlan plan_;
  PromptUnit unit_;
  std::vector<Ids> stems_of_group_;  // by number of examples
  std::map<Ids, size_t> stem_numbers_;
  Sha256 hash_;
};

}  // namespace

PromptPlan plan_prompts(const Task& task, const Tokenizer& tokenizer,
                        const PromptOptions& options) {
  return Planner(task, tokenizer, options).run();
}

}  // namespace pare
