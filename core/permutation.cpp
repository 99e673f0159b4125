#include "core/permutation.h"

#include <cstring>

namespace pare {
namespace {

size_t source_of(const Order& order, size_t i) {
  return order.empty() ? i : static_cast<size_t>(order[i]);
}

}  // namespace

Order compose(const Order& first, const Order& second) {
  if (first.empty()) return second;
  Order both;
  for (const int32_t i : second) both.push_back(first[static_cast<size_t>(i)]);
  return both;
}

std::vector<std::byte> permute_elements(std::span<const std::byte> bytes, size_t rows,
                                        size_t columns, size_t size, const Order& row_order,
                                        const Order& column_order) {
  std::vector<std::byte> moved(bytes.size());
  for (size_t row = 0; row < rows; ++row) {
    const std::byte* source = bytes.data() + source_of(row_order, row) * columns * size;
    for (size_t column = 0; column < columns; ++column) {
      std::memcpy(moved.data() + (row * columns + column) * size,
                  source + source_of(column_order, column) * size, size);
    }
  }
  return moved;
}

}  // namespace pare
