#include "calib/text_input.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>
#include <utility>

#include "calib/builtin_text.h"
#include "core/sha256.h"
#include "core/text.h"
#include "pare/error.h"

namespace pare {
namespace {

using Json = nlohmann::json;

/// Whole blocks of this size are read and forgotten, so that a large file takes little memory.
constexpr size_t kBlockBytes = size_t{4} << 20;

}  // namespace

void fail_input(const std::string& path, const std::string& what) {
  throw Error(ErrorCode::kInputMalformed, path + ": " + what);
}

InputText::InputText(const std::string& path) {
  if (path == kBuiltinText) {
    read_ = builtin_calibration_text();
    return;
  }
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (std::filesystem::is_directory(status)) {
    throw Error(ErrorCode::kInputMissing, path + ": is a folder; expected a file");
  }
  if (status.type() == std::filesystem::file_type::none) {
    throw Error(ErrorCode::kInputMissing, path + ": cannot be read: " + error.message());
  }
  if (std::filesystem::is_regular_file(status)) mapped_.emplace(path);
  if (!mapped_ || mapped_->bytes().empty()) read_stream(path);
  if (view().empty()) fail_input(path, "is empty; expected text or token ids");
}

std::string_view InputText::view() const noexcept {
  if (!mapped_ || mapped_->bytes().empty()) return read_;
  return {reinterpret_cast<const char*>(mapped_->bytes().data()), mapped_->bytes().size()};
}

void InputText::release(size_t begin, size_t size) const noexcept {
  if (mapped_ && !mapped_->bytes().empty()) {
    mapped_->release(mapped_->bytes().subspan(begin, size));
  }
}

void InputText::read_stream(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(ErrorCode::kInputMissing, path + ": cannot be opened for reading");
  std::vector<char> buffer(size_t{1} << 20);
  do {
    file.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    read_.append(buffer.data(), static_cast<size_t>(file.gcount()));
  } while (file);
  if (file.bad()) throw Error(ErrorCode::kInputMissing, path + ": reading failed");
}

std::string check_is_text(const InputText& input, const std::string& path) {
  const std::string_view text = input.view();
  constexpr std::pair<std::string_view, const char*> kCompressed[] = {{"\x1f\x8b", "gzip"},
                                                                      {"PK\x03\x04", "zip"},
                                                                      {"\x28\xb5\x2f\xfd", "zstd"},
                                                                      {"\xfd"
                                                                       "7zXZ",
                                                                       "xz"}};
  for (const auto& [magic, name] : kCompressed) {
    if (text.starts_with(magic)) {
      fail_input(path, std::string("is compressed (") + name + "); give the file that is inside");
    }
  }
  Sha256 hash;
  size_t at = 0;
  for (size_t begin = 0; begin < text.size(); begin += kBlockBytes) {
    const std::string_view block = text.substr(begin, kBlockBytes);
    hash.update(block);
    while (at < begin + block.size()) {
      const size_t size = utf8_sequence_size(text.substr(at));
      if (text[at] == '\0') {
        fail_input(path, "byte " + std::to_string(at) + " is NUL; expected text in UTF-8");
      }
      if (size == 0) {
        fail_input(path, "byte " + std::to_string(at) +
                             " does not continue valid UTF-8; expected text " +
                             "in UTF-8, convert it first");
      }
      at += size;
    }
    input.release(begin, block.size());
  }
  return hash.finish();
}

std::string_view next_line(std::string_view text, size_t& at) {
  const std::string_view line = text.substr(at, text.find('\n', at) - at);
  at = std::min(at + line.size() + 1, text.size());
  return line;
}

std::vector<size_t> reading_order(size_t count, uint64_t seed) {
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  if (seed == 0) return order;
  std::mt19937_64 random(seed);
  for (size_t i = count; i > 1; --i) std::swap(order[i - 1], order[random() % i]);
  return order;
}

void visit_lines(const InputText& input, uint64_t seed,
                 const std::function<bool(std::string_view line, size_t number)>& visit) {
  const std::string_view text = input.view();
  std::vector<std::string_view> lines;
  size_t released = 0;
  size_t at = 0;
  for (size_t number = 0; at < text.size(); ++number) {
    const std::string_view line = next_line(text, at);
    if (seed != 0) {
      lines.push_back(line);
    } else if (!visit(line, number)) {
      return;
    }
    if (at - released >= kBlockBytes) {
      input.release(released, at - released);
      released = at;
    }
  }
  for (const size_t number : reading_order(lines.size(), seed)) {
    if (!visit(lines[number], number)) return;
  }
}

bool is_blank_line(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

nlohmann::json parse_object_line(std::string_view line, const std::string& where) {
  Json json = Json::parse(line, nullptr, false);
  if (!json.is_object()) fail_input(where, "is not a JSON object");
  return json;
}

std::vector<int32_t> ids_from_json(const Json& array, const std::string& where) {
  std::vector<int32_t> ids;
  if (!array.is_array()) fail_input(where, "expected an array of token ids");
  for (const Json& id : array) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > INT32_MAX) {
      fail_input(where, "token id " + id.dump() + " is not a non-negative 32-bit integer");
    }
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

}  // namespace pare
