#include "tools/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

namespace pare::tools {
namespace {

bool continues_code_point(char letter) {
  return (static_cast<unsigned char>(letter) & 0xc0) == 0x80;
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

std::string TextTable::render() const {
  std::vector<size_t> widths(align_.size());
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], display_width(row[i]));
  }
  std::string text;
  for (size_t r = 0; r < rows_.size(); ++r) {
    std::string line;
    for (size_t i = 0; i < align_.size(); ++i) {
      const std::string padding(widths[i] - display_width(rows_[r][i]), ' ');
      if (i > 0) line += "  ";
      line += align_[i] == Align::kRight ? padding + rows_[r][i] : rows_[r][i] + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
    if (r == 0) {
      std::string rule;
      for (const size_t width : widths)
        rule += std::string(rule.empty() ? 0 : 2, ' ') + std::string(width, '-');
      text += rule + "\n";
    }
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
  size_t end = 0;
  for (size_t points = 0; end < text.size(); ++end) {
    if (!continues_code_point(text[end]) && points++ == kept) break;
  }
  return std::string(text.substr(0, end)) + std::string(std::min<size_t>(columns, 3), '.');
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
