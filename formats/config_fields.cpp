#include "formats/config_fields.h"

#include "pare/error.h"

namespace pare {

void ConfigFields::refuse(const std::string& key, const std::string& what) const {
  throw Error(ErrorCode::kInputMalformed, subject_ + ": " + key + " " + what);
}

const ConfigFields::Json* ConfigFields::find(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found == json.end() || found->is_null() ? nullptr : &*found;
}

std::string ConfigFields::text(const Json& json, const char* key, const std::string& where,
                               const std::string& otherwise) const {
  const Json* found = find(json, key);
  if (found == nullptr) return otherwise;
  if (!found->is_string()) refuse(where + key, "is " + found->dump() + ", not a text");
  return found->get<std::string>();
}

std::vector<std::string> ConfigFields::texts(const Json& json, const char* key,
                                             const std::string& where) const {
  const Json* found = find(json, key);
  if (found == nullptr) return {};
  std::vector<std::string> values;
  if (!found->is_array()) refuse(where + key, "is " + found->dump() + ", not a list");
  for (const Json& value : *found) {
    if (!value.is_string()) refuse(where + key, "holds " + value.dump() + ", not a text");
    values.push_back(value.get<std::string>());
  }
  return values;
}

int64_t ConfigFields::number(const Json& json, const char* key, int64_t otherwise, int64_t least,
                             int64_t most, const std::string& where) const {
  const Json* found = find(json, key);
  if (found == nullptr) return otherwise;
  if (!found->is_number_integer() || *found < least || *found > most) {
    refuse(where + key, "is " + found->dump() + ", expected a whole number from " +
                            std::to_string(least) + " to " + std::to_string(most));
  }
  return found->get<int64_t>();
}

bool ConfigFields::boolean(const Json& json, const char* key, bool otherwise,
                           const std::string& where) const {
  const Json* found = find(json, key);
  if (found == nullptr) return otherwise;
  if (!found->is_boolean()) refuse(where + key, "is " + found->dump() + ", not true or false");
  return found->get<bool>();
}

}  // namespace pare
