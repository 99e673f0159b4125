// What a tokenizer.json says, checked and without JSON.
//
// Plain values: parse_tokenizer_json checks the form of everything once (types, ranges, kinds that
// are supported, nested sequences flattened), the modules build from these structs. Copyable, safe
// to share between threads while nobody writes.
//
//   TokenizerFile file = parse_tokenizer_json(text, "tokenizer.json");
//   Bpe bpe(std::move(file.model), "tokenizer.json");
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "tokenizer/unicode.h"

namespace pare {

/// A token that is recognised in the text before the model runs.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool single_word = false;  ///< Only where no word character is next to it.
  bool lstrip = false;       ///< Takes the white space before it.
  bool rstrip = false;       ///< Takes the white space behind it.
  bool normalized = true;    ///< Looked for in the normalized text instead of the raw text.
  bool special = false;      ///< Left out by decode when asked.
};

struct TextPattern {
  std::string text;
  bool is_regex = false;
};

struct NormalizeUnicode {
  UnicodeForm form;
};
struct NormalizeLowercase {};
struct NormalizePrepend {
  std::string text;
};
struct NormalizeReplace {
  TextPattern pattern;
  std::string content;
};
using NormalizerStep =
    std::variant<NormalizeUnicode, NormalizeLowercase, NormalizePrepend, NormalizeReplace>;

/// What becomes of the matches of a splitting pattern.
enum class SplitBehavior {
  kRemoved,             ///< Matches are dropped.
  kIsolated,            ///< Every match is a piece.
  kMergedWithPrevious,  ///< A match joins the piece before it.
  kMergedWithNext,      ///< A match joins the piece behind it.
  kContiguous,          ///< Neighbouring matches are one piece.
};

struct SplitOnPattern {
  TextPattern pattern;
  SplitBehavior behavior;
  bool invert = false;  ///< What lies between the matches counts as the match.
};
struct SplitOnDigits {
  bool individual = false;
};
struct SplitOnPunctuation {
  SplitBehavior behavior;
};
struct SplitByteLevel {
  bool add_prefix_space = false;
  bool use_regex = true;
};
using PreTokenizerStep =
    std::variant<SplitOnPattern, SplitOnDigits, SplitOnPunctuation, SplitByteLevel>;

/// Ids around the text.
struct PostProcessorTemplate {
  std::vector<int32_t> before;
  std::vector<int32_t> after;
};

struct BpeModel {
  std::vector<std::pair<std::string, int32_t>> vocabulary;  ///< Ids are unique, 0 … 2^31 − 2.
  std::vector<std::pair<std::string, std::string>> merges;  ///< The first is applied first.
  std::optional<std::string> unknown_token;
  bool fuse_unknown = false;   ///< A run of unknown characters is one unknown token.
  bool ignore_merges = false;  ///< A word that is itself in the vocabulary is not taken apart.
};

struct TokenizerFile {
  std::vector<NormalizerStep> normalizer;
  std::vector<AddedToken> added_tokens;
  std::vector<PreTokenizerStep> pre_tokenizer;
  BpeModel model;
  std::vector<PostProcessorTemplate> post_processor;
  /// Tokens are spelled in the byte alphabet: the decoder says so or, where there is none, the
  /// pre-tokenizer.
  bool byte_level = false;
};

/// `origin` is for messages. Throws Error(kInputMalformed) when the text is no tokenizer.json, or
/// uses a kind that is not supported (named).
TokenizerFile parse_tokenizer_json(std::string_view text, const std::string& origin);

}  // namespace pare
