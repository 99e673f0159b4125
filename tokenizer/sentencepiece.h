// The tokenizer that a SentencePiece model describes.
//
// Text is normalized by the model's charsmap, white space becomes "▁", and the whole of it is cut
// by the unigram model or by byte-pair merges, whose order is that of the pieces' scores. Immutable
// and safe to use from several threads.
//
//   const SentencePiece pieces(parse_sentencepiece(bytes, "spiece.model"), {.add_eos = true},
//                              "spiece.model");
//   pieces.encode("Hello", {.add_special_tokens = true});
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/byte_trie.h"
#include "tokenizer/charsmap.h"
#include "tokenizer/sentencepiece_file.h"
#include "tokenizer/token_table.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/unigram.h"

namespace pare {

/// What the model's file leaves to the program that uses it.
struct SentencePieceSettings {
  bool add_bos = false;                       ///< In front of the text,
  bool add_eos = false;                       ///< and behind it.
  std::optional<std::string> bos_token = {};  ///< Unless the model's own bos_id
  std::optional<std::string> eos_token = {};  ///< and eos_id.
  int32_t extra_ids = 0;  ///< Special "<extra_id_0>" … behind the pieces, the last one first.
  std::vector<AddedToken> added_tokens = {};  ///< Beyond the model's pieces.
};

class SentencePiece {
 public:
  /// `origin` is for messages. Throws Error(kInputMalformed) when the charsmap is damaged or the
  /// settings ask for a token that is not there.
  SentencePiece(SentencePieceFile file, const SentencePieceSettings& settings,
                const std::string& origin);

  // As those of Tokenizer.
  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options) const;
  std::string decode(const std::vector<int32_t>& ids, bool skip_special_tokens) const;
  std::string token_text(int32_t id) const;
  int32_t vocab_size() const { return table_.size(); }
  int32_t token_to_id(std::string_view token) const;

  /// The text that the model cuts. REQUIRES: valid UTF-8.
  std::string normalize(std::string_view text) const;

 private:
  using Model = std::variant<Bpe, Unigram>;
  static Model make_model(const SentencePieceFile& file, const std::string& origin);
  std::vector<AddedToken> index_tokens(const SentencePieceSettings& settings);
  std::optional<int32_t> end_token(bool wanted, const std::optional<std::string>& name, int32_t id,
                                   const char* what, const std::string& origin) const;
  std::string_view normalize_prefix(std::string_view text, size_t& size) const;
  template <typename Cache, typename ModelKind>
  void encode_with(const ModelKind& model, std::string_view text, const EncodeOptions& options,
                   std::vector<int32_t>& ids) const;

  SentencePieceFile file_;
  Charsmap charsmap_;
  ByteTrie verbatim_;  // User-defined pieces, which the charsmap leaves alone.
  Model model_;
  TokenTable table_;
  AddedTokens added_;
  std::optional<int32_t> bos_;
  std::optional<int32_t> eos_;
};

}  // namespace pare
