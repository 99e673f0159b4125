// Random text for properties that hold for any text.
//
//   std::mt19937_64 random(seed);
//   const std::string text = random_text(random, 100);  // 100 code points
#pragma once

#include <cstddef>
#include <random>
#include <string>

namespace pare {

/// Mostly what tokenizers care about, sometimes any scalar value but "▁", which is the space of
/// SentencePiece and does not come back.
std::string random_text(std::mt19937_64& random, size_t length);

}  // namespace pare
