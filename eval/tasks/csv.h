// Comma-separated values as RFC 4180 defines them.
//
// Fields may be quoted; a quoted field may hold commas, line ends and, doubled, quotes. Records end
// with LF or CRLF. Empty lines at the very end are ignored, an empty line elsewhere is a record of
// one empty field. Nothing is trimmed. Pure, safe to call from several threads.
//
//   for (const CsvRecord& record : parse_csv(text, "anatomy_test.csv")) use(record.fields[0]);
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pare {

struct CsvRecord {
  std::vector<std::string> fields;
  int64_t line = 0;  ///< Where it starts, from 1.
};

/// `origin` is for messages. Throws Error(kInputMalformed) with the line for a quote that is never
/// closed, a quote inside an unquoted field, text after a closing quote, and a CR without LF.
std::vector<CsvRecord> parse_csv(std::string_view text, const std::string& origin);

}  // namespace pare
