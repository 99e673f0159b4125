// Names from files that anybody may have written, made fit for a terminal or a document.
//
// A pure function; safe from any thread.
//
//   std::string cell = plain_text(candidate.name);
#pragma once

#include <string>
#include <string_view>

namespace pare::tools {

/// One line of valid UTF-8: line ends and tabs become spaces; other control characters, those that
/// change the direction of text or end a line in Unicode, and what is no UTF-8 become "?".
std::string plain_text(std::string_view text);

}  // namespace pare::tools
