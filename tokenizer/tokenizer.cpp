#include "tokenizer/tokenizer.h"

#include <utility>
#include <variant>

#include "tokenizer/pipeline.h"
#include "tokenizer/sentencepiece.h"
#include "tokenizer/tokenizer_file.h"

namespace pare {

struct Tokenizer::State {
  template <typename Kind, typename... Arguments>
  explicit State(std::in_place_type_t<Kind> type, Arguments&&... arguments)
      : kind(type, std::forward<Arguments>(arguments)...) {}

  std::variant<Pipeline, SentencePiece> kind;
};

Tokenizer::Tokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

Tokenizer Tokenizer::from_json(std::string_view json, const std::string& origin) {
  return from_file(parse_tokenizer_json(json, origin), origin);
}

Tokenizer Tokenizer::from_file(TokenizerFile file, const std::string& origin) {
  return Tokenizer(std::make_unique<State>(std::in_place_type<Pipeline>, std::move(file), origin));
}

Tokenizer Tokenizer::from_sentencepiece(std::string_view bytes,
                                        const SentencePieceSettings& settings,
                                        const std::string& origin) {
  return Tokenizer(std::make_unique<State>(std::in_place_type<SentencePiece>,
                                           parse_sentencepiece(bytes, origin), settings, origin));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  return std::visit([&](const auto& kind) { return kind.encode(text, options); }, state_->kind);
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  return encode(text, EncodeOptions{.add_special_tokens = add_special_tokens});
}

std::string Tokenizer::decode(const std::vector<int32_t>& ids, bool skip_special_tokens) const {
  return std::visit([&](const auto& kind) { return kind.decode(ids, skip_special_tokens); },
                    state_->kind);
}

std::string Tokenizer::token_text(int32_t id) const {
  return std::visit([&](const auto& kind) { return kind.token_text(id); }, state_->kind);
}

int32_t Tokenizer::vocab_size() const {
  return std::visit([](const auto& kind) { return kind.vocab_size(); }, state_->kind);
}

int32_t Tokenizer::token_to_id(std::string_view token) const {
  return std::visit([&](const auto& kind) { return kind.token_to_id(token); }, state_->kind);
}

}  // namespace pare
