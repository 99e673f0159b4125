#include "tokenizer/tokenizer_file.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "pare/error.h"

namespace pare {
namespace {

using Json = nlohmann::json;

// Sequences inside sequences; real files have two levels.
constexpr int kDeepest = 16;

class Parser {
 public:
  explicit Parser(const std::string& origin) : origin_(origin) {}

  TokenizerFile run(std::string_view text) const {
    Json root;
    try {
      root = Json::parse(text);
    } catch (const Json::exception& error) {
      fail(std::string("not valid JSON: ") + error.what());
    }
    if (!root.is_object()) fail(std::string("expected a JSON object, found ") + root.type_name());
    TokenizerFile file;
    file.model = model(root);  // First: another kind of model is the most telling message.
    file.added_tokens = added_tokens(root);
    normalizer(component(root, "normalizer"), file.normalizer, 0);
    pre_tokenizer(component(root, "pre_tokenizer"), file.pre_tokenizer, 0);
    post_processor(component(root, "post_processor"), file.post_processor, 0);
    const Json* decoder = component(root, "decoder");
    file.byte_level = decoder != nullptr
                          ? check_decoder(*decoder, 0)
                          : std::any_of(file.pre_tokenizer.begin(), file.pre_tokenizer.end(),
                                        [](const PreTokenizerStep& step) {
                                          return std::holds_alternative<SplitByteLevel>(step);
                                        });
    return file;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::kInputMalformed, origin_ + ": " + what);
  }
  [[noreturn]] void unsupported(const std::string& what, std::string_view type,
                                const std::string& expected) const {
    fail(what + " type " + quoted_text(type) + " is not supported, expected " + expected);
  }

  // A member that may be absent or null.
  static const Json* find(const Json& object, const char* key) {
    const auto found = object.find(key);
    return found == object.end() || found->is_null() ? nullptr : &*found;
  }
  const Json* component(const Json& root, const char* key) const {
    const Json* value = find(root, key);
    if (value != nullptr && !value->is_object()) {
      fail(std::string(key) + ": expected an object or null, found " + value->type_name());
    }
    return value;
  }
  const Json& member(const Json& object, const char* key, const std::string& where) const {
    const Json* value = object.is_object() ? find(object, key) : nullptr;
    if (value == nullptr) fail(where + ": \"" + key + "\" is missing");
    return *value;
  }
  const Json& array(const Json& object, const char* key, const std::string& where) const {
    const Json& value = member(object, key, where);
    if (!value.is_array()) {
      fail(where + ": \"" + key + "\": expected an array, found " + value.type_name());
    }
    return value;
  }
  const std::string& string(const Json& value, const std::string& where) const {
    if (!value.is_string()) fail(where + ": expected a string, found " + value.type_name());
    return value.get_ref<const std::string&>();
  }
  const std::string& string(const Json& object, const char* key, const std::string& where) const {
    return string(member(object, key, where), where + ": \"" + key + "\"");
  }
  bool boolean(const Json& object, const char* key, bool otherwise,
               const std::string& where) const {
    const Json* value = find(object, key);
    if (value == nullptr) return otherwise;
    if (!value->is_boolean()) {
      fail(where + ": \"" + key + "\": expected true or false, found " + value->type_name());
    }
    return value->get<bool>();
  }
  int32_t id(const Json& value, const std::string& where) const {
    // One less than the largest int32, so that the size of the vocabulary is one too.
    constexpr uint64_t kLargest = std::numeric_limits<int32_t>::max() - 1;
    if (!value.is_number_unsigned() || value.get<uint64_t>() > kLargest) {
      fail(where + ": the id must be a whole number from 0 to " + std::to_string(kLargest) +
           ", found " + quoted_text(value.dump()));
    }
    return static_cast<int32_t>(value.get<uint64_t>());
  }

  BpeModel model(const Json& root) const {
    const Json& json = member(root, "model", "tokenizer");
    if (!json.is_object())
      fail(std::string("model: expected an object, found ") + json.type_name());
    // Files of the first releases have no type; they are BPE when they have merges.
    const Json* type = find(json, "type");
    if (type != nullptr || find(json, "merges") == nullptr) {
      const std::string& name = string(json, "type", "model");
      if (name != "BPE") unsupported("model", name, "BPE");
    }
    if (boolean(json, "byte_fallback", false, "model")) {
      fail(
          "model: byte_fallback (BPE in SentencePiece style) is not supported, "
          "expected byte-level BPE");
    }
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const Json* value = find(json, key);
      if (value != nullptr && !string(*value, std::string("model: ") + key).empty()) {
        fail(std::string("model: ") + key + " " + quoted_text(string(*value, key)) +
             " is not supported, expected none");
      }
    }
    const Json* dropout = find(json, "dropout");
    if (dropout != nullptr && !(dropout->is_number() && dropout->get<double>() == 0)) {
      fail("model: dropout " + quoted_text(dropout->dump()) +
           " makes ids random and is not supported, expected none");
    }
    BpeModel model;
    if (find(json, "unk_token") != nullptr)
      model.unknown_token = string(json, "unk_token", "model");
    model.fuse_unknown = boolean(json, "fuse_unk", false, "model");
    model.ignore_merges = boolean(json, "ignore_merges", false, "model");
    vocabulary(json, model);
    merges(json, model);
    return model;
  }

  void vocabulary(const Json& json, BpeModel& model) const {
    const Json& vocabulary = member(json, "vocab", "model");
    if (!vocabulary.is_object()) {
      fail(std::string("model: \"vocab\": expected an object, found ") + vocabulary.type_name());
    }
    if (vocabulary.empty()) fail("model: \"vocab\" is empty");
    model.vocabulary.reserve(vocabulary.size());
    std::unordered_set<int32_t> used;
    used.reserve(vocabulary.size());
    for (const auto& [content, value] : vocabulary.items()) {
      const int32_t number = id(value, "vocabulary entry " + quoted_text(content));
      if (!used.insert(number).second) {
        fail("vocabulary entry " + quoted_text(content) + ": id " + std::to_string(number) +
             " belongs to another token too");
      }
      model.vocabulary.emplace_back(content, number);
    }
  }

  void merges(const Json& json, BpeModel& model) const {
    const Json& merges = array(json, "merges", "model");
    model.merges.reserve(merges.size());
    for (size_t i = 0; i < merges.size(); ++i) {
      const Json& merge = merges[i];
      const auto where = [i] { return "merge " + std::to_string(i); };
      if (merge.is_array()) {
        if (merge.size() != 2)
          fail(where() + ": expected two tokens, found " + quoted_text(merge.dump()));
        model.merges.emplace_back(string(merge[0], where()), string(merge[1], where()));
        continue;
      }
      const std::string& text = string(merge, where());
      if (text.starts_with("#version")) continue;  // The first line of merges.txt.
      const size_t space = text.find(' ');
      if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
        fail(where() + ": expected two tokens and one space, found " + quoted_text(text));
      }
      model.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
    }
  }

  std::vector<AddedToken> added_tokens(const Json& root) const {
    std::vector<AddedToken> tokens;
    if (find(root, "added_tokens") == nullptr) return tokens;
    for (const Json& json : array(root, "added_tokens", "tokenizer")) {
      AddedToken token;
      token.content = string(json, "content", "added token");
      const std::string where = "added token " + quoted_text(token.content);
      token.id = id(member(json, "id", where), where);
      token.special = boolean(json, "special", false, where);
      token.single_word = boolean(json, "single_word", false, where);
      token.lstrip = boolean(json, "lstrip", false, where);
      token.rstrip = boolean(json, "rstrip", false, where);
      token.normalized = boolean(json, "normalized", !token.special, where);
      tokens.push_back(std::move(token));
    }
    return tokens;
  }

  // Calls step(object, type) for an object, or in order for each member of a Sequence.
  template <typename Step>
  void flatten(const Json* json, const char* what, const char* members, int depth,
               const Step& step) const {
    if (json == nullptr) return;
    const std::string& type = string(*json, "type", what);
    if (type != "Sequence") {
      step(*json, type);
      return;
    }
    if (depth == kDeepest) fail(std::string(what) + ": Sequence is nested too deeply");
    for (const Json& inner : array(*json, members, what)) {
      flatten(&inner, what, members, depth + 1, step);
    }
  }

  TextPattern pattern(const Json& json, const std::string& where) const {
    const Json& pattern = member(json, "pattern", where);
    if (pattern.is_object() && pattern.size() == 1) {
      if (pattern.contains("Regex")) return {string(pattern, "Regex", where), true};
      if (pattern.contains("String")) return {string(pattern, "String", where), false};
    }
    fail(where + ": \"pattern\": expected {\"Regex\": …} or {\"String\": …}, found " +
         quoted_text(pattern.dump()));
  }

  SplitBehavior behavior(const std::string& name, const std::string& where) const {
    if (name == "Removed") return SplitBehavior::kRemoved;
    if (name == "Isolated") return SplitBehavior::kIsolated;
    if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
    if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
    if (name == "Contiguous") return SplitBehavior::kContiguous;
    fail(where + ": behavior " + quoted_text(name) +
         " is not known, expected Removed, Isolated, MergedWithPrevious, MergedWithNext or "
         "Contiguous");
  }

  void normalizer(const Json* root, std::vector<NormalizerStep>& steps, int depth) const {
    flatten(root, "normalizer", "normalizers", depth,
            [&](const Json& json, const std::string& type) {
              const std::string where = "normalizer " + type;
              if (type == "NFC") {
                steps.emplace_back(NormalizeUnicode{UnicodeForm::kNfc});
              } else if (type == "NFD") {
                steps.emplace_back(NormalizeUnicode{UnicodeForm::kNfd});
              } else if (type == "NFKC") {
                steps.emplace_back(NormalizeUnicode{UnicodeForm::kNfkc});
              } else if (type == "NFKD") {
                steps.emplace_back(NormalizeUnicode{UnicodeForm::kNfkd});
              } else if (type == "Lowercase") {
                steps.emplace_back(NormalizeLowercase{});
              } else if (type == "Prepend") {
                steps.emplace_back(NormalizePrepend{string(json, "prepend", where)});
              } else if (type == "Replace") {
                steps.emplace_back(
                    NormalizeReplace{pattern(json, where), string(json, "content", where)});
              } else {
                unsupported("normalizer", type,
                            "NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace or Sequence");
              }
            });
  }

  void pre_tokenizer(const Json* root, std::vector<PreTokenizerStep>& steps, int depth) const {
    flatten(root, "pre_tokenizer", "pretokenizers", depth,
            [&](const Json& json, const std::string& type) {
              const std::string where = "pre_tokenizer " + type;
              if (type == "ByteLevel") {
                steps.emplace_back(SplitByteLevel{boolean(json, "add_prefix_space", true, where),
                                                  boolean(json, "use_regex", true, where)});
              } else if (type == "Split") {
                steps.emplace_back(SplitOnPattern{pattern(json, where),
                                                  behavior(string(json, "behavior", where), where),
                                                  boolean(json, "invert", false, where)});
              } else if (type == "Digits") {
                steps.emplace_back(SplitOnDigits{boolean(json, "individual_digits", false, where)});
              } else if (type == "Punctuation") {
                const bool given = find(json, "behavior") != nullptr;
                steps.emplace_back(
                    SplitOnPunctuation{given ? behavior(string(json, "behavior", where), where)
                                             : SplitBehavior::kIsolated});
              } else {
                unsupported("pre_tokenizer", type,
                            "ByteLevel, Split, Digits, Punctuation or Sequence");
              }
            });
  }

  void post_processor(const Json* root, std::vector<PostProcessorTemplate>& templates,
                      int depth) const {
    flatten(root, "post_processor", "processors", depth,
            [&](const Json& json, const std::string& type) {
              if (type == "TemplateProcessing") {
                templates.push_back(single_template(json));
              } else if (type == "RobertaProcessing" || type == "BertProcessing") {
                templates.push_back({{pair_id(json, "cls", type)}, {pair_id(json, "sep", type)}});
              } else if (type != "ByteLevel") {  // ByteLevel moves offsets, not ids.
                unsupported("post_processor", type,
                            "TemplateProcessing, RobertaProcessing, BertProcessing, ByteLevel or "
                            "Sequence");
              }
            });
  }

  // ["</s>", 2]
  int32_t pair_id(const Json& json, const char* key, const std::string& type) const {
    const std::string where = "post_processor " + type + ": \"" + key + "\"";
    const Json& pair = array(json, key, "post_processor " + type);
    if (pair.size() != 2) fail(where + ": expected [token, id], found " + quoted_text(pair.dump()));
    return id(pair[1], where);
  }

  PostProcessorTemplate single_template(const Json& json) const {
    const std::string where = "post_processor TemplateProcessing";
    PostProcessorTemplate result;
    int texts = 0;
    for (const Json& piece : array(json, "single", where)) {
      if (piece.is_object() && piece.contains("Sequence")) {
        const std::string& name = string(piece["Sequence"], "id", where);
        if (name != "A")
          fail(where + ": sequence " + quoted_text(name) + " in \"single\", expected A");
        ++texts;
        continue;
      }
      const std::string& token = string(member(piece, "SpecialToken", where), "id", where);
      const Json& table = member(json, "special_tokens", where);
      const Json& entry = member(table, token.c_str(), where + ": \"special_tokens\"");
      auto& ids = texts == 0 ? result.before : result.after;
      for (const Json& value : array(entry, "ids", where)) {
        ids.push_back(id(value, where + ": " + quoted_text(token)));
      }
    }
    if (texts != 1) {
      fail(where + ": \"single\" holds the text " + std::to_string(texts) +
           " times, expected once");
    }
    return result;
  }

  bool check_decoder(const Json& root, int depth) const {
    bool byte_level = false;
    flatten(&root, "decoder", "decoders", depth, [&](const Json&, const std::string& type) {
      if (type != "ByteLevel" || byte_level) unsupported("decoder", type, "one ByteLevel");
      byte_level = true;
    });
    return byte_level;
  }

  const std::string& origin_;
};

}  // namespace

TokenizerFile parse_tokenizer_json(std::string_view text, const std::string& origin) {
  return Parser(origin).run(text);
}

}  // namespace pare
