#include "eval/tasks/records.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "eval/tasks/task_files.h"

namespace pare {
namespace {

using Json = nlohmann::json;

/// No task nests deeper; copying a value descends once a level.
constexpr int64_t kDeepest = 16;

// Calls `visit(character, depth before it, line)` for what stands outside strings.
template <typename Visit>
void walk_json(std::string_view text, int64_t line, Visit visit) {
  int64_t depth = 0;
  bool in_string = false;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '\n') ++line;
    if (in_string) {
      if (c == '\\') ++at;
      if (c == '"') in_string = false;
      continue;
    }
    visit(c, depth, line);
    if (c == '"') in_string = true;
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
  }
}

// Parses one value that begins on line `line` of the file.
Json parse_json(std::string_view text, const std::string& path, int64_t line) {
  walk_json(text, line, [&](char, int64_t depth, int64_t here) {
    if (depth > kDeepest) malformed(at_line(path, here), "JSON that is nested too deeply");
  });
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    const size_t before = std::min(error.byte, text.size());
    // `byte` counts from 1 up to the character that does not fit.
    const std::string_view read = text.substr(0, before == 0 ? 0 : before - 1);
    malformed(at_line(path, line + std::count(read.begin(), read.end(), '\n')),
              "not valid JSON (" + std::string(error.what()) + ")");
  } catch (const Json::exception& error) {  // A number that no double holds.
    malformed(at_line(path, line), "not valid JSON (" + std::string(error.what()) + ")");
  }
}

// Lines on which the elements of an array of objects begin. REQUIRES: valid JSON.
std::vector<int64_t> element_lines(std::string_view text) {
  std::vector<int64_t> lines;
  walk_json(text, 1, [&](char c, int64_t depth, int64_t line) {
    if (c == '{' && depth == 1) lines.push_back(line);
  });
  return lines;
}

std::vector<Record> parse_array(const std::string& text, const std::string& path) {
  Json array = parse_json(text, path, 1);
  for (size_t i = 0; i < array.size(); ++i) {
    if (!array[i].is_object()) {
      malformed(path, "element " + std::to_string(i + 1) + " of the array is no JSON object");
    }
  }
  const std::vector<int64_t> lines = element_lines(text);
  std::vector<Record> records;
  for (size_t i = 0; i < array.size(); ++i) {
    records.emplace_back(std::move(array[i]), at_line(path, lines[i]));
  }
  return records;
}

std::vector<Record> parse_lines(const std::string& text, const std::string& path) {
  std::vector<Record> records;
  int64_t number = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = std::string_view(text).substr(at, end - at);
    at = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    Json value = parse_json(line, path, number);
    if (!value.is_object()) malformed(at_line(path, number), "expected a JSON object");
    records.emplace_back(std::move(value), at_line(path, number));
  }
  return records;
}

}  // namespace

std::vector<Record> parse_records(const std::string& text, const std::string& path) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  const bool is_array = first != std::string::npos && text[first] == '[';
  std::vector<Record> records = is_array ? parse_array(text, path) : parse_lines(text, path);
  if (records.empty()) malformed(path, "holds no question");
  return records;
}

int64_t parse_index(std::string_view word, int64_t count, int64_t first) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size()) return -1;
  return value >= first && value - first < count ? value - first : -1;
}

std::vector<std::string> letters(size_t count) {
  std::vector<std::string> names;
  for (size_t i = 0; i < std::min<size_t>(count, 26); ++i) {
    names.emplace_back(1, static_cast<char>('A' + i));
  }
  return names;
}

void Record::fail(const std::string& what) const { malformed(source_, what); }

void Record::fail_value(const char* key, const std::string& expected) const {
  std::string found = object_.at(key).dump(-1, ' ', /*ensure_ascii=*/true);
  if (found.size() > 60) found = found.substr(0, 57) + "...";
  fail("\"" + std::string(key) + "\" is " + found + "; expected " + expected);
}

const Json& Record::at(const char* key) const {
  if (!has(key)) fail("has no \"" + std::string(key) + "\"");
  return object_.at(key);
}

bool Record::has(const char* key) const {
  return object_.contains(key) && !object_.at(key).is_null();
}

bool Record::is_object(const char* key) const { return has(key) && object_.at(key).is_object(); }

std::string Record::text(const char* key) const {
  const Json& value = at(key);
  if (!value.is_string()) fail_value(key, "text");
  if (stripped(value.get_ref<const std::string&>()).empty()) {
    fail("\"" + std::string(key) + "\" is empty");
  }
  return value.get<std::string>();
}

std::string Record::text_or_empty(const char* key) const {
  if (!has(key)) return "";
  if (!object_.at(key).is_string()) fail_value(key, "text");
  return object_.at(key).get<std::string>();
}

std::vector<std::string> Record::texts(const char* key) const {
  const Json& value = at(key);
  if (!value.is_array() || value.size() < 2) fail_value(key, "a list of at least two texts");
  std::vector<std::string> list;
  for (const Json& element : value) {
    if (!element.is_string() || stripped(element.get_ref<const std::string&>()).empty()) {
      fail("entry " + std::to_string(list.size() + 1) + " of \"" + key + "\" is empty or no text");
    }
    list.push_back(element.get<std::string>());
  }
  return list;
}

bool Record::boolean(const char* key) const {
  const Json& value = at(key);
  if (!value.is_boolean()) fail_value(key, "true or false");
  return value.get<bool>();
}

Record Record::object(const char* key) const {
  const Json& value = at(key);
  if (!value.is_object()) fail_value(key, "an object");
  return {value, source_};
}

std::vector<Record> Record::objects(const char* key) const {
  const Json& value = at(key);
  if (!value.is_array() || value.size() < 2) fail_value(key, "a list of at least two objects");
  std::vector<Record> list;
  for (const Json& element : value) {
    if (!element.is_object()) fail_value(key, "a list of objects");
    list.emplace_back(element, source_);
  }
  return list;
}

int64_t Record::index(const char* key, int64_t count, int64_t first) const {
  const Json& value = at(key);
  int64_t found = -1;
  if (value.is_number_integer()) found = parse_index(value.dump(), count, first);
  if (value.is_string()) found = parse_index(value.get_ref<const std::string&>(), count, first);
  if (found < 0) {
    fail_value(key, std::to_string(first) + " to " + std::to_string(first + count - 1));
  }
  return found;
}

int64_t Record::answer(const char* key, const std::vector<std::string>& texts,
                       const std::vector<std::string>& labels) const {
  const Json& value = at(key);
  const std::vector<std::string> names = labels.empty() ? letters(texts.size()) : labels;
  if (value.is_number_integer() && labels.empty()) {
    return index(key, static_cast<int64_t>(texts.size()));
  }
  const std::string word = value.is_string()           ? value.get<std::string>()
                           : value.is_number_integer() ? value.dump()
                                                       : std::string();
  int64_t found = -1;
  for (const std::vector<std::string>* list : {&texts, &names}) {
    // Where a set has labels, an answer is always one: "2" may be the text of another choice.
    if (list == &texts && !labels.empty()) continue;
    for (size_t i = 0; i < list->size() && !word.empty(); ++i) {
      if ((*list)[i] != word) continue;
      if (found >= 0 && found != static_cast<int64_t>(i)) {
        fail_value(key, "an answer that means only one of the choices");
      }
      found = static_cast<int64_t>(i);
    }
  }
  if (found < 0) {
    fail_value(key, labels.empty() ? "the index (from 0), the letter or the text of a choice"
                                   : "the label of one of the choices");
  }
  return found;
}

}  // namespace pare
