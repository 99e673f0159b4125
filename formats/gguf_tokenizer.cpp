#include "formats/gguf_tokenizer.h"

#include <array>
#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>

#include "formats/gguf_pre_tokenizers.h"

namespace pare {
namespace {

using Json = nlohmann::json;  // Finding a key among as many as tokens takes a tree.
using Type = GgufTokenType;

constexpr const char* kPrefix = "tokenizer.ggml.";

// -- protocol buffers ---------------------------------------------------------------------------

void put_varint(uint64_t value, std::string& out) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7fU) | 0x80U);
  out += static_cast<char>(value);
}
void put_number(uint32_t field, uint64_t value, std::string& out) {
  put_varint(field << 3U, out);
  put_varint(value, out);
}
void put_bytes(uint32_t field, std::string_view bytes, std::string& out) {
  put_varint((field << 3U) | 2U, out);
  put_varint(bytes.size(), out);
  out += bytes;
}
void put_float(uint32_t field, float value, std::string& out) {
  put_varint((field << 3U) | 5U, out);
  const auto bits = std::bit_cast<uint32_t>(value);
  for (unsigned shift = 0; shift < 32; shift += 8) out += static_cast<char>(bits >> shift & 0xffU);
}

class FilesMaker {
 public:
  explicit FilesMaker(const GgufFile& file)
      : file_(file), tokens_(*require(file.find_texts(key("tokens")), "tokens")) {
    if (const auto* types = file_.find_integers(key("token_type"))) {
      check_size(types->size(), "token_type");
      for (const int64_t type : *types) {
        // 0 is "undefined", which is nothing special.
        if (type < 0 || type > static_cast<int64_t>(Type::kByte)) {
          file_.fail("key \"" + key("token_type") + "\" holds " + std::to_string(type));
        }
        types_.push_back(type == 0 ? Type::kNormal : static_cast<Type>(type));
      }
    } else {
      types_.assign(tokens_.size(), Type::kNormal);
    }
  }

  std::map<std::string, std::string> byte_pairs(bool add_bos_by_default) const {
    const bool add_bos = flag("add_bos_token", add_bos_by_default);
    const bool add_eos = flag("add_eos_token", false);
    return {
        {"tokenizer.json", dump(tokenizer_json(add_bos, add_eos))},
        {"tokenizer_config.json", dump(config_json("PreTrainedTokenizerFast", add_bos, add_eos))}};
  }

  std::map<std::string, std::string> sentence_pieces() const {
    const bool add_bos = flag("add_bos_token", true);
    const bool add_eos = flag("add_eos_token", false);
    return {{"tokenizer.model", model_proto()},
            {"tokenizer_config.json", dump(config_json("LlamaTokenizer", add_bos, add_eos))}};
  }

  std::map<std::string, std::string> own(const std::string& tokenizer_json) const {
    return {{"tokenizer.json", tokenizer_json},
            {"tokenizer_config.json",
             dump(config_json("PreTrainedTokenizerFast", flag("add_bos_token", false),
                              flag("add_eos_token", false)))}};
  }

 private:
  static std::string key(const char* name) { return std::string(kPrefix) + name; }

  template <typename Value>
  const Value* require(const Value* value, const char* name) const {
    if (value == nullptr) file_.fail("key \"" + key(name) + "\" is missing");
    return value;
  }

  void check_size(size_t found, const char* name) const {
    if (found != tokens_.size()) {
      file_.fail("key \"" + key(name) + "\" has " + std::to_string(found) + " elements, \"" +
                 key("tokens") + "\" has " + std::to_string(tokens_.size()));
    }
  }

  bool flag(const char* name, bool otherwise) const {
    return file_.find_boolean(key(name)).value_or(otherwise);
  }

  std::string dump(const Json& json) const {
    try {
      return json.dump();
    } catch (const Json::type_error&) {
      file_.fail("the texts of its tokenizer are not all UTF-8");
    }
  }

  // The id of a special token; −1 where the file names none.
  int64_t id_of(const char* name) const {
    const std::optional<int64_t> id = file_.find_integer(key(name));
    if (!id || *id < 0 || *id == UINT32_MAX) return -1;  // both stand for none
    if (*id >= static_cast<int64_t>(tokens_.size())) {
      file_.fail("key \"" + key(name) + "\" is " + std::to_string(*id) + ", there are " +
                 std::to_string(tokens_.size()) + " tokens");
    }
    return *id;
  }

  Json config_json(const char* tokenizer_class, bool add_bos, bool add_eos) const {
    Json json = {{"tokenizer_class", tokenizer_class},
                 {"add_bos_token", add_bos},
                 {"add_eos_token", add_eos}};
    constexpr std::array<std::pair<const char*, const char*>, 4> kSpecial = {
        {{"bos_token", "bos_token_id"},
         {"eos_token", "eos_token_id"},
         {"unk_token", "unknown_token_id"},
         {"pad_token", "padding_token_id"}}};
    for (const auto& [name, id_key] : kSpecial) {
      const int64_t id = id_of(id_key);
      if (id >= 0) json[name] = tokens_[static_cast<size_t>(id)];
    }
    if (const std::string* chat = file_.find_text("tokenizer.chat_template")) {
      json["chat_template"] = *chat;
    }
    return json;
  }

  Json tokenizer_json(bool add_bos, bool add_eos) const {
    const std::string* pre = file_.find_text(key("pre"));
    const std::string name = pre == nullptr ? "default" : *pre;
    const GgufPreTokenizer* words = find_gguf_pre_tokenizer(name);
    if (words == nullptr) {
      file_.fail("tokenizer.ggml.pre \"" + name +
                 "\" is not known; put the model's tokenizer.json into a folder with the file, and "
                 "give the folder");
    }
    Json json = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
    json["added_tokens"] = added_tokens();
    json["normalizer"] = words->nfc ? Json{{"type", "NFC"}} : Json();
    json["pre_tokenizer"] = Json::parse(words->steps);
    json["post_processor"] = around(add_bos, add_eos);
    json["decoder"] = {{"type", "ByteLevel"},
                       {"add_prefix_space", true},
                       {"trim_offsets", true},
                       {"use_regex", true}};
    json["model"] = {{"type", "BPE"},
                     {"dropout", nullptr},
                     {"unk_token", nullptr},
                     {"continuing_subword_prefix", nullptr},
                     {"end_of_word_suffix", nullptr},
                     {"fuse_unk", false},
                     {"byte_fallback", false},
                     {"ignore_merges", words->ignore_merges},
                     {"vocab", vocabulary()},
                     {"merges", merges()}};
    return json;
  }

  Json vocabulary() const {
    Json::object_t entries;
    for (size_t i = 0; i < tokens_.size(); ++i) {
      if (types_[i] == Type::kUnused) continue;
      if (!entries.emplace(tokens_[i], i).second) {
        file_.fail("key \"" + key("tokens") + "\" has token " + std::to_string(i) + " twice");
      }
    }
    return entries;
  }

  Json merges() const {
    Json list = Json::array();
    for (const std::string& merge : *require(file_.find_texts(key("merges")), "merges")) {
      // The first character may be a space itself.
      const size_t space = merge.find(' ', 1);
      if (space == std::string::npos) {
        file_.fail("key \"" + key("merges") + "\" has an entry that is no pair");
      }
      list.push_back(Json::array({merge.substr(0, space), merge.substr(space + 1)}));
    }
    return list;
  }

  Json added_tokens() const {
    Json list = Json::array();
    for (size_t i = 0; i < tokens_.size(); ++i) {
      const bool special = types_[i] == Type::kControl || types_[i] == Type::kUnknown;
      if (!special && types_[i] != Type::kUserDefined) continue;
      list.push_back({{"id", i},
                      {"content", tokens_[i]},
                      {"single_word", false},
                      {"lstrip", false},
                      {"rstrip", false},
                      {"normalized", false},
                      {"special", special}});
    }
    return list;
  }

  Json around(bool add_bos, bool add_eos) const {
    Json single = Json::array();
    Json named = Json::object();
    const auto add = [&](const char* name) {
      const int64_t id = id_of(name);
      if (id < 0) file_.fail("texts are to have a token that \"" + key(name) + "\" does not name");
      const std::string& text = tokens_[static_cast<size_t>(id)];
      single.push_back({{"SpecialToken", {{"id", text}, {"type_id", 0}}}});
      named[text] = {{"id", text}, {"ids", {id}}, {"tokens", {text}}};
    };
    if (!add_bos && !add_eos) return {};
    if (add_bos) add("bos_token_id");
    single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
    if (add_eos) add("eos_token_id");
    Json pair = single;
    for (Json& piece : pair) {
      if (piece.contains("Sequence")) piece["Sequence"]["id"] = "B";
    }
    Json both = single;
    for (const Json& piece : pair) both.push_back(piece);
    return {{"type", "TemplateProcessing"},
            {"single", single},
            {"pair", both},
            {"special_tokens", named}};
  }

  // Pieces that take part in cutting a text. Rows at the end that no text becomes are left out;
  // such ones in the middle keep their place as control pieces, which texts do not spell.
  std::string model_proto() const {
    const auto& scores = *require(file_.find_numbers(key("scores")), "scores");
    check_size(scores.size(), "scores");
    size_t count = tokens_.size();
    while (count > 0 && types_[count - 1] == Type::kUnused) --count;
    bool has_unknown = false;
    size_t bytes = 0;
    for (size_t i = 0; i < count; ++i) {
      has_unknown = has_unknown || types_[i] == Type::kUnknown;
      bytes += types_[i] == Type::kByte ? 1 : 0;
    }
    const int64_t unknown = has_unknown ? -1 : std::max<int64_t>(id_of("unknown_token_id"), 0);
    std::string proto;
    for (size_t i = 0; i < count; ++i) {
      Type type = types_[i] == Type::kUnused ? Type::kControl : types_[i];
      if (static_cast<int64_t>(i) == unknown) type = Type::kUnknown;
      const auto score = static_cast<float>(scores[i]);
      if (!std::isfinite(score)) {
        file_.fail("key \"" + key("scores") + "\" holds no finite number for token " +
                   std::to_string(i));
      }
      std::string piece;
      put_bytes(1, tokens_[i], piece);
      put_float(2, score, piece);
      put_number(3, static_cast<uint64_t>(type), piece);
      put_bytes(1, piece, proto);
    }
    std::string trainer;
    put_number(3, 2, trainer);  // BPE
    put_number(35, bytes == 256 ? 1 : 0, trainer);
    put_number(41, static_cast<uint64_t>(id_of("bos_token_id")), trainer);
    put_number(42, static_cast<uint64_t>(id_of("eos_token_id")), trainer);
    put_bytes(2, trainer, proto);
    std::string normalizer;
    put_bytes(1, "identity", normalizer);
    put_number(3, flag("add_space_prefix", true) ? 1 : 0, normalizer);
    put_number(4, flag("remove_extra_whitespaces", false) ? 1 : 0, normalizer);
    put_number(5, 1, normalizer);
    put_bytes(3, normalizer, proto);
    return proto;
  }

  const GgufFile& file_;
  const std::vector<std::string>& tokens_;
  std::vector<Type> types_;
};

}  // namespace

std::map<std::string, std::string> gguf_tokenizer_files(const GgufFile& file) {
  const std::string* model = file.find_text("tokenizer.ggml.model");
  if (model == nullptr || *model == "no_vocab" || *model == "none") return {};
  if (const std::string* own = file.find_text("tokenizer.huggingface.json")) {
    return FilesMaker(file).own(*own);
  }
  if (*model == "llama") return FilesMaker(file).sentence_pieces();
  if (*model != "gpt2") {
    file.fail("tokenizer.ggml.model \"" + *model +
              "\" is not read, gpt2 and llama are; put the "
              "model's tokenizer.json into a folder with the file, and give the folder");
  }
  // Those of Llama 3 and Mistral have one unless the file says otherwise.
  const std::string* pre = file.find_text("tokenizer.ggml.pre");
  const GgufPreTokenizer* words = pre == nullptr ? nullptr : find_gguf_pre_tokenizer(*pre);
  return FilesMaker(file).byte_pairs(words != nullptr && words->ignore_merges);
}

}  // namespace pare
