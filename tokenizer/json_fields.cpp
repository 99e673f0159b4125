#include "tokenizer/json_fields.h"

#include <limits>
#include <utility>

#include "pare/error.h"
#include "tokenizer/unicode.h"

namespace pare {

JsonFields::JsonFields(std::string origin) : origin_(std::move(origin)) {}

void JsonFields::fail(const std::string& what) const {
  throw Error(ErrorCode::kInputMalformed, origin_ + ": " + what);
}

void JsonFields::unsupported(const std::string& what, std::string_view type,
                             const std::string& expected) const {
  fail(what + " type " + quoted_text(type) + " is not supported, expected " + expected);
}

Json JsonFields::parse(std::string_view text) const {
  Json root;
  try {
    root = Json::parse(text);
  } catch (const Json::exception& error) {
    fail(std::string("not valid JSON: ") + error.what());
  }
  if (!root.is_object()) fail(std::string("expected a JSON object, found ") + root.type_name());
  return root;
}

const Json* JsonFields::find(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

const Json* JsonFields::component(const Json& root, const char* key) const {
  const Json* value = find(root, key);
  if (value != nullptr && !value->is_object()) {
    fail(std::string(key) + ": expected an object or null, found " + value->type_name());
  }
  return value;
}

const Json& JsonFields::member(const Json& object, const char* key,
                               const std::string& where) const {
  const Json* value = object.is_object() ? find(object, key) : nullptr;
  if (value == nullptr) fail(where + ": \"" + key + "\" is missing");
  return *value;
}

const Json& JsonFields::array(const Json& object, const char* key, const std::string& where) const {
  const Json& value = member(object, key, where);
  if (!value.is_array()) {
    fail(where + ": \"" + key + "\": expected an array, found " + value.type_name());
  }
  return value;
}

const std::string& JsonFields::string(const Json& value, const std::string& where) const {
  if (!value.is_string()) fail(where + ": expected a string, found " + value.type_name());
  return value.get_ref<const std::string&>();
}

const std::string& JsonFields::string(const Json& object, const char* key,
                                      const std::string& where) const {
  return string(member(object, key, where), where + ": \"" + key + "\"");
}

bool JsonFields::boolean(const Json& object, const char* key, bool otherwise,
                         const std::string& where) const {
  const Json* value = find(object, key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) {
    fail(where + ": \"" + key + "\": expected true or false, found " + value->type_name());
  }
  return value->get<bool>();
}

int64_t JsonFields::count(const Json& object, const char* key, int64_t otherwise, int64_t most,
                          const std::string& where) const {
  const Json* value = find(object, key);
  if (value == nullptr) return otherwise;
  if (!value->is_number_unsigned() || value->get<uint64_t>() > static_cast<uint64_t>(most)) {
    fail(where + ": \"" + key + "\": expected a whole number from 0 to " + std::to_string(most) +
         ", found " + quoted_text(value->dump()));
  }
  return static_cast<int64_t>(value->get<uint64_t>());
}

int32_t JsonFields::id(const Json& value, const std::string& where) const {
  constexpr uint64_t kLargest = std::numeric_limits<int32_t>::max() - 1;
  if (!value.is_number_unsigned() || value.get<uint64_t>() > kLargest) {
    fail(where + ": the id must be a whole number from 0 to " + std::to_string(kLargest) +
         ", found " + quoted_text(value.dump()));
  }
  return static_cast<int32_t>(value.get<uint64_t>());
}

}  // namespace pare
