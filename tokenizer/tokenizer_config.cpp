#include "tokenizer/tokenizer_config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include "tokenizer/json_fields.h"
#include "tokenizer/tokenizer_steps.h"

namespace pare {
namespace {

constexpr std::array kSpecialNames{"bos_token", "eos_token", "unk_token", "sep_token",
                                   "pad_token", "cls_token", "mask_token"};
// T5 has 100.
constexpr int64_t kMostExtraIds = 1'000'000;

class Reader {
 public:
  Reader(const JsonFields& fields, TokenizerConfig& config) : fields_(fields), config_(config) {}

  void read_config(const Json& root) {
    const std::string where = "tokenizer";
    if (JsonFields::find(root, "tokenizer_class") != nullptr) {
      config_.tokenizer_class = fields_.string(root, "tokenizer_class", where);
      if (config_.tokenizer_class.ends_with("Fast")) {
        config_.tokenizer_class.resize(config_.tokenizer_class.size() - 4);
      }
    }
    for (const auto& [key, flag] : {std::pair("add_bos_token", &config_.add_bos_token),
                                    std::pair("add_eos_token", &config_.add_eos_token)}) {
      if (JsonFields::find(root, key) != nullptr) *flag = fields_.boolean(root, key, false, where);
    }
    config_.add_prefix_space = fields_.boolean(root, "add_prefix_space", false, where);
    if (JsonFields::find(root, "extra_ids") != nullptr) {
      config_.extra_ids =
          static_cast<int32_t>(fields_.count(root, "extra_ids", 0, kMostExtraIds, where));
    }
    read_special_tokens(root);
    if (const Json* tokens = fields_.component(root, "added_tokens_decoder")) {
      for (const auto& [id, token] : tokens->items()) {
        config_.added_tokens.push_back(parse_added_token(token, number(id), fields_));
      }
    }
  }

  void read_special_tokens(const Json& root) {
    for (const char* name : kSpecialNames) {
      if (const Json* token = JsonFields::find(root, name)) {
        config_.special_tokens[name] = content(*token, name);
        config_.special_contents.push_back(config_.special_tokens[name]);
      }
    }
    // A list in files, an object of names in some newer ones.
    const Json* more = JsonFields::find(root, "additional_special_tokens");
    if (more == nullptr) return;
    if (!more->is_array()) fields_.fail("\"additional_special_tokens\": expected an array");
    for (const Json& token : *more) {
      config_.special_contents.push_back(content(token, "additional_special_tokens"));
    }
  }

  void read_added_tokens(const Json& root) {
    for (const auto& [key, id] : root.items()) {
      AddedToken token;
      token.content = key;
      const auto& known = config_.added_tokens;
      const bool described = std::any_of(known.begin(), known.end(), [&](const AddedToken& other) {
        return other.content == token.content;
      });
      if (described) continue;
      token.id = fields_.id(id, "added token " + quoted_text(key));
      const auto& special = config_.special_contents;
      token.special = std::find(special.begin(), special.end(), key) != special.end();
      token.normalized = !token.special;
      config_.added_tokens.push_back(std::move(token));
    }
  }

 private:
  // "<s>" or {"content": "<s>", …}.
  std::string content(const Json& token, const char* name) const {
    return token.is_object() ? fields_.string(token, "content", name) : fields_.string(token, name);
  }

  int32_t number(const std::string& text) const {
    int32_t value = -1;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) value = -1;
    return fields_.id(value < 0 ? Json(text) : Json(static_cast<uint32_t>(value)),
                      "\"added_tokens_decoder\"");
  }

  const JsonFields& fields_;
  TokenizerConfig& config_;
};

}  // namespace

std::optional<std::string> TokenizerConfig::special(const std::string& name) const {
  const auto found = special_tokens.find(name);
  return found == special_tokens.end() ? std::nullopt : std::optional(found->second);
}

TokenizerConfig read_tokenizer_config(const std::map<std::string, std::string>& files,
                                      const std::string& folder) {
  TokenizerConfig config;
  const auto read = [&](const std::string& name, const auto& use) {
    const auto file = files.find(name);
    if (file == files.end()) return;
    const JsonFields fields(folder + "/" + name);
    const Json root = fields.parse(file->second);
    Reader reader(fields, config);
    use(reader, root);
  };
  // What the later ones say counts.
  read("special_tokens_map.json",
       [](Reader& reader, const Json& root) { reader.read_special_tokens(root); });
  read("tokenizer_config.json", [](Reader& reader, const Json& root) { reader.read_config(root); });
  read("added_tokens.json",
       [](Reader& reader, const Json& root) { reader.read_added_tokens(root); });
  return config;
}

}  // namespace pare
