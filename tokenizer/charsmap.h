// The "precompiled charsmap" of SentencePiece: what becomes of a character or a few of them.
//
// Layout, little-endian (Kudo and Richardson 2018, "SentencePiece"; the trie is a double array as
// in Yata's Darts-clone):
//
//   u32 t                 bytes of the trie, a multiple of 4
//   u32 unit[t / 4]       bit 31 and bits 0…7: label; bit 8: a value hangs below; bits 10…31:
//   offset,
//                         times 256 where bit 9 is set; of a value: bits 0…30
//   text                  replacements in UTF-8, each ends with a NUL; values are offsets into it
//
// From the node at n with offset o, byte c leads to n ^ o ^ c where that unit's label is c. Every
// index is checked when it is used, so a damaged map gives an error and no more. Immutable and safe
// to use from several threads.
//
//   const Charsmap map(bytes, "spiece.model");
//   Charsmap::Match match = map.longest("ﬁx");  // {3, "fi"}
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pare {

class Charsmap {
 public:
  struct Match {
    size_t size = 0;               ///< Bytes of the text; 0 where nothing matches.
    std::string_view replacement;  ///< A view into the map.
  };

  /// An empty map matches nothing. `origin` is for messages. Throws Error(kInputMalformed) when the
  /// sizes do not fit or the replacements are not UTF-8.
  Charsmap(std::string_view bytes, const std::string& origin);

  /// The longest (shortest) entry that `text` begins with. Throws Error(kInputMalformed) when the
  /// trie leads out of the map.
  Match longest(std::string_view text) const { return match(text, /*first_only=*/false); }
  Match shortest(std::string_view text) const { return match(text, /*first_only=*/true); }

  bool empty() const { return units_.empty(); }

 private:
  [[noreturn]] void fail(const std::string& what) const;
  uint32_t unit(size_t index) const;
  Match match(std::string_view text, bool first_only) const;

  std::string origin_;
  std::vector<uint32_t> units_;
  std::string replacements_;
};

/// Bytes from base64 (RFC 4648, section 4). Returns false when the text is no base64.
bool decode_base64(std::string_view text, std::string& bytes);

}  // namespace pare
