// Orders of rows and columns: place i takes what stood at order[i]. An empty order leaves all as it
// is.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace pare {

using Order = std::vector<int32_t>;

/// The order `first`, and then `second` of what that made.
Order compose(const Order& first, const Order& second);

/// Rows of `width` values. Nothing happens to an empty matrix.
template <typename Value>
void permute_rows(std::vector<Value>& values, std::span<const int32_t> order, size_t width) {
  if (values.empty()) return;
  std::vector<Value> moved(values.size());
  for (size_t i = 0; i < order.size(); ++i) {
    std::copy_n(values.begin() + static_cast<ptrdiff_t>(static_cast<size_t>(order[i]) * width),
                width, moved.begin() + static_cast<ptrdiff_t>(i * width));
  }
  values = std::move(moved);
}

/// Columns of a matrix of rows as long as the order.
template <typename Value>
void permute_columns(std::vector<Value>& values, std::span<const int32_t> order) {
  std::vector<Value> row(order.size());
  for (size_t first = 0; first < values.size(); first += order.size()) {
    for (size_t i = 0; i < order.size(); ++i) {
      row[i] = values[first + static_cast<size_t>(order[i])];
    }
    std::copy(row.begin(), row.end(), values.begin() + static_cast<ptrdiff_t>(first));
  }
}

/// A row-major matrix of elements of `size` bytes with its rows and columns in other orders.
std::vector<std::byte> permute_elements(std::span<const std::byte> bytes, size_t rows,
                                        size_t columns, size_t size, const Order& row_order,
                                        const Order& column_order);

}  // namespace pare
