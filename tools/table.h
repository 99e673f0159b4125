// Text for people: tables, sizes, and strings fitted to a width.
//
//   TextTable table({"Model", "Size"}, {Align::kLeft, Align::kRight});
//   table.add({"base", "109.1 MiB"});
//   std::string text = table.render();
//
// Widths count UTF-8 code points. Value types; not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pare::tools {

enum class Align { kLeft, kRight };

class TextTable {
 public:
  /// One alignment a column.
  TextTable(std::vector<std::string> header, std::vector<Align> align);

  /// One cell a column; missing ones are empty.
  void add(std::vector<std::string> row);

  /// Header, rule and rows, two spaces between columns, no trailing spaces.
  std::string render() const;

 private:
  std::vector<Align> align_;
  std::vector<std::vector<std::string>> rows_;  // The first is the header.
};

/// Code points in UTF-8 text.
size_t display_width(std::string_view text);

/// `text` if it fits into `columns`, else its beginning and "...".
std::string shortened(std::string_view text, size_t columns);

/// "109.1 MiB"
std::string format_bytes(int64_t bytes);

/// "1,234,567"
std::string format_count(int64_t count);

}  // namespace pare::tools
