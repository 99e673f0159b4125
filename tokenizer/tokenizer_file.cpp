#include "tokenizer/tokenizer_file.h"

#include <algorithm>
#include <unordered_set>

#include "pare/error.h"
#include "tokenizer/json_fields.h"
#include "tokenizer/tokenizer_steps.h"

namespace pare {
namespace {

class Parser {
 public:
  explicit Parser(const std::string& origin) : fields_(origin) {}

  TokenizerFile run(std::string_view text) const {
    const Json root = fields_.parse(text);
    TokenizerFile file;
    file.model = model(root);  // First: another kind of model is the most telling message.
    file.added_tokens = added_tokens(root);
    parse_steps(root, fields_, file);
    return file;
  }

  void vocabulary_file(std::string_view text, BpeModel& model) const {
    vocabulary(fields_.parse(text), model);
  }

  // The lines of a merges.txt.
  void merge_lines(std::string_view text, BpeModel& model) const {
    for (size_t at = 0, number = 0; at < text.size(); ++number) {
      const size_t end = std::min(text.find('\n', at), text.size());
      std::string_view line = text.substr(at, end - at);
      at = end + 1;
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (!line.empty()) merge_text(line, number, model);
    }
  }

 private:
  std::variant<BpeModel, UnigramModel> model(const Json& root) const {
    const Json& json = fields_.member(root, "model", "tokenizer");
    if (!json.is_object()) {
      fields_.fail(std::string("model: expected an object, found ") + json.type_name());
    }
    // Files of the first releases have no type; they are BPE when they have merges.
    const Json* type = JsonFields::find(json, "type");
    if (type != nullptr || JsonFields::find(json, "merges") == nullptr) {
      const std::string& name = fields_.string(json, "type", "model");
      if (name == "Unigram") return unigram(json);
      if (name != "BPE") fields_.unsupported("model", name, "BPE or Unigram");
    }
    return bpe(json);
  }

  BpeModel bpe(const Json& json) const {
    const Json* dropout = JsonFields::find(json, "dropout");
    if (dropout != nullptr && !(dropout->is_number() && dropout->get<double>() == 0)) {
      fields_.fail("model: dropout " + quoted_text(dropout->dump()) +
                   " makes ids random and is not supported, expected none");
    }
    BpeModel model;
    if (JsonFields::find(json, "unk_token") != nullptr) {
      model.unknown_token = fields_.string(json, "unk_token", "model");
    }
    const auto optional_text = [&](const char* key) {
      return JsonFields::find(json, key) == nullptr ? "" : fields_.string(json, key, "model");
    };
    model.continuing_subword_prefix = optional_text("continuing_subword_prefix");
    model.end_of_word_suffix = optional_text("end_of_word_suffix");
    model.fuse_unknown = fields_.boolean(json, "fuse_unk", false, "model");
    model.byte_fallback = fields_.boolean(json, "byte_fallback", false, "model");
    model.ignore_merges = fields_.boolean(json, "ignore_merges", false, "model");
    vocabulary(fields_.member(json, "vocab", "model"), model);
    merges(json, model);
    return model;
  }

  void vocabulary(const Json& vocabulary, BpeModel& model) const {
    if (!vocabulary.is_object()) {
      fields_.fail(std::string("model: \"vocab\": expected an object, found ") +
                   vocabulary.type_name());
    }
    if (vocabulary.empty()) fields_.fail("model: \"vocab\" is empty");
    model.vocabulary.reserve(vocabulary.size());
    std::unordered_set<int32_t> used;
    used.reserve(vocabulary.size());
    for (const auto& [content, value] : vocabulary.items()) {
      const int32_t number = fields_.id(value, "vocabulary entry " + quoted_text(content));
      if (!used.insert(number).second) {
        fields_.fail("vocabulary entry " + quoted_text(content) + ": id " + std::to_string(number) +
                     " belongs to another token too");
      }
      model.vocabulary.emplace_back(content, number);
    }
  }

  void merges(const Json& json, BpeModel& model) const {
    const Json& merges = fields_.array(json, "merges", "model");
    model.merges.reserve(merges.size());
    for (size_t i = 0; i < merges.size(); ++i) {
      const Json& merge = merges[i];
      if (!merge.is_array()) {
        merge_text(fields_.string(merge, where_merge(i)), i, model);
        continue;
      }
      if (merge.size() != 2) {
        fields_.fail(where_merge(i) + ": expected two tokens, found " + quoted_text(merge.dump()));
      }
      model.merges.emplace_back(fields_.string(merge[0], where_merge(i)),
                                fields_.string(merge[1], where_merge(i)));
    }
  }

  static std::string where_merge(size_t number) { return "merge " + std::to_string(number); }

  void merge_text(std::string_view text, size_t number, BpeModel& model) const {
    if (text.starts_with("#version")) return;  // The first line of merges.txt.
    const size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
      fields_.fail(where_merge(number) + ": expected two tokens and one space, found " +
                   quoted_text(text));
    }
    model.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
  }

  UnigramModel unigram(const Json& json) const {
    UnigramModel model;
    model.byte_fallback = fields_.boolean(json, "byte_fallback", false, "model");
    if (const Json* unknown = JsonFields::find(json, "unk_id")) {
      model.unknown_id = fields_.id(*unknown, "model: \"unk_id\"");
    }
    const Json& vocabulary = fields_.array(json, "vocab", "model");
    model.pieces.reserve(vocabulary.size());
    for (size_t i = 0; i < vocabulary.size(); ++i) {
      const Json& entry = vocabulary[i];
      if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() ||
          !entry[1].is_number()) {
        fields_.fail("vocabulary entry " + std::to_string(i) + ": expected [piece, score], found " +
                     quoted_text(entry.dump()));
      }
      model.pieces.push_back({entry[0].get<std::string>(), entry[1].get<double>()});
    }
    return model;
  }

  std::vector<AddedToken> added_tokens(const Json& root) const {
    std::vector<AddedToken> tokens;
    if (JsonFields::find(root, "added_tokens") == nullptr) return tokens;
    for (const Json& json : fields_.array(root, "added_tokens", "tokenizer")) {
      const std::string& content = fields_.string(json, "content", "added token");
      const std::string where = "added token " + quoted_text(content);
      tokens.push_back(
          parse_added_token(json, fields_.id(fields_.member(json, "id", where), where), fields_));
    }
    return tokens;
  }

  JsonFields fields_;
};

}  // namespace

TokenizerFile parse_tokenizer_json(std::string_view text, const std::string& origin) {
  return Parser(origin).run(text);
}

BpeModel parse_vocab_and_merges(std::string_view vocab_json, const std::string& vocab_origin,
                                std::string_view merges_txt, const std::string& merges_origin) {
  BpeModel model;
  Parser(vocab_origin).vocabulary_file(vocab_json, model);
  const std::string merges = replace_invalid_utf8(merges_txt);
  if (merges != merges_txt) {
    throw Error(ErrorCode::kInputMalformed, merges_origin + ": is not UTF-8");
  }
  Parser(merges_origin).merge_lines(merges, model);
  return model;
}

void check_token_size(std::string_view token, const std::string& origin) {
  if (token.size() <= kLongestToken) return;
  throw Error(ErrorCode::kInputMalformed,
              origin + ": token " + quoted_text(token) + " has " + std::to_string(token.size()) +
                  " bytes, expected at most " + std::to_string(kLongestToken));
}

}  // namespace pare
