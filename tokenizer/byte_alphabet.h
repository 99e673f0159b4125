// The byte-to-unicode alphabet of byte-level BPE.
//
// Every byte has one printable character, so that any bytes are text without spaces or control
// characters: printable Latin-1 stands for itself, the other 68 bytes are U+0100 and up in order
// (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"). Stateless.
//
//   std::string mapped;
//   append_byte_characters(mapped, " a");    // "Ġa"
//   append_character_bytes(bytes, mapped);   // " a"
#pragma once

#include <string>
#include <string_view>

namespace pare {

/// Appends the characters of `bytes`, in UTF-8.
void append_byte_characters(std::string& text, std::string_view bytes);

/// Appends the bytes that `text` stands for and returns true, or leaves `bytes` as it was and
/// returns false when a character is not of the alphabet. REQUIRES: `text` is valid UTF-8.
bool append_character_bytes(std::string& bytes, std::string_view text);

/// The byte that a token of byte fallback stands for, "<0x0A>" being 10, or −1 for other tokens.
int byte_of_token(std::string_view token);

}  // namespace pare
