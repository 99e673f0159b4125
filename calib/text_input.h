// What the readers of text files share: the bytes of a file, its check, its lines, arrays of ids.
//
// An InputText owns its mapping or its copy; views point into it. Reading is safe from several
// threads. Messages begin with the path, as the user typed it.
//
//   const InputText input("c4.jsonl");
//   std::string digest = check_is_text(input, "c4.jsonl");
//   visit_lines(input, /*seed=*/0, [&](std::string_view line, size_t number) { …; return true; });
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/mapped_file.h"

namespace pare {

/// Throws Error(kInputMalformed) "path: what".
[[noreturn]] void fail_input(const std::string& path, const std::string& what);

/// The bytes of a file: mapped, or read where that cannot be done (pipes, /proc); or the text that
/// pare brings (calib/builtin_text.h).
class InputText {
 public:
  /// Throws Error(kInputMissing) when it cannot be read, Error(kInputMalformed) when it is empty.
  explicit InputText(const std::string& path);

  std::string_view view() const noexcept;

  /// Lets the system forget a part until it is read again.
  void release(size_t begin, size_t size) const noexcept;

 private:
  void read_stream(const std::string& path);

  std::optional<MappedFile> mapped_;
  std::string read_;
};

/// Bytes that are no text would be tokenized all the same, and give numbers that mean nothing:
/// throws Error(kInputMalformed) for compressed files, NUL bytes and what is not UTF-8. Returns the
/// SHA-256 of the file, which is taken in the same pass.
std::string check_is_text(const InputText& input, const std::string& path);

/// The line that begins at `at`, without its end; `at` moves behind it.
std::string_view next_line(std::string_view text, size_t& at);

/// 0, 1 … count − 1, or for a seed other than 0 shuffled (Fisher-Yates with a fixed rule for
/// drawing, so that the order does not depend on the library).
std::vector<size_t> reading_order(size_t count, uint64_t seed);

/// Calls `visit` with the lines and their numbers from 0, in the order of the seed, until it says
/// false: that it has enough. What was passed is not kept in memory.
void visit_lines(const InputText& input, uint64_t seed,
                 const std::function<bool(std::string_view line, size_t number)>& visit);

/// Whether a line holds nothing but white space.
bool is_blank_line(std::string_view line);

/// The object that a line holds. Throws Error(kInputMalformed) naming `where`.
nlohmann::json parse_object_line(std::string_view line, const std::string& where);

/// Throws Error(kInputMalformed) naming `where` when it is not an array of ids.
std::vector<int32_t> ids_from_json(const nlohmann::json& array, const std::string& where);

}  // namespace pare
