// The tokenizer of a model as GGUF's "tokenizer.ggml.*".
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "engines/gguf_metadata.h"
#include "engines/gguf_pieces.h"
#include "formats/gguf_pre_tokenizers.h"
#include "formats/gguf_tokenizer.h"
#include "pare/error.h"
#include "tokenizer/open_tokenizer.h"
#include "tokenizer/sentencepiece_file.h"
#include "tokenizer/tokenizer_config.h"
#include "tokenizer/tokenizer_file.h"
#include "tokenizer/unicode.h"

namespace pare {
namespace {

using Json = nlohmann::json;
using Type = GgufTokenType;

// What llama.cpp's own converter gives to tokens that no merge makes.
constexpr float kAddedScore = -1000;

class VocabularyWriter {
 public:
  VocabularyWriter(const ModelFiles& model, GgufMetadata& metadata,
                   std::vector<std::string>& warnings)
      : files_(model.source->text_files()),
        path_(model.source->path()),
        rows_(model.graph.embedding.vocab_size),
        config_(Json::parse(model.source->config_json())),
        metadata_(metadata),
        warnings_(warnings),
        tokens_(static_cast<size_t>(rows_)),
        types_(static_cast<size_t>(rows_), static_cast<int32_t>(Type::kUnused)),
        scores_(static_cast<size_t>(rows_), kAddedScore) {}

  void run() {
    if (tokenizer_file_name(files_).empty()) {
      metadata_.add("tokenizer.ggml.model", "no_vocab");
      warnings_.emplace_back("the model has no tokenizer: llama.cpp runs it on token ids only");
      return;
    }
    settings_ = read_tokenizer_config(files_, path_);
    if (files_.contains("tokenizer.json")) {
      add_tokenizer_json();
    } else if (files_.contains("tokenizer.model")) {
      const SentencePieceFile pieces =
          parse_sentencepiece(files_.at("tokenizer.model"), path_ + "/tokenizer.model");
      add_sentence_pieces(pieces, settings_.added_tokens);
    } else {
      fail("its tokenizer is " + tokenizer_file_name(files_) +
           "; GGUF is made from tokenizer.json or tokenizer.model");
    }
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::kInputMalformed, path_ + ": " + what);
  }

  void set(int64_t id, std::string_view text, Type type, float score = kAddedScore) {
    if (id >= rows_) {
      fail("token " + quoted_text(text) + " has id " + std::to_string(id) + ", the embedding has " +
           std::to_string(rows_) + " rows");
    }
    const auto place = static_cast<size_t>(id);
    tokens_[place] = text;
    types_[place] = static_cast<int32_t>(type);
    scores_[place] = score;
  }

  // After the vocabulary: what they say counts.
  void set_added(const std::vector<AddedToken>& added) {
    int64_t cutting = 0;
    for (const AddedToken& token : added) {
      const auto place = static_cast<size_t>(token.id);
      const bool unknown = token.id < rows_ && !tokens_[place].empty() &&
                           types_[place] == static_cast<int32_t>(Type::kUnknown);
      const Type type = unknown         ? Type::kUnknown
                        : token.special ? Type::kControl
                                        : Type::kUserDefined;
      const float score = token.id < rows_ ? scores_[place] : kAddedScore;
      set(token.id, token.content, type, score);
      cutting += token.lstrip || token.rstrip || token.single_word ? 1 : 0;
    }
    if (cutting > 0) {
      warnings_.push_back(std::to_string(cutting) +
                          " added tokens take white space, or stand alone only; llama.cpp finds "
                          "them as they are");
    }
  }

  // -- tokenizer.json -----------------------------------------------------------------------------

  void add_tokenizer_json() {
    const std::string origin = path_ + "/tokenizer.json";
    const TokenizerFile file = parse_tokenizer_json(files_.at("tokenizer.json"), origin);
    const auto* model = std::get_if<BpeModel>(&file.model);
    if (model == nullptr) {
      fail("its tokenizer is a unigram model, which llama.cpp does not read for this architecture");
    }
    if (model->byte_fallback) {
      const SentencePieceFile pieces =
          files_.contains("tokenizer.model")
              ? parse_sentencepiece(files_.at("tokenizer.model"), path_ + "/tokenizer.model")
              : sentence_pieces_of(file, origin, warnings_);
      add_sentence_pieces(pieces, file.added_tokens);
      return;
    }
    if (!model->continuing_subword_prefix.empty() || !model->end_of_word_suffix.empty()) {
      fail("its tokenizer marks words by prefixes or suffixes, which llama.cpp does not know");
    }
    for (const auto& [content, id] : model->vocabulary) set(id, content, Type::kNormal);
    set_added(file.added_tokens);
    metadata_.add("tokenizer.ggml.model", "gpt2");
    metadata_.add("tokenizer.ggml.pre", words_of(file, *model));
    add_lists();
    std::vector<std::string> merges;
    for (const auto& [left, right] : model->merges) merges.push_back(left + " " + right);
    metadata_.add("tokenizer.ggml.merges", std::span<const std::string>(merges));
    add_special(-1, -1, -1);
  }

  std::string words_of(const TokenizerFile& file, const BpeModel& model) {
    bool nfc = false;
    for (const NormalizerStep& step : file.normalizer) {
      const auto* unicode = std::get_if<NormalizeUnicode>(&step);
      if (unicode == nullptr || unicode->form != UnicodeForm::kNfc) {
        fail("its tokenizer changes the text before it cuts it, which llama.cpp does not do");
      }
      nfc = true;
    }
    const Json json = Json::parse(files_.at("tokenizer.json"));
    const std::string steps = json.value("pre_tokenizer", Json()).dump();
    const GgufPreTokenizer* found = match_gguf_pre_tokenizer(steps, model.ignore_merges, nfc);
    if (found == nullptr) {
      fail("llama.cpp has no name for how its tokenizer cuts a text into words: " + steps);
    }
    if (found->ignore_merges != model.ignore_merges) {
      warnings_.push_back("tokenizer.ggml.pre \"" + std::string(found->name) + "\" " +
                          (model.ignore_merges ? "takes words apart that are tokens themselves"
                                               : "looks words up before it merges") +
                          ", which the model's own tokenizer does not");
    }
    if (nfc) {
      warnings_.emplace_back("llama.cpp does not compose characters (NFC) before it tokenizes");
    }
    return found->name;
  }

  // -- SentencePiece ------------------------------------------------------------------------------

  void add_sentence_pieces(const SentencePieceFile& file, const std::vector<AddedToken>& added) {
    if (file.kind != SentencePieceFile::Kind::kBpe || file.whitespace_as_suffix ||
        !file.escape_whitespaces) {
      fail("its SentencePiece model is not of byte pairs with spaces in front of words");
    }
    if (!file.charsmap.empty()) {
      warnings_.emplace_back(
          "llama.cpp does not normalize characters as the SentencePiece model "
          "says");
    }
    for (size_t i = 0; i < file.pieces.size(); ++i) {
      const SentencePiecePiece& piece = file.pieces[i];
      if (piece.text.empty()) continue;
      set(static_cast<int64_t>(i), piece.text, static_cast<Type>(piece.type), piece.score);
    }
    set_added(added);
    metadata_.add("tokenizer.ggml.model", "llama");
    metadata_.add("tokenizer.ggml.pre", "default");
    add_lists();
    metadata_.add("tokenizer.ggml.scores", std::span<const float>(scores_));
    metadata_.add("tokenizer.ggml.add_space_prefix", file.add_dummy_prefix);
    if (file.remove_extra_whitespaces) {
      metadata_.add("tokenizer.ggml.remove_extra_whitespaces", true);
    }
    add_special(file.bos_id, file.eos_id, file.unknown_id);
  }

  // -- what both have -----------------------------------------------------------------------------

  // Rows of the embedding that are no tokens get names, since each must have one of its own.
  void add_lists() {
    for (size_t i = 0; i < tokens_.size(); ++i) {
      if (tokens_[i].empty()) tokens_[i] = "[PAD" + std::to_string(i) + "]";
      const auto [known, is_new] = ids_.emplace(tokens_[i], static_cast<int64_t>(i));
      if (!is_new) {
        fail("tokens " + std::to_string(known->second) + " and " + std::to_string(i) +
             " are both " + quoted_text(tokens_[i]) + ", which llama.cpp refuses");
      }
    }
    metadata_.add("tokenizer.ggml.tokens", std::span<const std::string>(tokens_));
    metadata_.add("tokenizer.ggml.token_type", std::span<const int32_t>(types_));
  }

  // From the tokenizer's own files, config.json, or what is given; −1: none.
  int64_t special_id(const char* token, const char* id_key, int64_t otherwise) const {
    if (const std::optional<std::string> text = settings_.special(token)) {
      if (const auto found = ids_.find(*text); found != ids_.end()) return found->second;
    }
    Json id = config_.value(id_key, Json());
    if (id.is_array() && !id.empty()) id = Json(id[0]);
    if (id.is_number_unsigned() && id.get<uint64_t>() < static_cast<uint64_t>(rows_)) {
      return id.get<int64_t>();
    }
    return otherwise < rows_ ? otherwise : -1;
  }

  void add_special(int64_t file_bos, int64_t file_eos, int64_t file_unknown) {
    int64_t bos = special_id("bos_token", "bos_token_id", file_bos);
    const int64_t eos = special_id("eos_token", "eos_token_id", file_eos);
    const std::vector<int32_t> around = open_tokenizer(files_, path_).encode("", true);
    if (bos < 0 && around.size() == 1 && around[0] != eos) bos = around[0];
    const bool add_bos = !around.empty() && around.front() == bos;
    const bool add_eos = around.size() > (add_bos ? 1U : 0U) && around.back() == eos;
    if (around.size() != (add_bos ? 1U : 0U) + (add_eos ? 1U : 0U)) {
      warnings_.emplace_back(
          "the tokenizer puts other tokens around a text than BOS and EOS, "
          "which llama.cpp leaves out");
    }
    const auto add = [&](const char* name, int64_t id) {
      if (id >= 0) metadata_.add(std::string("tokenizer.ggml.") + name, id);
    };
    add("bos_token_id", bos);
    add("eos_token_id", eos);
    add("unknown_token_id", special_id("unk_token", "unk_token_id", file_unknown));
    add("padding_token_id", special_id("pad_token", "pad_token_id", -1));
    metadata_.add("tokenizer.ggml.add_bos_token", add_bos);
    metadata_.add("tokenizer.ggml.add_eos_token", add_eos);
    add_chat_template();
  }

  void add_chat_template() {
    // Newer tokenizers have a file for it, which wins.
    if (const auto own = files_.find("chat_template.jinja"); own != files_.end()) {
      metadata_.add("tokenizer.chat_template", own->second);
      return;
    }
    const auto file = files_.find("tokenizer_config.json");
    if (file == files_.end()) return;
    const Json json = Json::parse(file->second);
    Json text = json.value("chat_template", Json());
    if (text.is_array()) {  // several by name
      const auto usual = std::find_if(text.begin(), text.end(), [](const Json& one) {
        return one.is_object() && one.value("name", Json()) == "default";
      });
      text = usual == text.end() ? Json() : Json(usual->value("template", Json()));
    }
    if (text.is_string()) metadata_.add("tokenizer.chat_template", text.get<std::string>());
  }

  const std::map<std::string, std::string>& files_;
  std::string path_;
  int64_t rows_;
  Json config_;
  GgufMetadata& metadata_;
  std::vector<std::string>& warnings_;
  TokenizerConfig settings_;
  std::vector<std::string> tokens_;
  std::vector<int32_t> types_;
  std::vector<float> scores_;
  std::unordered_map<std::string, int64_t> ids_;
};

}  // namespace

void add_gguf_vocabulary(const ModelFiles& model, GgufMetadata& metadata,
                         std::vector<std::string>& warnings) {
  VocabularyWriter(model, metadata, warnings).run();
}

}  // namespace pare
