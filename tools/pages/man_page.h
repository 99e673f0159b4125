// A manual page from a help page.
//
//   std::string roff = man_page("quantize-export", "0.1.0", parse_help(text), {"quantize"});
#pragma once

#include <string>
#include <vector>

#include "tools/pages/help_text.h"

namespace pare::tools {

/// Section 1, in the macros of man(7). The same input gives the same bytes.
std::string man_page(const std::string& name, const std::string& version, const HelpText& help,
                     const std::vector<std::string>& see_also);

}  // namespace pare::tools
