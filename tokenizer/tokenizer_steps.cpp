#include "tokenizer/tokenizer_steps.h"

#include <algorithm>

#include "tokenizer/charsmap.h"

namespace pare {
namespace {

// Sequences inside sequences; real files have two levels.
constexpr int kDeepest = 16;
// How many characters a decoder may strip; real files have one.
constexpr int64_t kMostStripped = 1'000'000;

class StepParser {
 public:
  StepParser(const JsonFields& fields, TokenizerFile& file) : fields_(fields), file_(file) {}

  void run(const Json& root) const {
    flatten(fields_.component(root, "normalizer"), "normalizer", "normalizers", 0,
            [&](const Json& json, const std::string& type) { normalizer(json, type); });
    flatten(fields_.component(root, "pre_tokenizer"), "pre_tokenizer", "pretokenizers", 0,
            [&](const Json& json, const std::string& type) { pre_tokenizer(json, type); });
    flatten(fields_.component(root, "post_processor"), "post_processor", "processors", 0,
            [&](const Json& json, const std::string& type) { post_processor(json, type); });
    const Json* decoder_json = fields_.component(root, "decoder");
    flatten(decoder_json, "decoder", "decoders", 0,
            [&](const Json& json, const std::string& type) { decoder(json, type); });
    const bool byte_level = std::any_of(
        file_.pre_tokenizer.begin(), file_.pre_tokenizer.end(),
        [](const PreTokenizerStep& step) { return std::holds_alternative<SplitByteLevel>(step); });
    if (decoder_json == nullptr && byte_level) file_.decoder.emplace_back(DecodeByteLevel{});
  }

 private:
  // Calls step(object, type) for an object, or in order for each member of a Sequence.
  template <typename Step>
  void flatten(const Json* json, const char* what, const char* members, int depth,
               const Step& step) const {
    if (json == nullptr) return;
    const std::string& type = fields_.string(*json, "type", what);
    if (type != "Sequence") {
      step(*json, type);
      return;
    }
    if (depth == kDeepest) fields_.fail(std::string(what) + ": Sequence is nested too deeply");
    for (const Json& inner : fields_.array(*json, members, what)) {
      flatten(&inner, what, members, depth + 1, step);
    }
  }

  TextPattern pattern(const Json& json, const std::string& where) const {
    const Json& pattern = fields_.member(json, "pattern", where);
    if (pattern.is_object() && pattern.size() == 1) {
      if (pattern.contains("Regex")) return {fields_.string(pattern, "Regex", where), true};
      if (pattern.contains("String")) return {fields_.string(pattern, "String", where), false};
    }
    fields_.fail(where + ": \"pattern\": expected {\"Regex\": …} or {\"String\": …}, found " +
                 quoted_text(pattern.dump()));
  }

  SplitBehavior behavior(const Json& json, const std::string& where) const {
    const std::string& name = fields_.string(json, "behavior", where);
    if (name == "Removed") return SplitBehavior::kRemoved;
    if (name == "Isolated") return SplitBehavior::kIsolated;
    if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
    if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
    if (name == "Contiguous") return SplitBehavior::kContiguous;
    fields_.fail(where + ": behavior " + quoted_text(name) +
                 " is not known, expected Removed, Isolated, MergedWithPrevious, MergedWithNext or "
                 "Contiguous");
  }

  // A string of one character.
  std::string character(const Json& json, const char* key, const std::string& where) const {
    const std::string& text = fields_.string(json, key, where);
    if (text.empty() || code_point_at(text, 0).size != text.size()) {
      fields_.fail(where + ": \"" + key + "\": expected one character, found " + quoted_text(text));
    }
    return text;
  }

  PrependScheme prepend_scheme(const Json& json, const std::string& where) const {
    if (JsonFields::find(json, "prepend_scheme") == nullptr) {  // Older files.
      return fields_.boolean(json, "add_prefix_space", true, where) ? PrependScheme::kAlways
                                                                    : PrependScheme::kNever;
    }
    const std::string& name = fields_.string(json, "prepend_scheme", where);
    if (name == "always") return PrependScheme::kAlways;
    if (name == "first") return PrependScheme::kFirst;
    if (name == "never") return PrependScheme::kNever;
    fields_.fail(where + ": prepend_scheme " + quoted_text(name) +
                 " is not known, expected always, first or never");
  }

  void normalizer(const Json& json, const std::string& type) const {
    auto& steps = file_.normalizer;
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
      steps.emplace_back(NormalizePrepend{fields_.string(json, "prepend", where)});
    } else if (type == "Replace") {
      steps.emplace_back(
          NormalizeReplace{pattern(json, where), fields_.string(json, "content", where)});
    } else if (type == "Strip") {
      steps.emplace_back(NormalizeStrip{fields_.boolean(json, "strip_left", true, where),
                                        fields_.boolean(json, "strip_right", true, where)});
    } else if (type == "StripAccents") {
      steps.emplace_back(NormalizeStripAccents{});
    } else if (type == "Nmt") {
      steps.emplace_back(NormalizeNmt{});
    } else if (type == "ByteLevel") {
      steps.emplace_back(NormalizeByteLevel{});
    } else if (type == "Precompiled") {
      NormalizePrecompiled step;
      if (!decode_base64(fields_.string(json, "precompiled_charsmap", where), step.charsmap)) {
        fields_.fail(where + ": \"precompiled_charsmap\" is not base64");
      }
      steps.emplace_back(std::move(step));
    } else if (type == "BertNormalizer") {
      const bool lowercase = fields_.boolean(json, "lowercase", true, where);
      steps.emplace_back(NormalizeBert{fields_.boolean(json, "clean_text", true, where),
                                       fields_.boolean(json, "handle_chinese_chars", true, where),
                                       fields_.boolean(json, "strip_accents", lowercase, where),
                                       lowercase});
    } else {
      fields_.unsupported("normalizer", type,
                          "NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, Strip, StripAccents, "
                          "Nmt, ByteLevel, Precompiled, BertNormalizer or Sequence");
    }
  }

  void pre_tokenizer(const Json& json, const std::string& type) const {
    auto& steps = file_.pre_tokenizer;
    const std::string where = "pre_tokenizer " + type;
    if (type == "ByteLevel") {
      steps.emplace_back(SplitByteLevel{fields_.boolean(json, "add_prefix_space", true, where),
                                        fields_.boolean(json, "use_regex", true, where)});
    } else if (type == "Split") {
      steps.emplace_back(SplitOnPattern{pattern(json, where), behavior(json, where),
                                        fields_.boolean(json, "invert", false, where)});
    } else if (type == "Digits") {
      steps.emplace_back(SplitOnDigits{fields_.boolean(json, "individual_digits", false, where)});
    } else if (type == "Punctuation") {
      const bool given = JsonFields::find(json, "behavior") != nullptr;
      steps.emplace_back(
          SplitOnPunctuation{given ? behavior(json, where) : SplitBehavior::kIsolated});
    } else if (type == "Metaspace") {
      steps.emplace_back(SplitMetaspace{character(json, "replacement", where),
                                        prepend_scheme(json, where),
                                        fields_.boolean(json, "split", true, where)});
    } else if (type == "WhitespaceSplit") {
      steps.emplace_back(SplitOnWhiteSpace{});
    } else if (type == "Whitespace") {
      steps.emplace_back(
          SplitOnPattern{{R"(\w+|[^\w\s]+)", true}, SplitBehavior::kRemoved, /*invert=*/true});
    } else if (type == "BertPreTokenizer") {
      steps.emplace_back(SplitOnWhiteSpace{});
      steps.emplace_back(SplitOnPunctuation{SplitBehavior::kIsolated});
    } else if (type == "CharDelimiterSplit") {
      steps.emplace_back(SplitOnPattern{{character(json, "delimiter", where), false},
                                        SplitBehavior::kRemoved,
                                        /*invert=*/false});
    } else {
      fields_.unsupported("pre_tokenizer", type,
                          "ByteLevel, Metaspace, Split, Digits, Punctuation, Whitespace, "
                          "WhitespaceSplit, BertPreTokenizer, CharDelimiterSplit or Sequence");
    }
  }

  void post_processor(const Json& json, const std::string& type) const {
    auto& templates = file_.post_processor;
    if (type == "TemplateProcessing") {
      templates.push_back(single_template(json));
    } else if (type == "RobertaProcessing" || type == "BertProcessing") {
      templates.push_back({{pair_id(json, "cls", type)}, {pair_id(json, "sep", type)}});
    } else if (type != "ByteLevel") {  // ByteLevel moves offsets, not ids.
      fields_.unsupported("post_processor", type,
                          "TemplateProcessing, RobertaProcessing, BertProcessing, ByteLevel or "
                          "Sequence");
    }
  }

  // ["</s>", 2]
  int32_t pair_id(const Json& json, const char* key, const std::string& type) const {
    const std::string where = "post_processor " + type + ": \"" + key + "\"";
    const Json& pair = fields_.array(json, key, "post_processor " + type);
    if (pair.size() != 2) {
      fields_.fail(where + ": expected [token, id], found " + quoted_text(pair.dump()));
    }
    return fields_.id(pair[1], where);
  }

  PostProcessorTemplate single_template(const Json& json) const {
    const std::string where = "post_processor TemplateProcessing";
    PostProcessorTemplate result;
    int texts = 0;
    for (const Json& piece : fields_.array(json, "single", where)) {
      if (piece.is_object() && piece.contains("Sequence")) {
        const std::string& name = fields_.string(piece["Sequence"], "id", where);
        if (name != "A") {
          fields_.fail(where + ": sequence " + quoted_text(name) + " in \"single\", expected A");
        }
        ++texts;
        continue;
      }
      const std::string& token =
          fields_.string(fields_.member(piece, "SpecialToken", where), "id", where);
      const Json& table = fields_.member(json, "special_tokens", where);
      const Json& entry = fields_.member(table, token.c_str(), where + ": \"special_tokens\"");
      auto& ids = texts == 0 ? result.before : result.after;
      for (const Json& value : fields_.array(entry, "ids", where)) {
        ids.push_back(fields_.id(value, where + ": " + quoted_text(token)));
      }
    }
    if (texts != 1) {
      fields_.fail(where + ": \"single\" holds the text " + std::to_string(texts) +
                   " times, expected once");
    }
    return result;
  }

  void decoder(const Json& json, const std::string& type) const {
    auto& steps = file_.decoder;
    const std::string where = "decoder " + type;
    if (type == "ByteLevel") {
      steps.emplace_back(DecodeByteLevel{});
    } else if (type == "ByteFallback") {
      steps.emplace_back(DecodeByteFallback{});
    } else if (type == "Fuse") {
      steps.emplace_back(DecodeFuse{});
    } else if (type == "Metaspace") {
      steps.emplace_back(DecodeMetaspace{character(json, "replacement", where),
                                         prepend_scheme(json, where) != PrependScheme::kNever});
    } else if (type == "Replace") {
      steps.emplace_back(
          DecodeReplace{pattern(json, where), fields_.string(json, "content", where)});
    } else if (type == "Strip") {
      steps.emplace_back(
          DecodeStrip{character(json, "content", where),
                      static_cast<size_t>(fields_.count(json, "start", 0, kMostStripped, where)),
                      static_cast<size_t>(fields_.count(json, "stop", 0, kMostStripped, where))});
    } else if (type == "BPEDecoder") {
      steps.emplace_back(DecodeSuffix{fields_.string(json, "suffix", where)});
    } else {
      fields_.unsupported("decoder", type,
                          "ByteLevel, ByteFallback, Fuse, Metaspace, Replace, Strip, BPEDecoder or "
                          "Sequence");
    }
  }

  const JsonFields& fields_;
  TokenizerFile& file_;
};

}  // namespace

void parse_steps(const Json& root, const JsonFields& fields, TokenizerFile& file) {
  StepParser(fields, file).run(root);
}

AddedToken parse_added_token(const Json& json, int32_t id, const JsonFields& fields) {
  AddedToken token;
  token.id = id;
  token.content = fields.string(json, "content", "added token");
  const std::string where = "added token " + quoted_text(token.content);
  token.special = fields.boolean(json, "special", false, where);
  token.single_word = fields.boolean(json, "single_word", false, where);
  token.lstrip = fields.boolean(json, "lstrip", false, where);
  token.rstrip = fields.boolean(json, "rstrip", false, where);
  token.normalized = fields.boolean(json, "normalized", !token.special, where);
  return token;
}

}  // namespace pare
