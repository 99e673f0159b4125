// Text for people: tables, sizes, and strings fitted to a width.
//
//   TextTable table({"Model", "Size"}, {Align::kLeft, Align::kRight});
//   table.add({"base", "109.1 MiB"});
//   std::string text = table.fit(80, {0}).render();
//   std::string document = table.markdown();
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

  /// Shortens the cells of the `flexible` columns in their middle, the widest column first and
  /// none below 8, until the table is no wider than `columns`, where that is enough.
  TextTable& fit(size_t columns, const std::vector<size_t>& flexible);

  /// Of a line of render().
  size_t width() const;

  /// Header, rule and rows, two spaces between columns, no trailing spaces.
  std::string render() const;

  /// As a table of GitHub's Markdown, with cells escaped.
  std::string markdown() const;

 private:
  std::vector<size_t> widths() const;

  std::vector<Align> align_;
  std::vector<std::vector<std::string>> rows_;  // The first is the header.
};

/// Code points in UTF-8 text.
size_t display_width(std::string_view text);

/// `text` if it fits into `columns`, else its beginning and "...".
std::string shortened(std::string_view text, size_t columns);

/// `text` if it fits into `columns`, else its beginning, "…" and its end.
std::string shortened_middle(std::string_view text, size_t columns);

/// Lines of at most `columns`, each with a line end, broken at spaces and within words that are
/// longer than a line.
std::string wrapped(std::string_view text, size_t columns);

/// `text` with a backslash before whatever means something in Markdown, tables included.
std::string escaped_markdown(std::string_view text);

/// "109.1 MiB"
std::string format_bytes(int64_t bytes);

/// "1,234,567"
std::string format_count(int64_t count);

}  // namespace pare::tools
