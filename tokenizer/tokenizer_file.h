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
struct NormalizeStrip {
  bool left = true;
  bool right = true;
};
struct NormalizeStripAccents {};  ///< Drops marks (M*); what composes has to be taken apart before.
struct NormalizeNmt {};           ///< Drops control characters, other white space becomes spaces.
struct NormalizeByteLevel {};     ///< Into the byte alphabet.
struct NormalizePrecompiled {
  std::string charsmap;  ///< tokenizer/charsmap.h
};
struct NormalizeBert {
  bool clean_text = true;
  bool handle_chinese_chars = true;
  bool strip_accents = true;
  bool lowercase = true;
};
using NormalizerStep =
    std::variant<NormalizeUnicode, NormalizeLowercase, NormalizePrepend, NormalizeReplace,
                 NormalizeStrip, NormalizeStripAccents, NormalizeNmt, NormalizeByteLevel,
                 NormalizePrecompiled, NormalizeBert>;

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
struct SplitOnWhiteSpace {};  ///< White space is dropped.
enum class PrependScheme { kAlways, kFirst, kNever };
struct SplitMetaspace {
  std::string replacement = "\u2581";  ///< Stands for a space.
  PrependScheme scheme = PrependScheme::kAlways;
  bool split = true;
};
using PreTokenizerStep = std::variant<SplitOnPattern, SplitOnDigits, SplitOnPunctuation,
                                      SplitByteLevel, SplitOnWhiteSpace, SplitMetaspace>;

/// Ids around the text.
struct PostProcessorTemplate {
  std::vector<int32_t> before;
  std::vector<int32_t> after;
};

struct DecodeByteLevel {};
struct DecodeByteFallback {};
struct DecodeFuse {};  ///< All tokens become one.
struct DecodeMetaspace {
  std::string replacement = "\u2581";
  bool drop_first = true;  ///< The first token's replacements stand for nothing.
};
struct DecodeReplace {
  TextPattern pattern;
  std::string content;
};
struct DecodeStrip {
  std::string content;  ///< One character, dropped from the ends of every token,
  size_t start = 0;     ///< at most so often from the start
  size_t stop = 0;      ///< and the end.
};
struct DecodeSuffix {
  std::string suffix;  ///< Becomes a space, of the last token nothing.
};
using DecoderStep = std::variant<DecodeByteLevel, DecodeByteFallback, DecodeFuse, DecodeMetaspace,
                                 DecodeReplace, DecodeStrip, DecodeSuffix>;

struct BpeModel {
  std::vector<std::pair<std::string, int32_t>> vocabulary;  ///< Ids are unique, 0 … 2^31 − 2.
  std::vector<std::pair<std::string, std::string>> merges;  ///< The first is applied first,
  std::vector<uint32_t> ranks;  ///< or, unless empty, the one with the lowest rank.
  std::optional<std::string> unknown_token;
  bool fuse_unknown = false;   ///< A run of unknown characters is one unknown token.
  bool byte_fallback = false;  ///< An unknown character becomes its bytes, "<0x0A>".
  bool ignore_merges = false;  ///< A word that is itself in the vocabulary is not taken apart.
  std::string continuing_subword_prefix;  ///< Of every character of a word but the first.
  std::string end_of_word_suffix;         ///< Of a word's last character.
  std::vector<std::string> whole_tokens;  ///< Found before anything else, and never merged.
  std::vector<int32_t> special_ids;       ///< What plain text must not become.
  /// Entries of the vocabulary from this id on are parts of merges only, no tokens: left alone they
  /// are unknown.
  std::optional<int32_t> first_part_id;
};

/// How a piece of a unigram vocabulary takes part.
enum class PieceUse : uint8_t {
  kNormal,
  kAlways,  ///< Wherever the text holds it (SentencePiece's user-defined symbols).
  kNever,   ///< Text does not become it.
};

struct UnigramPiece {
  std::string text;
  double score = 0;
  PieceUse use = PieceUse::kNormal;
};

struct UnigramModel {
  std::vector<UnigramPiece> pieces;  ///< By id.
  std::optional<int32_t> unknown_id;
  bool byte_fallback = false;
  bool single_precision = false;  ///< Of sums: SentencePiece.
  float largest_score = 0;        ///< Of normal pieces; kAlways pieces are measured by it.
  std::vector<int32_t> special_ids;
};

struct TokenizerFile {
  std::vector<NormalizerStep> normalizer;
  std::vector<AddedToken> added_tokens;
  std::vector<PreTokenizerStep> pre_tokenizer;
  std::variant<BpeModel, UnigramModel> model;
  std::vector<PostProcessorTemplate> post_processor;
  std::vector<DecoderStep>
      decoder;  ///< ByteLevel where the file has none and the pre-tokenizer is.
};

/// Longer tokens than any real vocabulary has would make encoding quadratic. Throws
/// Error(kInputMalformed) when a token has more than this many bytes.
inline constexpr size_t kLongestToken = 4096;
void check_token_size(std::string_view token, const std::string& origin);

/// Entries of the vocabulary {"token": id, …} of `text`, and the lines of a merges.txt. Throws as
/// parse_tokenizer_json.
BpeModel parse_vocab_and_merges(std::string_view vocab_json, const std::string& vocab_origin,
                                std::string_view merges_txt, const std::string& merges_origin);

/// `origin` is for messages. Throws Error(kInputMalformed) when the text is no tokenizer.json, or
/// uses a kind that is not supported (named).
TokenizerFile parse_tokenizer_json(std::string_view text, const std::string& origin);

}  // namespace pare
