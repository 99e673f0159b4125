// What a SentencePiece model file says (tokenizer.model, spiece.model), checked.
//
// The file is one protocol buffer, ModelProto of sentencepiece_model.proto (Kudo and Richardson
// 2018, "SentencePiece: A simple and language independent subword tokenizer and detokenizer for
// Neural Text Processing"). Only what encoding and decoding need is read:
//
//   1 pieces { 1 piece, 2 score, 3 type }     3 normalizer_spec { 2 precompiled_charsmap,
//   2 trainer_spec { 3 model_type,              3 add_dummy_prefix, 4 remove_extra_whitespaces,
//     24 treat_whitespace_as_suffix,            5 escape_whitespaces }
//     35 byte_fallback, 41 bos_id, 42 eos_id }
//
// A plain value. Why not the library: see ARCHITECTURE.md, "Dependencies".
//
//   SentencePieceFile file = parse_sentencepiece(bytes, "tokenizer.model");
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pare {

enum class PieceType { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

struct SentencePiecePiece {
  std::string text;
  float score = 0;
  PieceType type = PieceType::kNormal;
};

struct SentencePieceFile {
  enum class Kind { kUnigram = 1, kBpe };

  std::vector<SentencePiecePiece> pieces;  ///< By id; not empty, each text once.
  Kind kind = Kind::kUnigram;
  int32_t unknown_id = 0;  ///< The one piece of that type.
  int32_t bos_id = 1;      ///< −1: none. Control pieces when they are used.
  int32_t eos_id = 2;
  bool byte_fallback = false;  ///< Then there are all 256 byte pieces.
  bool whitespace_as_suffix = false;
  std::string charsmap;  ///< tokenizer/charsmap.h; empty: text stays as it is.
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

/// `origin` is for messages. Throws Error(kInputMalformed) when the bytes are no such model, or it
/// uses what is not supported (named).
SentencePieceFile parse_sentencepiece(std::string_view bytes, const std::string& origin);

}  // namespace pare
