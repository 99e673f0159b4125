// What pare::report_page() is made of: the built page, and the writing of reports into it.
//
// Pure; safe from any thread; the page has static storage.
//
//   escaped_json(R"({"name": "</script>"})");   // {"name":"\u003c/script\u003e"}
#pragma once

#include <string>
#include <string_view>

namespace pare {

/// report/page.html, which holds kReportsPlace once.
std::string_view built_report_page();

/// What stands in the page in place of reports, so that it is complete without any.
/// report/build.js has the same words.
inline constexpr std::string_view kReportsPlace = R"({"schema":"pare.compare/1","reports":[]})";

/// The same JSON value without white space between its parts, and such that it can stand inside of
/// an HTML script element: in strings, <, >, & and the line separators of JavaScript (U+2028,
/// U+2029) become \u escapes. Numbers keep every digit. REQUIRES: `json` is valid JSON in UTF-8; a
/// byte-order mark is left out.
std::string escaped_json(std::string_view json);

}  // namespace pare
