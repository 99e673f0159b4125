// Charsmaps and SentencePiece models written by hand.
//
// Free functions; the results are bytes as the files hold them.
//
//   const std::string map = make_charsmap({{"ﬁ", "fi"}});
//   const std::string model = make_sentencepiece({.kind = 2, .pieces = {{"<unk>", 0, 2}}});
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace pare {

/// The layout of tokenizer/charsmap.h with the first double array that fits.
std::string make_charsmap(const std::map<std::string, std::string>& replacements);

struct ModelPiece {
  std::string text;
  float score = 0;
  int type = 1;  ///< 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
};

struct ModelSpec {
  int kind = 1;  ///< 1 unigram, 2 bpe.
  std::vector<ModelPiece> pieces = {};
  bool byte_fallback = false;
  bool whitespace_as_suffix = false;
  std::string charsmap = {};
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
};

/// One field of a protocol buffer.
std::string varint_field(uint64_t number, uint64_t value);
std::string bytes_field(uint64_t number, std::string_view bytes);

std::string make_piece(const ModelPiece& piece);
std::string make_sentencepiece(const ModelSpec& spec);

}  // namespace pare
