#include "tools/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <numeric>
#include <utility>

namespace pare::tools {
namespace {

constexpr size_t kGap = 2;  // columns between two cells

bool continues_code_point(char letter) {
  return (static_cast<unsigned char>(letter) & 0xc0) == 0x80;
}

// Where the first `points` code points end.
size_t prefix_size(std::string_view text, size_t points) {
  size_t end = 0;
  for (; end < text.size(); ++end) {
    if (!continues_code_point(text[end]) && points-- == 0) break;
  }
  return end;
}

}  // namespace

TextTable::TextTable(std::vector<std::string> header, std::vector<Align> align)
    : align_(std::move(align)) {
  align_.resize(header.size(), Align::kLeft);
  rows_.push_back(std::move(header));
}

void TextTable::add(std::vector<std::string> row) {
  row.resize(align_.size());
  rows_.push_back(std::move(row));
}

std::vector<size_t> TextTable::widths() const {
  std::vector<size_t> result(align_.size());
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) result[i] = std::max(result[i], display_width(row[i]));
  }
  return result;
}

size_t TextTable::width() const {
  const std::vector<size_t> columns = widths();
  return std::accumulate(columns.begin(), columns.end(),
                         columns.empty() ? 0 : kGap * (columns.size() - 1));
}

TextTable& TextTable::fit(size_t columns, const std::vector<size_t>& flexible) {
  constexpr size_t kNarrowest = 8;
  std::vector<size_t> limits = widths();
  for (size_t total = width(); total > columns && !flexible.empty(); --total) {
    const size_t widest =
        *std::max_element(flexible.begin(), flexible.end(),
                          [&](size_t a, size_t b) { return limits[a] < limits[b]; });
    if (limits[widest] <= kNarrowest) break;
    --limits[widest];
  }
  for (auto& row : rows_) {
    for (const size_t i : flexible) row[i] = shortened_middle(row[i], limits[i]);
  }
  return *this;
}

std::string TextTable::render() const {
  const std::vector<size_t> columns = widths();
  std::string text;
  for (size_t r = 0; r < rows_.size(); ++r) {
    std::string line;
    for (size_t i = 0; i < align_.size(); ++i) {
      const std::string padding(columns[i] - display_width(rows_[r][i]), ' ');
      if (i > 0) line.append(kGap, ' ');
      line += align_[i] == Align::kRight ? padding + rows_[r][i] : rows_[r][i] + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
    if (r == 0) {
      std::string rule;
      for (const size_t column : columns)
        rule += std::string(rule.empty() ? 0 : kGap, ' ') + std::string(column, '-');
      text += rule + "\n";
    }
  }
  return text;
}

std::string TextTable::markdown() const {
  std::string text;
  for (size_t r = 0; r < rows_.size(); ++r) {
    text += "|";
    for (const std::string& cell : rows_[r]) text += " " + escaped_markdown(cell) + " |";
    text += "\n";
    if (r > 0) continue;
    text += "|";
    for (const Align align : align_) text += align == Align::kRight ? " ---: |" : " --- |";
    text += "\n";
  }
  return text;
}

size_t display_width(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return !continues_code_point(c); }));
}

std::string shortened(std::string_view text, size_t columns) {
  if (display_width(text) <= columns) return std::string(text);
  const size_t kept = columns > 3 ? columns - 3 : 0;
  return std::string(text.substr(0, prefix_size(text, kept))) +
         std::string(std::min<size_t>(columns, 3), '.');
}

std::string shortened_middle(std::string_view text, size_t columns) {
  const size_t width = display_width(text);
  if (width <= columns) return std::string(text);
  if (columns == 0) return "";
  const size_t tail = (columns - 1) / 2;
  const std::string_view head = text.substr(0, prefix_size(text, columns - 1 - tail));
  return std::string(head) + "…" + std::string(text.substr(prefix_size(text, width - tail)));
}

std::string wrapped(std::string_view text, size_t columns) {
  std::string result;
  std::string line;
  const auto end_line = [&] {
    if (!line.empty()) result += line + "\n";
    line.clear();
  };
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (word.empty()) continue;
    if (!line.empty() && display_width(line) + 1 + display_width(word) > columns) end_line();
    while (line.empty() && display_width(word) > columns) {
      const size_t size = prefix_size(word, std::max<size_t>(columns, 1));
      line = word.substr(0, size);
      word.remove_prefix(size);
      end_line();
    }
    line += (line.empty() ? "" : " ") + std::string(word);
  }
  end_line();
  return result;
}

std::string escaped_markdown(std::string_view text) {
  constexpr std::string_view kSpecial = "\\`*[]<>|&~$!#";
  const auto is_word = [&](size_t i) {
    return i < text.size() && (std::isalnum(static_cast<unsigned char>(text[i])) != 0);
  };
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    // Within a word "_" is a letter.
    const bool emphasis = text[i] == '_' && !(i > 0 && is_word(i - 1) && is_word(i + 1));
    if (emphasis || kSpecial.find(text[i]) != std::string_view::npos) result += '\\';
    result += text[i];
  }
  return result;
}

std::string format_bytes(int64_t bytes) {
  constexpr std::array kUnits = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string format_count(int64_t count) {
  std::string digits = fmt::format("{}", count);
  const auto first = static_cast<std::ptrdiff_t>(digits.starts_with('-') ? 1 : 0);
  for (auto i = static_cast<std::ptrdiff_t>(digits.size()) - 3; i > first; i -= 3) {
    digits.insert(static_cast<size_t>(i), ",");
  }
  return digits;
}

}  // namespace pare::tools
