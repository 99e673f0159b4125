#include "tokenizer/pipeline.h"

#include <utility>

#include "pare/error.h"
#include "tokenizer/post_processor.h"
#include "tokenizer/unicode.h"

namespace pare {

Pipeline::Pipeline(TokenizerFile file, const std::string& origin)
    : table_(origin),
      templates_(std::move(file.post_processor)),
      normalizer_(std::move(file.normalizer), origin),
      pre_tokenizer_(std::move(file.pre_tokenizer), origin),
      decoder_(std::move(file.decoder), origin),
      model_(make_model(file, origin)),
      added_(index_tokens(file.added_tokens), normalizer_) {
  for (const PostProcessorTemplate& step : templates_) {
    for (const auto* ids : {&step.before, &step.after}) {
      for (const int32_t id : *ids) {
        if (!table_.contains(id)) {
          throw Error(ErrorCode::kInputMalformed,
                      origin + ": post_processor: no token has the id " + std::to_string(id));
        }
      }
    }
  }
}

Pipeline::Model Pipeline::make_model(TokenizerFile& file, const std::string& origin) {
  if (auto* unigram = std::get_if<UnigramModel>(&file.model)) {
    unigram->special_ids = special_ids(file.added_tokens);
    return Unigram(std::move(*unigram), origin);
  }
  auto& bpe = std::get<BpeModel>(file.model);
  bpe.special_ids = special_ids(file.added_tokens);
  return Bpe(std::move(bpe), origin);
}

std::vector<AddedToken> Pipeline::index_tokens(const std::vector<AddedToken>& tokens) {
  if (const auto* bpe = std::get_if<Bpe>(&model_)) {
    for (const auto& [content, id] : bpe->vocabulary()) table_.add(id, content);
  } else {
    const auto& pieces = std::get<Unigram>(model_).pieces();
    for (size_t id = 0; id < pieces.size(); ++id) {
      table_.add(static_cast<int32_t>(id), pieces[id].text);
    }
  }
  return table_.add_tokens(tokens, [&](std::string_view content) {
    return std::visit([&](const auto& model) { return model.find(content); }, model_);
  });
}

template <typename Cache, typename ModelKind>
void Pipeline::encode_with(const ModelKind& model, std::string_view text,
                           const EncodeOptions& options, std::vector<int32_t>& ids) const {
  RegexScratch scratch;
  Cache cache(options.parse_special);
  const auto split = [&](std::string_view part, AddedTokens::Stage stage) {
    return added_.split(part, stage, options.parse_special);
  };
  for (const TextSegment& raw : split(text, AddedTokens::Stage::kRaw)) {
    if (raw.id != TextSegment::kText) {
      ids.push_back(raw.id);
      continue;
    }
    const std::string normalized =
        normalizer_.apply(text.substr(raw.begin, raw.end - raw.begin), scratch);
    for (const TextSegment& part : split(normalized, AddedTokens::Stage::kNormalized)) {
      if (part.id != TextSegment::kText) {
        ids.push_back(part.id);
        continue;
      }
      const PieceList words =
          pre_tokenizer_.split(normalized.substr(part.begin, part.end - part.begin), scratch,
                               /*is_first=*/raw.begin == 0 && part.begin == 0);
      for (size_t i = 0; i < words.bounds.size(); ++i) model.encode(words.piece(i), cache, ids);
    }
  }
}

std::vector<int32_t> Pipeline::encode(std::string_view text, const EncodeOptions& options) const {
  const std::string valid = replace_invalid_utf8(text);
  std::vector<int32_t> ids;
  if (const auto* bpe = std::get_if<Bpe>(&model_)) {
    encode_with<BpeCache>(*bpe, valid, options, ids);
  } else {
    encode_with<UnigramCache>(std::get<Unigram>(model_), valid, options, ids);
  }
  if (options.add_special_tokens) apply_templates(templates_, ids);
  return ids;
}

std::string Pipeline::decode(const std::vector<int32_t>& ids, bool skip_special_tokens) const {
  std::vector<DecodedToken> tokens;
  tokens.reserve(ids.size());
  for (const int32_t id : ids) {
    const TokenTable::Entry& entry = table_.at(id);
    if (skip_special_tokens && entry.is_special) continue;
    tokens.push_back({entry.content, entry.is_added});
  }
  return decoder_.decode(std::move(tokens));
}

std::string Pipeline::token_text(int32_t id) const {
  const TokenTable::Entry& entry = table_.at(id);
  if (entry.is_special) return "";
  // What decoders do to the first token they do to the letter in front.
  const std::string text = decoder_.decode({{"a", true}, {entry.content, entry.is_added}});
  return text.starts_with('a') ? text.substr(1) : text;
}

int32_t Pipeline::token_to_id(std::string_view token) const {
  const int32_t added = table_.find_added(token);
  if (added >= 0) return added;
  return std::visit([&](const auto& model) { return model.find(token); }, model_);
}

}  // namespace pare
