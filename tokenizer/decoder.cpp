#include "tokenizer/decoder.h"

#include <algorithm>
#include <utility>

#include "tokenizer/byte_alphabet.h"
#include "tokenizer/unicode.h"

namespace pare {
namespace {

using Tokens = std::vector<DecodedToken>;

void fuse(Tokens& tokens) {
  std::string all;
  for (const DecodedToken& token : tokens) all += token.text;
  tokens.assign(1, {std::move(all), false});
}

void decode_byte_level(Tokens& tokens) {
  for (DecodedToken& token : tokens) {
    std::string bytes;
    // Added tokens are spelled as they stand in the text, and so is what a byte-level vocabulary
    // holds outside the alphabet.
    if (!token.is_added && append_character_bytes(bytes, token.text)) token.text = std::move(bytes);
  }
  fuse(tokens);
}

void decode_bytes(Tokens& tokens) {
  for (DecodedToken& token : tokens) {
    const int byte = byte_of_token(token.text);
    if (byte >= 0) token.text.assign(1, static_cast<char>(byte));
  }
}

std::string without_all(std::string_view text, std::string_view part) {
  std::string result;
  size_t at = 0;
  for (size_t found = text.find(part); found != std::string_view::npos;
       found = text.find(part, at)) {
    result.append(text, at, found - at);
    at = found + part.size();
  }
  return result.append(text, at);
}

void decode_strip(Tokens& tokens, const DecodeStrip& step) {
  for (DecodedToken& token : tokens) {
    std::string_view text = token.text;
    for (size_t i = 0; i < step.start && text.starts_with(step.content); ++i) {
      text.remove_prefix(step.content.size());
    }
    for (size_t i = 0; i < step.stop && text.ends_with(step.content); ++i) {
      text.remove_suffix(step.content.size());
    }
    token.text = std::string(text);
  }
}

// What stands for a space in every token but the first (of Metaspace) or the last (of a suffix),
// where it stands for nothing.
std::string_view edge_text(const DecoderStep& step) {
  if (const auto* suffix = std::get_if<DecodeSuffix>(&step)) return suffix->suffix;
  const auto* metaspace = std::get_if<DecodeMetaspace>(&step);
  return metaspace != nullptr && metaspace->drop_first ? metaspace->replacement
                                                       : std::string_view();
}

}  // namespace

Decoder::Decoder(std::vector<DecoderStep> steps, const std::string& origin)
    : steps_(std::move(steps)) {
  for (const DecoderStep& step : steps_) {
    replacements_.emplace_back();
    if (const auto* replace = std::get_if<DecodeReplace>(&step)) {
      replacements_.back().emplace(replace->pattern, replace->content, origin);
    } else if (const auto* metaspace = std::get_if<DecodeMetaspace>(&step)) {
      replacements_.back().emplace(TextPattern{metaspace->replacement, false}, " ", origin);
    } else if (const auto* suffix = std::get_if<DecodeSuffix>(&step)) {
      replacements_.back().emplace(TextPattern{suffix->suffix, false}, " ", origin);
    }
  }
}

std::string Decoder::decode(std::vector<DecodedToken> tokens) const {
  RegexScratch scratch;
  for (size_t i = 0; i < steps_.size(); ++i) {
    const DecoderStep& step = steps_[i];
    if (std::holds_alternative<DecodeByteLevel>(step)) {
      decode_byte_level(tokens);
    } else if (std::holds_alternative<DecodeByteFallback>(step)) {
      decode_bytes(tokens);
    } else if (std::holds_alternative<DecodeFuse>(step)) {
      fuse(tokens);
    } else if (const auto* ends = std::get_if<DecodeStrip>(&step)) {
      decode_strip(tokens, *ends);
    } else {
      if (const std::string_view edge = edge_text(step); !edge.empty() && !tokens.empty()) {
        std::string& text =
            std::holds_alternative<DecodeSuffix>(step) ? tokens.back().text : tokens.front().text;
        text = without_all(text, edge);
      }
      for (DecodedToken& token : tokens) {
        // Bytes that an earlier step made may be no UTF-8, which regular expressions ask for.
        token.text = replacements_[i]->apply(replace_invalid_utf8(token.text), scratch);
      }
    }
  }
  fuse(tokens);
  return std::move(tokens[0].text);
}

}  // namespace pare
