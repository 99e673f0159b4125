// What tokenizer_config.json, special_tokens_map.json and added_tokens.json say about a tokenizer
// whose main file is not a tokenizer.json.
//
// A plain value; what no file says is absent.
//
//   TokenizerConfig config = read_tokenizer_config(files, "models/t5");
//   if (config.tokenizer_class == "T5Tokenizer") …
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tokenizer/tokenizer_file.h"

namespace pare {

struct TokenizerConfig {
  std::string tokenizer_class;  ///< Without "Fast"; empty where it is not given.
  std::optional<bool> add_bos_token;
  std::optional<bool> add_eos_token;
  bool add_prefix_space = false;
  std::optional<int32_t> extra_ids;
  std::map<std::string, std::string> special_tokens;  ///< "bos_token" → "<s>".
  std::vector<std::string> special_contents;          ///< Of those and the additional ones.
  std::vector<AddedToken> added_tokens;               ///< With ids.

  /// The special token of that name.
  std::optional<std::string> special(const std::string& name) const;
};

/// `files` holds the model's small files by name, `folder` is for messages. Throws
/// Error(kInputMalformed) when one of them is damaged.
TokenizerConfig read_tokenizer_config(const std::map<std::string, std::string>& files,
                                      const std::string& folder);

}  // namespace pare
