#include "calib/token_source.h"

#include <algorithm>
#include <bit>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <random>
#include <sstream>
#include <string_view>
#include <utility>

#include "core/sha256.h"
#include "pare/error.h"

namespace pare {
namespace {

using Json = nlohmann::json;

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw Error(ErrorCode::kInputMalformed, path + ": " + what);
}

std::string read_file(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    throw Error(ErrorCode::kInputMissing, path + ": is a folder; expected a file");
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(ErrorCode::kInputMissing, path + ": cannot be opened for reading");
  std::string text;
  std::vector<char> buffer(size_t{1} << 20);
  do {
    file.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    text.append(buffer.data(), static_cast<size_t>(file.gcount()));
  } while (file);
  if (file.bad()) throw Error(ErrorCode::kInputMissing, path + ": reading failed");
  if (text.empty()) fail(path, "is empty; expected text or token ids");
  return text;
}

enum class Kind { kText, kJsonLines, kIds };

// By the ending of the name, in upper or lower case.
Kind kind_of(const std::string& path) {
  std::string ending = std::filesystem::path(path).extension().string();
  for (char& letter : ending) {
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  }
  if (ending == ".jsonl") return Kind::kJsonLines;
  if (ending == ".json" || ending == ".ids" || ending == ".tokens") return Kind::kIds;
  return Kind::kText;
}

// Bytes of the code point at the beginning of `text`, or 0 when they are not UTF-8: Unicode 15,
// table 3-7, which has neither overlong forms nor surrogates.
size_t code_point_size(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto between = [&](size_t i, int low, int high) {
    return i < text.size() && byte(i) >= low && byte(i) <= high;
  };
  const int first = byte(0);
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  if (first < 0xe0) return between(1, 0x80, 0xbf) ? 2 : 0;
  const int low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  const int high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  if (!between(1, low, high) || !between(2, 0x80, 0xbf)) return 0;
  if (first < 0xf0) return 3;
  return between(3, 0x80, 0xbf) ? 4 : 0;
}

// Bytes that are no text would be tokenized all the same, and give numbers that mean nothing.
void check_is_text(const std::string& text, const std::string& path) {
  constexpr std::pair<std::string_view, const char*> kCompressed[] = {{"\x1f\x8b", "gzip"},
                                                                      {"PK\x03\x04", "zip"},
                                                                      {"\x28\xb5\x2f\xfd", "zstd"},
                                                                      {"\xfd"
                                                                       "7zXZ",
                                                                       "xz"}};
  for (const auto& [magic, name] : kCompressed) {
    if (text.starts_with(magic)) {
      fail(path, std::string("is compressed (") + name + "); give the file that is inside");
    }
  }
  for (size_t at = 0; at < text.size();) {
    const size_t size = code_point_size(std::string_view(text).substr(at));
    if (text[at] == '\0') {
      fail(path, "byte " + std::to_string(at) + " is NUL; expected text in UTF-8");
    }
    if (size == 0) {
      fail(path, "byte " + std::to_string(at) + " does not continue valid UTF-8; expected text " +
                     "in UTF-8, convert it first");
    }
    at += size;
  }
}

// JSON lines under another name: as prose, the braces and keys would be scored too.
void check_is_not_json_lines(const std::string& text, const std::string& path) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos || text[begin] != '{') return;
  const std::string line = text.substr(begin, text.find('\n', begin) - begin);
  if (Json::parse(line, nullptr, false).is_object()) {
    fail(path,
         "the first line is a JSON object, which only a .jsonl file may hold; rename it to .jsonl");
  }
}

std::vector<int32_t> ids_from_json(const Json& array, const std::string& where) {
  std::vector<int32_t> ids;
  if (!array.is_array()) fail(where, "expected an array of token ids");
  for (const Json& id : array) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > INT32_MAX) {
      fail(where, "token id " + id.dump() + " is not a non-negative 32-bit integer");
    }
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

// Numbers separated by white space or commas, or JSON arrays of them; one document a line or array.
std::vector<std::vector<int32_t>> parse_id_file(const std::string& text, const std::string& path) {
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_array()) {
    if (json.empty() || json[0].is_number()) return {ids_from_json(json, path)};
    std::vector<std::vector<int32_t>> documents;
    for (const Json& array : json) documents.push_back(ids_from_json(array, path));
    return documents;
  }
  std::vector<std::vector<int32_t>> documents;
  std::istringstream lines(text);
  std::string line;
  for (int64_t number = 1; std::getline(lines, line); ++number) {
    std::replace(line.begin(), line.end(), ',', ' ');
    std::istringstream words(line);
    std::vector<int32_t> ids;
    std::string word;
    while (words >> word) {
      size_t used = 0;
      int64_t id = -1;
      try {
        id = std::stoll(word, &used);
      } catch (const std::exception&) {
        used = 0;
      }
      if (used != word.size() || id < 0 || id > INT32_MAX) {
        fail(path, "line " + std::to_string(number) + ": \"" + word + "\" is not a token id");
      }
      ids.push_back(static_cast<int32_t>(id));
    }
    if (!ids.empty()) documents.push_back(std::move(ids));
  }
  return documents;
}

std::vector<std::string> split_lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  std::string line;
  while (std::getline(stream, line)) lines.push_back(std::move(line));
  return lines;
}

// The file's order, or for a seed other than 0 Fisher-Yates with a fixed rule for drawing, so that
// the order does not depend on the library.
std::vector<size_t> reading_order(size_t count, uint64_t seed) {
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  if (seed == 0) return order;
  std::mt19937_64 random(seed);
  for (size_t i = count; i > 1; --i) std::swap(order[i - 1], order[random() % i]);
  return order;
}

}  // namespace

Tokenizer load_tokenizer(const WeightSource& source) {
  const auto& files = source.text_files();
  const auto file = files.find("tokenizer.json");
  if (file == files.end()) {
    throw Error(ErrorCode::kInputMissing,
                source.path() + ": tokenizer.json is missing; give token ids instead of text");
  }
  return Tokenizer::from_json(file->second, source.path() + "/tokenizer.json");
}

TokenDocuments read_documents(const std::string& path, const WeightSource& source,
                              int64_t needed_tokens, uint64_t seed) {
  const std::string text = read_file(path);
  check_is_text(text, path);
  const Kind kind = kind_of(path);
  if (kind != Kind::kJsonLines) check_is_not_json_lines(text, path);
  TokenDocuments result;
  result.text_sha256 = sha256_hex(std::string_view(text));
  if (kind == Kind::kIds) {
    std::vector<std::vector<int32_t>> documents = parse_id_file(text, path);
    int64_t tokens = 0;
    for (const size_t index : reading_order(documents.size(), seed)) {
      tokens += static_cast<int64_t>(documents[index].size());
      result.documents.push_back(std::move(documents[index]));
      if (needed_tokens > 0 && tokens >= needed_tokens) break;
    }
    return result;
  }
  std::optional<Tokenizer> tokenizer;
  const auto encode = [&](const std::string& document) {
    if (!tokenizer) tokenizer = load_tokenizer(source);
    return tokenizer->encode(document, /*add_special_tokens=*/true);
  };
  if (kind == Kind::kText) {
    result.documents.push_back(encode(text));
    return result;
  }
  const std::vector<std::string> lines = split_lines(text);
  int64_t tokens = 0;
  for (const size_t index : reading_order(lines.size(), seed)) {
    const std::string& line = lines[index];
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string where = path + ", line " + std::to_string(index + 1);
    const Json json = Json::parse(line, nullptr, false);
    if (!json.is_object()) fail(where, "is not a JSON object");
    if (json.contains("input_ids") || json.contains("tokens")) {
      result.documents.push_back(
          ids_from_json(json.contains("input_ids") ? json["input_ids"] : json["tokens"], where));
    } else if (json.contains("text") && json["text"].is_string()) {
      result.documents.push_back(encode(json["text"].get<std::string>()));
    } else {
      fail(where, "has neither \"text\" nor \"input_ids\"");
    }
    tokens += static_cast<int64_t>(result.documents.back().size());
    if (needed_tokens > 0 && tokens >= needed_tokens) break;
  }
  return result;
}

TokenWindows make_windows(const TokenDocuments& documents, int64_t count, int64_t length,
                          const std::string& path) {
  int64_t available = 0;
  for (const auto& document : documents.documents) {
    available += static_cast<int64_t>(document.size());
  }
  TokenWindows windows;
  windows.length = length;
  windows.count = count > 0 ? count : available / length;
  if (windows.count == 0 || windows.count > available / length) {
    fail(path, "holds " + std::to_string(available) + " tokens; " +
                   std::to_string(std::max<int64_t>(count, 1)) + " windows of " +
                   std::to_string(length) + " need " +
                   std::to_string(std::max<int64_t>(count, 1) * length) +
                   ": give more text, or fewer or shorter windows");
  }
  const auto wanted = static_cast<size_t>(windows.count * length);
  windows.ids.reserve(wanted);
  for (const auto& document : documents.documents) {
    const size_t room = wanted - windows.ids.size();
    windows.ids.insert(windows.ids.end(), document.begin(),
                       document.begin() + static_cast<ptrdiff_t>(std::min(room, document.size())));
  }
  static_assert(std::endian::native == std::endian::little);
  windows.ids_sha256 = sha256_hex(std::as_bytes(std::span<const int32_t>(windows.ids)));
  return windows;
}

}  // namespace pare
