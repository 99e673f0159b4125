#include "engines/gguf_pieces.h"

#include <algorithm>
#include <set>
#include <unordered_map>

#include "pare/error.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/unicode.h"

namespace pare {
namespace {

constexpr std::string_view kSpace = "\u2581";
constexpr int32_t kMostPieces = 1 << 24;

class PieceMaker {
 public:
  PieceMaker(const TokenizerFile& file, const std::string& origin)
      : file_(file), model_(std::get<BpeModel>(file.model)), origin_(origin) {}

  SentencePieceFile run(std::vector<std::string>& warnings) {
    result_.kind = SentencePieceFile::Kind::kBpe;
    result_.byte_fallback = true;
    result_.remove_extra_whitespaces = false;
    result_.bos_id = result_.eos_id = result_.unknown_id = -1;
    read_steps();
    add_pieces();
    const bool ordered = add_scores();
    const int64_t missing = ordered ? missing_merges() : 0;
    if (!ordered || missing > 0) {
      warnings.emplace_back(
          "the merges of tokenizer.json are not those of a SentencePiece model: llama.cpp may cut "
          "some words in another way");
    }
    return std::move(result_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::kInputMalformed, origin_ + ": " + what);
  }

  // Spaces become "▁", and one may stand before the text.
  void read_steps() {
    bool escapes = false;
    result_.add_dummy_prefix = false;
    for (const NormalizerStep& step : file_.normalizer) {
      const auto* prepend = std::get_if<NormalizePrepend>(&step);
      const auto* replace = std::get_if<NormalizeReplace>(&step);
      if (prepend != nullptr && prepend->text == kSpace) {
        result_.add_dummy_prefix = true;
      } else if (replace != nullptr && !replace->pattern.is_regex && replace->pattern.text == " " &&
                 replace->content == kSpace) {
        escapes = true;
      } else {
        fail("changes the text in a way that SentencePiece in llama.cpp does not");
      }
    }
    for (const PreTokenizerStep& step : file_.pre_tokenizer) {
      const auto* metaspace = std::get_if<SplitMetaspace>(&step);
      if (metaspace == nullptr || metaspace->replacement != kSpace) {
        fail("cuts the text in a way that SentencePiece in llama.cpp does not");
      }
      escapes = true;
      if (metaspace->scheme != PrependScheme::kNever) result_.add_dummy_prefix = true;
    }
    if (!escapes) fail("leaves spaces as they are, which SentencePiece in llama.cpp does not");
  }

  void add_pieces() {
    for (const auto& [content, id] : model_.vocabulary) {
      if (id >= kMostPieces) fail("has a token with id " + std::to_string(id));
      const auto place = static_cast<size_t>(id);
      if (place >= result_.pieces.size()) result_.pieces.resize(place + 1);
      SentencePiecePiece& piece = result_.pieces[place];
      piece.text = content;
      if (model_.unknown_token == content) {
        piece.type = PieceType::kUnknown;
        result_.unknown_id = id;
      } else if (byte_of_token(content) >= 0) {
        piece.type = PieceType::kByte;
      }
      ids_.emplace(content, place);
    }
  }

  // Whether the merges that make one piece stand together, so that its score can order them.
  bool add_scores() {
    std::vector<bool> scored(result_.pieces.size());
    bool ordered = true;
    size_t last = result_.pieces.size();
    for (size_t i = 0; i < model_.merges.size(); ++i) {
      const auto& [left, right] = model_.merges[i];
      const auto found = ids_.find(left + right);
      if (found == ids_.end()) fail("has a merge into " + quoted_text(left + right) + ", no token");
      const size_t id = found->second;
      if (!scored[id]) {
        result_.pieces[id].score = -static_cast<float>(i + 1);
        scored[id] = true;
      } else if (id != last) {
        ordered = false;
      }
      last = id;
    }
    return ordered;
  }

  bool is_normal(const std::string& text) const {
    const auto found = ids_.find(text);
    return found != ids_.end() && result_.pieces[found->second].type == PieceType::kNormal;
  }

  // Pairs of pieces that spell a piece, and are no merge.
  int64_t missing_merges() const {
    const std::set<std::pair<std::string, std::string>> merges(model_.merges.begin(),
                                                               model_.merges.end());
    std::set<std::string_view> added;
    for (const AddedToken& token : file_.added_tokens) added.insert(token.content);
    int64_t missing = 0;
    for (const SentencePiecePiece& piece : result_.pieces) {
      if (piece.type != PieceType::kNormal || added.contains(piece.text)) continue;
      const std::string& text = piece.text;
      for (size_t at = text.empty() ? 0 : code_point_at(text, 0).size; at < text.size();
           at += code_point_at(text, at).size) {
        const std::pair<std::string, std::string> pair(text.substr(0, at), text.substr(at));
        if (!is_normal(pair.first) || !is_normal(pair.second)) continue;
        missing += merges.contains(pair) ? 0 : 1;
      }
    }
    return missing;
  }

  const TokenizerFile& file_;
  const BpeModel& model_;
  const std::string& origin_;
  SentencePieceFile result_;
  std::unordered_map<std::string, size_t> ids_;
};

}  // namespace

SentencePieceFile sentence_pieces_of(const TokenizerFile& file, const std::string& origin,
                                     std::vector<std::string>& warnings) {
  return PieceMaker(file, origin).run(warnings);
}

}  // namespace pare
