// The tokenizer that a tokenizer.json describes: added tokens, normalizer, pre-tokenizer, model,
// post-processor, decoder.
//
// Immutable and safe to use from several threads.
//
//   const Pipeline pipeline(parse_tokenizer_json(text, "tokenizer.json"), "tokenizer.json");
//   pipeline.encode("Hello", {.add_special_tokens = true});
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/decoder.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/token_table.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_file.h"
#include "tokenizer/unigram.h"

namespace pare {

class Pipeline {
 public:
  /// `origin` is for messages. Throws Error(kInputMalformed) when the parts do not fit together.
  Pipeline(TokenizerFile file, const std::string& origin);

  // As those of Tokenizer.
  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options) const;
  std::string decode(const std::vector<int32_t>& ids, bool skip_special_tokens) const;
  std::string token_text(int32_t id) const;
  int32_t vocab_size() const { return table_.size(); }
  int32_t token_to_id(std::string_view token) const;

 private:
  using Model = std::variant<Bpe, Unigram>;
  static Model make_model(TokenizerFile& file, const std::string& origin);
  std::vector<AddedToken> index_tokens(const std::vector<AddedToken>& tokens);
  template <typename Cache, typename ModelKind>
  void encode_with(const ModelKind& model, std::string_view text, const EncodeOptions& options,
                   std::vector<int32_t>& ids) const;

  TokenTable table_;
  std::vector<PostProcessorTemplate> templates_;
  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  Decoder decoder_;
  Model model_;
  AddedTokens added_;  // Last: it is made from the others.
};

}  // namespace pare
