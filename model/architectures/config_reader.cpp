#include "model/architectures/config_reader.h"

#include <cmath>
#include <limits>

#include "pare/error.h"

namespace pare {

bool ConfigReader::has(const char* key) const {
  const auto found = json_.find(key);
  return found != json_.end() && !found->is_null();
}

int64_t ConfigReader::positive(const char* key) const {
  if (!has(key)) fail("misses the key \"" + std::string(key) + "\"");
  const nlohmann::json& value = json_.at(key);
  if (!value.is_number_integer() || value.get<int64_t>() <= 0 ||
      value.get<int64_t>() > (int64_t{1} << 31)) {
    fail("\"" + std::string(key) + "\" is " + value.dump() + ", expected a positive integer");
  }
  return value.get<int64_t>();
}

int64_t ConfigReader::positive(const char* key, int64_t otherwise) const {
  return has(key) ? positive(key) : otherwise;
}

int64_t ConfigReader::non_negative(const char* key, int64_t otherwise) const {
  if (!has(key)) return otherwise;
  const nlohmann::json& value = json_.at(key);
  return value.is_number_integer() && value == 0 ? 0 : positive(key);
}

double ConfigReader::number(const char* key, double otherwise) const {
  if (!has(key)) return otherwise;
  const nlohmann::json& value = json_.at(key);
  // These become float, and what a float cannot hold must not be converted.
  if (!value.is_number() ||
      !(std::abs(value.get<double>()) <= static_cast<double>(std::numeric_limits<float>::max()))) {
    fail("\"" + std::string(key) + "\" is " + value.dump() +
         ", expected a number in the range of float32");
  }
  return value.get<double>();
}

int64_t ConfigReader::multiple(const char* key, double otherwise, int64_t of) const {
  const double factor = number(key, otherwise);
  const double product = factor * static_cast<double>(of);
  if (!(product >= 1 && product <= static_cast<double>(int64_t{1} << 31))) {
    fail("\"" + std::string(key) + "\" is " + nlohmann::json(factor).dump() + ", which of " +
         std::to_string(of) + " makes no usable width");
  }
  return static_cast<int64_t>(product);
}

bool ConfigReader::boolean(const char* key, bool otherwise) const {
  if (!has(key)) return otherwise;
  const nlohmann::json& value = json_.at(key);
  if (!value.is_boolean()) {
    fail("\"" + std::string(key) + "\" is " + value.dump() + ", expected true or false");
  }
  return value.get<bool>();
}

std::string ConfigReader::text(const char* key, const std::string& otherwise) const {
  if (!has(key)) return otherwise;
  const nlohmann::json& value = json_.at(key);
  if (!value.is_string()) {
    fail("\"" + std::string(key) + "\" is " + value.dump() + ", expected a string");
  }
  return value.get<std::string>();
}

void ConfigReader::fail(const std::string& what) const {
  throw Error(ErrorCode::kInputMalformed, origin_ + ": " + what);
}

}  // namespace pare
