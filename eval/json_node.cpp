#include "eval/json_node.h"

#include <cmath>
#include <limits>

#include "pare/error.h"
#include "tokenizer/unicode.h"

namespace pare {
namespace {

using Json = nlohmann::json;

bool is_plain(const std::string& key) {
  constexpr size_t kLongest = 64;
  constexpr const char* kLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
  return !key.empty() && key.size() <= kLongest &&
         key.find_first_not_of(kLetters) == std::string::npos;
}

// A few words, however large the value is.
std::string describe(const Json& json) {
  switch (json.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "an array of " + std::to_string(json.size());
    case Json::value_t::string:
      return quoted_text(json.get_ref<const std::string&>());
    default:
      return json.dump();
  }
}

}  // namespace

JsonNode JsonNode::at(const std::string& key) const {
  const std::optional<JsonNode> node = find(key);
  if (!node) fail("has no " + quoted_text(key) + "; the file is not a complete report");
  return *node;
}

std::optional<JsonNode> JsonNode::find(const std::string& key) const {
  check_object();
  const auto found = json_->find(key);
  if (found == json_->end()) return std::nullopt;
  return member(key, *found);
}

std::vector<JsonNode> JsonNode::elements() const {
  if (!json_->is_array()) fail_type("an array");
  std::vector<JsonNode> result;
  result.reserve(json_->size());
  for (size_t i = 0; i < json_->size(); ++i) {
    result.push_back(JsonNode((*json_)[i], *file_, path_ + "[" + std::to_string(i) + "]"));
  }
  return result;
}

std::vector<std::pair<std::string, JsonNode>> JsonNode::members() const {
  check_object();
  std::vector<std::pair<std::string, JsonNode>> result;
  result.reserve(json_->size());
  for (const auto& [key, value] : json_->items()) result.emplace_back(key, member(key, value));
  return result;
}

double JsonNode::number() const {
  if (!json_->is_number()) fail_type("a number");
  const auto value = json_->get<double>();
  if (!std::isfinite(value)) fail_type("a finite number");
  return value;
}

double JsonNode::share() const {
  const double value = number();
  if (!(value >= 0 && value <= 1)) fail_type("a number from 0 to 1");
  return value;
}

int64_t JsonNode::count() const {
  constexpr auto kLargest = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  // The parser keeps what has no sign as unsigned.
  if (!json_->is_number_unsigned() || json_->get<uint64_t>() > kLargest) {
    fail_type("a whole number from 0 to 2^63 - 1");
  }
  return json_->get<int64_t>();
}

std::string JsonNode::text() const {
  if (!json_->is_string()) fail_type("a string");
  return json_->get<std::string>();
}

Interval JsonNode::interval() const {
  if (!json_->is_array() || json_->size() != 2) fail_type("an array of two numbers");
  const std::vector<JsonNode> ends = elements();
  const Interval result{ends[0].number(), ends[1].number()};
  if (result.lower > result.upper) fail("the lower end is above the upper one");
  return result;
}

Measured JsonNode::measured(const std::string& key) const {
  Measured figure;
  figure.value = at(key).number();
  const JsonNode error = at(key + "_se");
  if (!error.is_null()) figure.standard_error = error.number();
  if (figure.standard_error < 0) error.fail_type("a number that is not negative");
  const JsonNode interval = at(key + "_ci");
  if (!interval.is_null()) figure.interval = interval.interval();
  return figure;
}

void JsonNode::fail(const std::string& what) const {
  throw Error(ErrorCode::kInputMalformed,
              *file_ + ": " + (path_.empty() ? "" : path_ + ": ") + what);
}

JsonNode JsonNode::member(const std::string& key, const Json& value) const {
  if (!is_plain(key)) return JsonNode(value, *file_, path_ + "[" + quoted_text(key) + "]");
  return JsonNode(value, *file_, path_.empty() ? key : path_ + "." + key);
}

void JsonNode::check_object() const {
  if (!json_->is_object()) fail_type("an object");
}

void JsonNode::fail_type(const std::string& expected) const {
  fail("expected " + expected + ", found " + describe(*json_));
}

}  // namespace pare
