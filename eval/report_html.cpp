#include "eval/report_html.h"

#include <cstddef>
#include <nlohmann/json.hpp>

#include "pare/error.h"
#include "pare/report_page.h"

namespace pare {
namespace {

constexpr std::string_view kSchema = "pare.eval/1";

[[noreturn]] void malformed(size_t number, size_t of, const std::string& found) {
  throw Error(ErrorCode::kInputMalformed,
              "report " + std::to_string(number) + " of " + std::to_string(of) +
                  ": expected a report of the schema \"" + std::string(kSchema) + "\", found " +
                  found + "; accuracy-eval --json writes one");
}

void check(const std::string& text, size_t number, size_t of) {
  nlohmann::json json;
  try {
    json = nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    malformed(number, of, std::string("what is not JSON (") + error.what() + ")");
  }
  if (!json.is_object()) malformed(number, of, std::string("a JSON ") + json.type_name());
  const auto schema = json.find("schema");
  if (schema == json.end() || !schema->is_string()) malformed(number, of, "no \"schema\"");
  if (const auto& name = schema->get_ref<const std::string&>(); name != kSchema) {
    malformed(number, of, "the schema \"" + name.substr(0, 40) + "\"");
  }
  const auto baseline = json.find("baseline");
  if (baseline == json.end() || !baseline->is_object()) malformed(number, of, "no \"baseline\"");
}

/// The escape of the character that begins at `position`, and its length in bytes; "" where it can
/// stand as it is.
std::string_view escape_of(std::string_view text, size_t position, size_t* length) {
  *length = 1;
  switch (text[position]) {
    case '<':
      return "\\u003c";
    case '>':
      return "\\u003e";
    case '&':
      return "\\u0026";
    default:
      break;
  }
  const std::string_view three = text.substr(position, 3);
  *length = 3;
  if (three == "\xe2\x80\xa8") return "\\u2028";
  if (three == "\xe2\x80\xa9") return "\\u2029";
  return "";
}

}  // namespace

std::string escaped_json(std::string_view json) {
  if (json.starts_with("\xef\xbb\xbf")) json.remove_prefix(3);
  std::string result;
  result.reserve(json.size());
  bool in_string = false;
  for (size_t i = 0; i < json.size(); ++i) {
    const char character = json[i];
    if (!in_string) {
      if (std::string_view(" \t\r\n").find(character) != std::string_view::npos) continue;
      in_string = character == '"';
      result += character;
      continue;
    }
    size_t length = 0;
    if (const std::string_view escape = escape_of(json, i, &length); !escape.empty()) {
      result += escape;
      i += length - 1;
      continue;
    }
    result += character;
    if (character == '"') in_string = false;
    // What follows a backslash never ends the string.
    if (character == '\\' && i + 1 < json.size()) result += json[++i];
  }
  return result;
}

std::string report_page(const std::vector<std::string>& reports_json) {
  if (reports_json.empty()) {
    throw Error(ErrorCode::kUsage, "a report page needs at least one report, found none");
  }
  std::string reports;
  for (size_t i = 0; i < reports_json.size(); ++i) {
    check(reports_json[i], i + 1, reports_json.size());
    if (i > 0) reports += ',';
    reports += escaped_json(reports_json[i]);
  }

  const std::string_view built = built_report_page();
  const size_t place = built.find(kReportsPlace);
  if (place == std::string_view::npos) {
    throw Error(ErrorCode::kInternal, "report/page.html: expected a place for the reports");
  }
  // "…"reports":[" + reports + "]}…"
  constexpr size_t kClosing = 2;
  const size_t inside = place + kReportsPlace.size() - kClosing;
  std::string page;
  page.reserve(built.size() + reports.size());
  page += built.substr(0, inside);
  page += reports;
  page += built.substr(inside);
  return page;
}

}  // namespace pare
