#include "tokenizer/sentencepiece_file.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <unordered_set>
#include <utility>
#include <vector>

#include "pare/error.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/tokenizer_file.h"
#include "tokenizer/unicode.h"

namespace pare {
namespace {

// Real vocabularies have up to a million pieces.
constexpr size_t kMostPieces = size_t{1} << 24U;

enum Wire : uint64_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

// One field of a message: its number and its value, in the member that its wire type asks for.
struct Field {
  uint64_t number = 0;
  uint64_t wire = 0;
  uint64_t value = 0;
  std::string_view bytes;
};

// Walks the fields of a message (Protocol Buffers, "Encoding").
class Message {
 public:
  Message(std::string_view bytes, std::string name, const std::string& origin)
      : bytes_(bytes), name_(std::move(name)), origin_(origin) {}

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::kInputMalformed, origin_ + ": " + name_ + " " + what +
                                                " (expected a SentencePiece model; is the file "
                                                "whole?)");
  }

  bool next(Field& field) {
    if (bytes_.empty()) return false;
    const uint64_t key = varint();
    field = {key >> 3U, key & 7U, 0, {}};
    if (field.number == 0) fail("has a field 0");
    switch (field.wire) {
      case kVarint:
        field.value = varint();
        return true;
      case kBytes:
        field.bytes = take(varint());
        return true;
      case kFixed32:
        field.value = fixed(take(4));
        return true;
      case kFixed64:
        field.value = fixed(take(8));
        return true;
      default:
        fail("has a field of wire type " + std::to_string(field.wire));
    }
  }

  std::string_view text(const Field& field, const char* what) const {
    if (field.wire != kBytes) fail(std::string("says ") + what + " in the wrong form");
    return field.bytes;
  }
  uint64_t number(const Field& field, const char* what) const {
    if (field.wire != kVarint) fail(std::string("says ") + what + " in the wrong form");
    return field.value;
  }
  float real(const Field& field, const char* what) const {
    if (field.wire != kFixed32) fail(std::string("says ") + what + " in the wrong form");
    return std::bit_cast<float>(static_cast<uint32_t>(field.value));
  }

 private:
  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (bytes_.empty()) fail("ends inside a number");
      const auto byte = static_cast<uint8_t>(bytes_.front());
      bytes_.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7FU) << shift;
      if (byte < 0x80) return value;
    }
    fail("has a number of more than 64 bits");
  }
  std::string_view take(uint64_t size) {
    if (size > bytes_.size()) {
      fail("has a field of " + std::to_string(size) + " bytes where " +
           std::to_string(bytes_.size()) + " are left");
    }
    const std::string_view taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return taken;
  }
  static uint64_t fixed(std::string_view bytes) {
    uint64_t value = 0;
    for (size_t i = bytes.size(); i-- > 0;) value = (value << 8U) | static_cast<uint8_t>(bytes[i]);
    return value;
  }

  std::string_view bytes_;
  std::string name_;
  const std::string& origin_;
};

class Parser {
 public:
  explicit Parser(const std::string& origin) : origin_(origin) {}

  SentencePieceFile run(std::string_view bytes) {
    Message model(bytes, "the file", origin_);
    Field field;
    while (model.next(field)) {
      if (field.number == 1) read_piece(model.text(field, "a piece"));
      if (field.number == 2) read_trainer(model.text(field, "its trainer_spec"));
      if (field.number == 3) read_normalizer(model.text(field, "its normalizer_spec"));
    }
    if (file_.pieces.empty()) model.fail("has no pieces");
    check_types();
    return std::move(file_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::kInputMalformed, origin_ + ": " + what);
  }

  void read_piece(std::string_view bytes) {
    if (file_.pieces.size() == kMostPieces) {
      fail("more than " + std::to_string(kMostPieces) + " pieces");
    }
    const std::string where = "piece " + std::to_string(file_.pieces.size());
    Message message(bytes, where, origin_);
    SentencePiecePiece piece;
    Field field;
    while (message.next(field)) {
      if (field.number == 1) piece.text = message.text(field, "its text");
      if (field.number == 2) piece.score = message.real(field, "its score");
      if (field.number != 3) continue;
      const uint64_t type = message.number(field, "its type");
      if (type < 1 || type > 6) fail(where + ": type " + std::to_string(type) + " is not known");
      piece.type = static_cast<PieceType>(type);
    }
    if (piece.text.empty()) fail(where + " is empty");
    if (replace_invalid_utf8(piece.text) != piece.text ||
        piece.text.find('\0') != std::string::npos) {
      fail(where + " is no text in UTF-8: " + quoted_text(piece.text));
    }
    check_token_size(piece.text, origin_);
    if (!std::isfinite(piece.score)) {
      fail(where + " " + quoted_text(piece.text) + ": its score is not a finite number");
    }
    file_.pieces.push_back(std::move(piece));
  }

  void read_trainer(std::string_view bytes) {
    Message message(bytes, "trainer_spec", origin_);
    Field field;
    const auto id = [&](const char* what) {
      return static_cast<int32_t>(static_cast<uint32_t>(message.number(field, what)));
    };
    while (message.next(field)) {
      switch (field.number) {
        case 3: {
          const uint64_t kind = message.number(field, "model_type");
          if (kind != 1 && kind != 2) {
            fail("model_type " + std::to_string(kind) +
                 " is not supported, expected 1 (unigram) or 2 (bpe)");
          }
          file_.kind = static_cast<SentencePieceFile::Kind>(kind);
          break;
        }
        case 24:
          file_.whitespace_as_suffix = message.number(field, "treat_whitespace_as_suffix") != 0;
          break;
        case 35:
          file_.byte_fallback = message.number(field, "byte_fallback") != 0;
          break;
        case 41:
          file_.bos_id = id("bos_id");
          break;
        case 42:
          file_.eos_id = id("eos_id");
          break;
        default:
          break;
      }
    }
  }

  void read_normalizer(std::string_view bytes) {
    Message message(bytes, "normalizer_spec", origin_);
    Field field;
    while (message.next(field)) {
      switch (field.number) {
        case 2:
          file_.charsmap = message.text(field, "precompiled_charsmap");
          break;
        case 3:
          file_.add_dummy_prefix = message.number(field, "add_dummy_prefix") != 0;
          break;
        case 4:
          file_.remove_extra_whitespaces = message.number(field, "remove_extra_whitespaces") != 0;
          break;
        case 5:
          file_.escape_whitespaces = message.number(field, "escape_whitespaces") != 0;
          break;
        default:
          break;
      }
    }
  }

  void check_types() {
    std::unordered_set<std::string_view> seen;
    std::vector<bool> has_byte(256, false);
    size_t unknown = 0;
    for (size_t i = 0; i < file_.pieces.size(); ++i) {
      const SentencePiecePiece& piece = file_.pieces[i];
      const auto where = [&] {
        return "piece " + std::to_string(i) + " " + quoted_text(piece.text);
      };
      if (!seen.insert(piece.text).second) fail(where() + " is listed twice");
      if (piece.type == PieceType::kUnknown) {
        file_.unknown_id = static_cast<int32_t>(i);
        ++unknown;
      } else if (piece.type == PieceType::kByte) {
        const int byte = byte_of_token(piece.text);
        if (byte < 0) fail(where() + " is a byte; expected <0x00> to <0xFF>");
        has_byte[static_cast<size_t>(byte)] = true;
      } else if (piece.type == PieceType::kUnused && file_.kind == SentencePieceFile::Kind::kBpe) {
        fail(where() + ": unused pieces in a bpe model are not supported");
      }
    }
    if (unknown != 1) {
      fail(std::to_string(unknown) + " pieces are of type unknown, expected one");
    }
    if (file_.byte_fallback &&
        std::find(has_byte.begin(), has_byte.end(), false) != has_byte.end()) {
      fail("byte_fallback is on, but not all 256 byte pieces are there");
    }
  }

  const std::string& origin_;
  SentencePieceFile file_;
};

}  // namespace

SentencePieceFile parse_sentencepiece(std::string_view bytes, const std::string& origin) {
  return Parser(origin).run(bytes);
}

}  // namespace pare
