// Text to token ids, and back, as the files of a model describe it.
//
// A tokenizer comes from tokenizer.json (byte-level BPE, BPE with byte fallback, Unigram), from a
// SentencePiece model, or from vocab.json with merges.txt; open_tokenizer.h finds out which. The
// ids equal those of the reference implementations; see tests/tokenizer. A Tokenizer is immutable
// and safe to use from several threads.
//
//   Tokenizer tokenizer = Tokenizer::from_json(text, "tokenizer.json");
//   std::vector<int32_t> ids = tokenizer.encode("Hello", /*add_special_tokens=*/true);
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace pare {

struct TokenizerFile;
struct SentencePieceSettings;

struct EncodeOptions {
  /// Put the special tokens around the text that the model was trained with (BOS, EOS …).
  bool add_special_tokens = true;
  /// Recognise special tokens that the text spells, as the reference implementations do. Without
  /// it "</s>" in a document is five characters like any others; added tokens that are not special
  /// are recognised all the same.
  bool parse_special = false;
};

class Tokenizer {
 public:
  /// Parses the text of a tokenizer.json; `origin` is for messages. Throws Error(kInputMalformed)
  /// when it is damaged, or of a kind that is not supported (named).
  static Tokenizer from_json(std::string_view json, const std::string& origin);

  /// The same from what such a file would say.
  static Tokenizer from_file(TokenizerFile file, const std::string& origin);

  /// Reads the bytes of a SentencePiece model. Throws as from_json.
  static Tokenizer from_sentencepiece(std::string_view bytes, const SentencePieceSettings& settings,
                                      const std::string& origin);

  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  /// Text that is not valid UTF-8 has its bad bytes replaced by U+FFFD.
  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options) const;

  /// The same for a document, whose special tokens are text.
  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens) const;

  /// The text that the tokens spell; special tokens are left out when asked. Ids that cut a
  /// character in two give its bytes as they are.
  std::string decode(const std::vector<int32_t>& ids, bool skip_special_tokens = false) const;

  /// What a token adds to a text in its middle: with the space that it begins with, and nothing for
  /// special tokens.
  std::string token_text(int32_t id) const;

  /// One more than the largest id.
  int32_t vocab_size() const;

  /// The id of a token by its content, or −1.
  int32_t token_to_id(std::string_view token) const;

 private:
  struct State;
  explicit Tokenizer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace pare
