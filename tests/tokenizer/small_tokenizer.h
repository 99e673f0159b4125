// A tokenizer.json small enough to follow by hand, and ways to change it.
//
// Free functions; the result is a value of the caller.
//
//   nlohmann::json json = small_tokenizer_json();
//   json["normalizer"] = {{"type", "NFC"}};
//   Tokenizer tokenizer = load(json);
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "tokenizer/tokenizer.h"

namespace pare {

constexpr const char* kOrigin = "tokenizer.json";

/// Byte-level BPE: "<s>" is 0, "</s>" 1, the byte with value b is 2 + b, and 258 … 261 are "he",
/// "ll", "hell" and "hello" with their merges in that order; the GPT-2 pattern, no normalizer.
nlohmann::json small_tokenizer_json();

/// The entry of added_tokens with everything false, changed by `flags`.
nlohmann::json added_token(int id, const std::string& content,
                           const nlohmann::json& flags = nlohmann::json::object());

Tokenizer load(const nlohmann::json& json);

/// The message of the Error(kInputMalformed) that from_json throws, or "" when it throws none.
std::string refusal(const std::string& text);

/// The whole file, or "" when there is none.
std::string read_file(const std::string& path);

}  // namespace pare
