#include "tokenizer/sentencepiece.h"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "pare/error.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/unicode.h"

namespace pare {
namespace {

constexpr std::string_view kSpace = "\u2581";

// Merges in byte-pair form: a piece arises from any two symbols that spell it, the piece with the
// largest score first. Symbols are pieces, and characters that are no pieces but parts of some.
class BpeBuilder {
 public:
  explicit BpeBuilder(const SentencePieceFile& file) : file_(file) {}

  BpeModel run() {
    model_.fuse_unknown = true;
    model_.byte_fallback = file_.byte_fallback;
    model_.unknown_token = file_.pieces[static_cast<size_t>(file_.unknown_id)].text;
    model_.first_part_id = static_cast<int32_t>(file_.pieces.size());
    for (size_t i = 0; i < file_.pieces.size(); ++i) add_piece(i);
    rank_scores();
    for (const SentencePiecePiece& piece : file_.pieces) {
      if (piece.type == PieceType::kNormal) add_merges(piece);
    }
    return std::move(model_);
  }

 private:
  static bool is_one_character(std::string_view text) {
    return code_point_at(text, 0).size == text.size();
  }

  void add_piece(size_t index) {
    const SentencePiecePiece& piece = file_.pieces[index];
    const bool from_text =
        piece.type == PieceType::kNormal || piece.type == PieceType::kUserDefined;
    // A control piece of one character is not what text spells.
    if (!from_text && piece.type != PieceType::kUnknown && is_one_character(piece.text)) return;
    model_.vocabulary.emplace_back(piece.text, static_cast<int32_t>(index));
    if (piece.type == PieceType::kNormal) symbols_.emplace(piece.text, true);
    if (piece.type == PieceType::kUserDefined) {
      model_.whole_tokens.push_back(piece.text);
      symbols_.emplace(piece.text, false);
    }
  }

  void rank_scores() {
    for (const SentencePiecePiece& piece : file_.pieces) {
      if (piece.type == PieceType::kNormal) ranks_.emplace(piece.score, 0);
    }
    uint32_t rank = 0;
    for (auto& [score, number] : ranks_) number = rank++;
  }

  void add_merges(const SentencePiecePiece& piece) {
    const std::string_view text = piece.text;
    for (size_t at = code_point_at(text, 0).size; at < text.size();
         at += code_point_at(text, at).size) {
      const std::string_view left = text.substr(0, at);
      const std::string_view right = text.substr(at);
      if (!is_symbol(left) || !is_symbol(right)) continue;
      model_.merges.emplace_back(left, right);
      model_.ranks.push_back(ranks_.at(piece.score));
    }
  }

  bool is_symbol(std::string_view text) {
    if (const auto known = symbols_.find(text); known != symbols_.end()) return known->second;
    if (!is_one_character(text)) return false;
    symbols_.emplace(text, true);
    const auto id = static_cast<int32_t>(file_.pieces.size() + parts_++);
    model_.vocabulary.emplace_back(text, id);
    return true;
  }

  const SentencePieceFile& file_;
  BpeModel model_;
  StringMap<bool> symbols_;  // Whether they merge.
  std::map<float, uint32_t, std::greater<>> ranks_;
  size_t parts_ = 0;
};

UnigramModel unigram_model(const SentencePieceFile& file) {
  UnigramModel model;
  model.unknown_id = file.unknown_id;
  model.byte_fallback = file.byte_fallback;
  model.single_precision = true;
  model.largest_score = std::numeric_limits<float>::min();  // As SentencePiece starts.
  model.pieces.reserve(file.pieces.size());
  for (const SentencePiecePiece& piece : file.pieces) {
    PieceUse use = PieceUse::kNever;
    if (piece.type == PieceType::kNormal) {
      use = PieceUse::kNormal;
      model.largest_score = std::max(model.largest_score, piece.score);
    }
    if (piece.type == PieceType::kUserDefined) use = PieceUse::kAlways;
    model.pieces.push_back({piece.text, static_cast<double>(piece.score), use});
  }
  return model;
}

ByteTrie user_defined(const SentencePieceFile& file) {
  std::vector<std::pair<std::string_view, int32_t>> strings;
  for (const SentencePiecePiece& piece : file.pieces) {
    if (piece.type == PieceType::kUserDefined) strings.emplace_back(piece.text, 0);
  }
  return ByteTrie(std::move(strings));
}

std::string with_spaces(std::string_view piece) {
  std::string text;
  size_t at = 0;
  for (size_t found = piece.find(kSpace); found != std::string_view::npos;
       found = piece.find(kSpace, at)) {
    text.append(piece, at, found - at).append(" ");
    at = found + kSpace.size();
  }
  return text.append(piece, at);
}

}  // namespace

SentencePiece::SentencePiece(SentencePieceFile file, const SentencePieceSettings& settings,
                             const std::string& origin)
    : file_(std::move(file)),
      charsmap_(file_.charsmap, origin),
      verbatim_(user_defined(file_)),
      model_(make_model(file_, origin)),
      table_(origin),
      added_(index_tokens(settings), Normalizer({}, origin)) {
  bos_ = end_token(settings.add_bos, settings.bos_token, file_.bos_id, "BOS", origin);
  eos_ = end_token(settings.add_eos, settings.eos_token, file_.eos_id, "EOS", origin);
}

SentencePiece::Model SentencePiece::make_model(const SentencePieceFile& file,
                                               const std::string& origin) {
  if (file.kind == SentencePieceFile::Kind::kBpe) return Bpe(BpeBuilder(file).run(), origin);
  return Unigram(unigram_model(file), origin);
}

std::vector<AddedToken> SentencePiece::index_tokens(const SentencePieceSettings& settings) {
  std::vector<AddedToken> tokens;
  StringMap<int32_t> ids;
  for (size_t i = 0; i < file_.pieces.size(); ++i) {
    const SentencePiecePiece& piece = file_.pieces[i];
    const auto id = static_cast<int32_t>(i);
    table_.add(id, piece.text);
    ids.emplace(piece.text, id);
    if (piece.type != PieceType::kControl && piece.type != PieceType::kUnknown) continue;
    tokens.push_back({.id = id, .content = piece.text, .normalized = false, .special = true});
  }
  for (const AddedToken& token : settings.added_tokens) {
    tokens.push_back(token);
    // There is no text but the raw one to look for them in: the model normalizes all of it.
    tokens.back().normalized = false;
  }
  const auto count = static_cast<int32_t>(file_.pieces.size());
  for (int32_t i = 0; i < settings.extra_ids; ++i) {
    const std::string content = "<extra_id_" + std::to_string(i) + ">";
    if (ids.contains(content)) continue;  // Some models have them as pieces.
    tokens.push_back({.id = count + settings.extra_ids - 1 - i,
                      .content = content,
                      .normalized = false,
                      .special = true});
  }
  return table_.add_tokens(tokens, [&](std::string_view content) {
    const auto found = ids.find(content);
    return found == ids.end() ? -1 : found->second;
  });
}

std::optional<int32_t> SentencePiece::end_token(bool wanted, const std::optional<std::string>& name,
                                                int32_t id, const char* what,
                                                const std::string& origin) const {
  if (!wanted) return std::nullopt;
  if (name) {
    if (const int32_t named = token_to_id(*name); named >= 0) return named;
    throw Error(ErrorCode::kInputMalformed, origin + ": " + what + " is to be " +
                                                quoted_text(*name) +
                                                ", but no piece or added token is called so");
  }
  if (id < 0 || !table_.contains(id)) {
    throw Error(ErrorCode::kInputMalformed, origin + ": texts are to have " + what +
                                                ", but the model says that its id is " +
                                                std::to_string(id));
  }
  return id;
}

std::string_view SentencePiece::normalize_prefix(std::string_view text, size_t& size) const {
  if (!verbatim_.empty()) {
    size = 0;
    uint32_t node = ByteTrie::kRoot;
    for (size_t i = 0; i < text.size() && verbatim_.step(node, text[i]); ++i) {
      if (verbatim_.value(node) >= 0) size = i + 1;
    }
    if (size > 0) return text.substr(0, size);
  }
  const Charsmap::Match match = charsmap_.longest(text);
  size = match.size > 0 ? match.size : code_point_at(text, 0).size;
  return match.size > 0 ? match.replacement : text.substr(0, size);
}

std::string SentencePiece::normalize(std::string_view text) const {
  const std::string_view space = file_.escape_whitespaces ? kSpace : " ";
  const bool squeeze = file_.remove_extra_whitespaces;
  size_t size = 0;
  while (squeeze && !text.empty() && normalize_prefix(text, size) == " ") text.remove_prefix(size);
  std::string result;
  if (text.empty()) return result;
  result.reserve(text.size() + text.size() / 2);
  if (file_.add_dummy_prefix && !file_.whitespace_as_suffix) result += space;
  bool after_space = squeeze;
  while (!text.empty()) {
    std::string_view part = normalize_prefix(text, size);
    while (after_space && part.starts_with(' ')) part.remove_prefix(1);
    for (const char c : part) {
      if (c == ' ') {
        result += space;
      } else {
        result += c;
      }
    }
    if (!part.empty()) after_space = squeeze && part.ends_with(' ');
    text.remove_prefix(size);
  }
  while (squeeze && result.ends_with(space)) result.resize(result.size() - space.size());
  if (file_.add_dummy_prefix && file_.whitespace_as_suffix) result += space;
  return result;
}

template <typename Cache, typename ModelKind>
void SentencePiece::encode_with(const ModelKind& model, std::string_view text,
                                const EncodeOptions& options, std::vector<int32_t>& ids) const {
  Cache cache;
  for (const TextSegment& part :
       added_.split(text, AddedTokens::Stage::kRaw, options.parse_special)) {
    if (part.id != TextSegment::kText) {
      ids.push_back(part.id);
    } else {
      model.encode(normalize(text.substr(part.begin, part.end - part.begin)), cache, ids);
    }
  }
}

std::vector<int32_t> SentencePiece::encode(std::string_view text,
                                           const EncodeOptions& options) const {
  const std::string valid = replace_invalid_utf8(text);
  std::vector<int32_t> ids;
  if (options.add_special_tokens && bos_) ids.push_back(*bos_);
  if (const auto* bpe = std::get_if<Bpe>(&model_)) {
    encode_with<BpeCache>(*bpe, valid, options, ids);
  } else {
    encode_with<UnigramCache>(std::get<Unigram>(model_), valid, options, ids);
  }
  if (options.add_special_tokens && eos_) ids.push_back(*eos_);
  return ids;
}

std::string SentencePiece::decode(const std::vector<int32_t>& ids, bool skip_special_tokens) const {
  std::string text;
  // The space that add_dummy_prefix put in front, or all that remove_extra_whitespaces would drop.
  bool drop_space = file_.add_dummy_prefix || file_.remove_extra_whitespaces;
  for (const int32_t id : ids) {
    const TokenTable::Entry& entry = table_.at(id);
    if (entry.is_special) {
      if (!skip_special_tokens) text += entry.content;
      continue;
    }
    std::string spelled = token_text(id);
    if (drop_space && text.empty() && spelled.starts_with(' ')) {
      spelled.erase(0, 1);
      drop_space = file_.remove_extra_whitespaces;
    }
    text += spelled;
  }
  return text;
}

std::string SentencePiece::token_text(int32_t id) const {
  const TokenTable::Entry& entry = table_.at(id);
  if (entry.is_special) return "";
  if (entry.is_added) return entry.content;
  const int byte = byte_of_token(entry.content);
  const auto index = static_cast<size_t>(id);
  if (byte >= 0 && file_.pieces[index].type == PieceType::kByte) {
    return {static_cast<char>(byte)};
  }
  return with_spaces(entry.content);
}

int32_t SentencePiece::token_to_id(std::string_view token) const {
  const int32_t added = table_.find_added(token);
  if (added >= 0) return added;
  return std::visit([&](const auto& model) { return model.find(token); }, model_);
}

}  // namespace pare
