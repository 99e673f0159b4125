// Text to token ids, as tokenizer.json describes it.
//
// Byte-level BPE: normalizer, added tokens, pre-tokenizer, merges, post-processor. The ids equal
// those of the reference implementation for every string; see tests/tokenizer. A Tokenizer is
// immutable and safe to use from several threads.
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

class Tokenizer {
 public:
  /// Parses the text of a tokenizer.json; `origin` is for messages. Throws Error(kInputMalformed)
  /// when it is damaged, or of a kind that is not supported (named).
  static Tokenizer from_json(std::string_view json, const std::string& origin);

  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  /// Special tokens in the text are recognised as such, as the reference implementation does.
  /// `add_special_tokens` runs the post-processor's template. Text that is not valid UTF-8 has its
  /// bad bytes replaced by U+FFFD.
  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens) const;

  /// Bytes of the tokens one after another; special tokens are left out when asked.
  std::string decode(const std::vector<int32_t>& ids, bool skip_special_tokens = false) const;

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
