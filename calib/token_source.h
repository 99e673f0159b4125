// Text and token-id files as token ids.
//
// The ending of the name, in upper or lower case, says what a file holds: .jsonl one object a line
// with "text", or with "input_ids" (also "tokens") where that is an array of integers; .json, .ids
// and .tokens ids, separated by white space or commas or as JSON arrays; any other file is text in
// UTF-8. Files are mapped, and what was passed is forgotten, so that a large one takes little
// memory when few tokens of it are needed; pipes are read whole.
//
//   TokenDocuments documents = read_documents("c4.jsonl", tokenizer, /*needed_tokens=*/65536, 0);
//   CalibrationSet set = make_windows(documents, 128, 512, "c4.jsonl");
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "formats/weight_source.h"
#include "tokenizer/tokenizer.h"

namespace pare {

/// The tokenizer of a model. Throws as open_tokenizer.
Tokenizer load_tokenizer(const WeightSource& source);

struct TokenDocuments {
  std::vector<std::vector<int32_t>> documents;  ///< Each with the tokenizer's special tokens.
  std::string text_sha256;                      ///< Of the file.
};

/// How the text of a file becomes documents.
enum class TextLayout {
  kAsIs,        ///< A plain text is one document; each line of .jsonl is one.
  kRowsJoined,  ///< Rows with a blank line between them, one document: how WikiText-2 is fed to
                ///< tokenizers in the GPTQ and AWQ papers' code. Rows are a plain text's lines,
                ///< with their ends, or the texts of .jsonl; rows of white space are empty.
};

struct ReadOptions {
  TextLayout layout = TextLayout::kAsIs;
  bool parse_special = false;  ///< As EncodeOptions::parse_special.
};

/// Reads documents in the file's order, or shuffled by `seed` when it is not 0, until they hold
/// `needed_tokens` (0: all of them). The path "builtin" is the text that pare brings
/// (calib/builtin_text.h). A plain text file is one document, tokenized in one call.
/// Token ids are taken as they are. Throws Error(kInputMissing) or Error(kInputMalformed) naming
/// the file and line; what is no text at all (empty, compressed, NUL bytes, not UTF-8) and JSON
/// lines under another ending are malformed.
TokenDocuments read_documents(const std::string& path, const WeightSource& source,
                              int64_t needed_tokens, uint64_t seed,
                              const ReadOptions& options = {});

/// What the encoder reads for each of some windows, one after the other.
struct SourceTokens {
  std::vector<int32_t> ids;
  std::vector<int64_t> begin;  ///< [windows + 1] into ids; empty for models without an encoder.

  bool empty() const noexcept { return begin.empty(); }
  int64_t length(int64_t window) const {
    const auto i = static_cast<size_t>(window);
    return begin[i + 1] - begin[i];
  }
  int64_t longest() const {
    int64_t most = 0;
    for (size_t i = 1; i < begin.size(); ++i) most = std::max(most, begin[i] - begin[i - 1]);
    return most;
  }
};

/// Token ids cut into windows of equal length, without padding.
struct TokenWindows {
  int64_t count = 0;
  int64_t length = 0;
  std::vector<int32_t> ids;  ///< [count, length]
  std::string ids_sha256;    ///< Of `ids` as little-endian 32-bit integers.
  SourceTokens sources;      ///< For an encoder: a text for each window.
  /// Tokens of each window that are there; what follows is padding. Empty: all.
  std::vector<int64_t> used;

  int64_t tokens_of(int64_t window) const {
    return used.empty() ? length : used[static_cast<size_t>(window)];
  }
};

/// Documents one after another, cut into windows of `length`: exactly `count` of them, or as many
/// as there are when `count` is 0 (the tail is dropped). Throws Error(kInputMalformed) with both
/// numbers when there are too few tokens; of the text that pare brings, `count` at most.
TokenWindows make_windows(const TokenDocuments& documents, int64_t count, int64_t length,
                          const std::string& path);

}  // namespace pare
