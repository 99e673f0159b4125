#include "calib/token_source.h"

#include <algorithm>
#include <bit>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "calib/builtin_text.h"
#include "calib/text_input.h"
#include "core/sha256.h"
#include "core/text.h"
#include "tokenizer/open_tokenizer.h"

namespace pare {
namespace {

using Json = nlohmann::json;

enum class Kind { kText, kJsonLines, kIds };

// By the ending of the name, in upper or lower case.
Kind kind_of(const std::string& path) {
  if (path == kBuiltinText) return Kind::kJsonLines;
  const std::string ending = lower_ascii(std::filesystem::path(path).extension().string());
  if (ending == ".jsonl") return Kind::kJsonLines;
  if (ending == ".json" || ending == ".ids" || ending == ".tokens") return Kind::kIds;
  return Kind::kText;
}

// JSON lines under another name: as prose, the braces and keys would be scored too.
void check_is_not_json_lines(std::string_view text, const std::string& path) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos || text[begin] != '{') return;
  const std::string_view line = text.substr(begin, text.find('\n', begin) - begin);
  if (Json::parse(line, nullptr, false).is_object()) {
    fail_input(
        path,
        "the first line is a JSON object, which only a .jsonl file may hold; rename it to .jsonl");
  }
}

// Numbers separated by white space or commas, or JSON arrays of them; one document a line or array.
std::vector<std::vector<int32_t>> parse_id_file(std::string_view text, const std::string& path) {
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_array()) {
    if (json.empty() || json[0].is_number()) return {ids_from_json(json, path)};
    std::vector<std::vector<int32_t>> documents;
    for (const Json& array : json) documents.push_back(ids_from_json(array, path));
    return documents;
  }
  std::vector<std::vector<int32_t>> documents;
  size_t at = 0;
  for (int64_t number = 1; at < text.size(); ++number) {
    constexpr std::string_view kBetween = " \t\r\v\f,";
    std::string_view line = next_line(text, at);
    std::vector<int32_t> ids;
    while (true) {
      line.remove_prefix(std::min(line.find_first_not_of(kBetween), line.size()));
      if (line.empty()) break;
      const std::string word(line.substr(0, line.find_first_of(kBetween)));
      line.remove_prefix(word.size());
      size_t used = 0;
      int64_t id = -1;
      try {
        id = std::stoll(word, &used);
      } catch (const std::exception&) {
        used = 0;
      }
      if (used != word.size() || id < 0 || id > INT32_MAX) {
        fail_input(path, "line " + std::to_string(number) + ": \"" + word + "\" is not a token id");
      }
      ids.push_back(static_cast<int32_t>(id));
    }
    if (!ids.empty()) documents.push_back(std::move(ids));
  }
  return documents;
}

// The ids of a line, or null when it gives a text. Other tools write more than one of the keys:
// "tokens" may be the words of "text", or their number.
const Json* ids_of(const Json& line) {
  const Json* other = nullptr;
  for (const char* key : {"input_ids", "tokens"}) {
    const auto found = line.find(key);
    if (found == line.end() || !found->is_array()) continue;
    if (std::all_of(found->begin(), found->end(),
                    [](const Json& id) { return id.is_number_integer(); })) {
      return &*found;
    }
    if (other == nullptr) other = &*found;
  }
  const auto text = line.find("text");
  return text != line.end() && text->is_string() ? nullptr : other;
}

// Rows with two line ends between them.
class RowJoiner {
 public:
  void add(std::string_view row) {
    if (rows_++ > 0) text_ += "\n\n";
    if (row.find_first_not_of(" \t\r\n\v\f") != std::string_view::npos) text_ += row;
  }
  const std::string& text() const noexcept { return text_; }
  bool empty() const noexcept { return rows_ == 0; }

 private:
  std::string text_;
  size_t rows_ = 0;
};

std::string joined_lines(std::string_view text) {
  RowJoiner rows;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    const size_t next = end == std::string_view::npos ? text.size() : end + 1;
    rows.add(text.substr(at, next - at));
    at = next;
  }
  return rows.text();
}

}  // namespace

Tokenizer load_tokenizer(const WeightSource& source) {
  return open_tokenizer(source.text_files(), source.path());
}

TokenDocuments read_documents(const std::string& path, const WeightSource& source,
                              int64_t needed_tokens, uint64_t seed, const ReadOptions& options) {
  const bool joined = options.layout == TextLayout::kRowsJoined;
  const InputText input(path);
  const std::string_view text = input.view();
  TokenDocuments result;
  result.text_sha256 = check_is_text(input, path);
  const Kind kind = kind_of(path);
  if (kind != Kind::kJsonLines) check_is_not_json_lines(text, path);
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
  const auto encode = [&](std::string_view document) {
    if (!tokenizer) tokenizer = load_tokenizer(source);
    return tokenizer->encode(document,
                             {.add_special_tokens = true, .parse_special = options.parse_special});
  };
  if (kind == Kind::kText) {
    result.documents.push_back(joined ? encode(joined_lines(text)) : encode(text));
    return result;
  }
  int64_t tokens = 0;
  RowJoiner rows;
  visit_lines(input, seed, [&](std::string_view line, size_t number) {
    if (is_blank_line(line)) return true;
    const std::string where = path + ", line " + std::to_string(number + 1);
    const Json json = parse_object_line(line, where);
    if (const Json* ids = ids_of(json)) {
      result.documents.push_back(ids_from_json(*ids, where));
    } else if (json.contains("text") && json["text"].is_string() && joined) {
      rows.add(json["text"].get_ref<const std::string&>());
      return true;
    } else if (json.contains("text") && json["text"].is_string()) {
      result.documents.push_back(encode(json["text"].get_ref<const std::string&>()));
    } else {
      fail_input(where, "has neither \"text\" nor \"input_ids\" with an array of token ids");
    }
    tokens += static_cast<int64_t>(result.documents.back().size());
    return needed_tokens <= 0 || tokens < needed_tokens;
  });
  if (!rows.empty()) result.documents.push_back(encode(rows.text()));
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
  if (path == kBuiltinText) windows.count = std::min(windows.count, available / length);
  if (windows.count == 0 || windows.count > available / length) {
    fail_input(path, "holds " + std::to_string(available) + " tokens; " +
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
