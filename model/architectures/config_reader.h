// Typed access to config.json with errors that name file and key.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace pare {

class ConfigReader {
 public:
  ConfigReader(const nlohmann::json& json, std::string origin)
      : json_(json), origin_(std::move(origin)) {}

  const nlohmann::json& json() const noexcept { return json_; }
  const std::string& origin() const noexcept { return origin_; }

  /// True when the key is there and not null.
  bool has(const char* key) const;

  /// A positive integer of at most 2³¹. Throws Error(kInputMalformed) otherwise.
  int64_t positive(const char* key) const;
  int64_t positive(const char* key, int64_t otherwise) const;

  /// The same with 0 among what is allowed.
  int64_t non_negative(const char* key, int64_t otherwise) const;

  /// A number that float32 can hold, rounded.
  double number(const char* key, double otherwise) const;

  /// `of` times a number, rounded down to a positive integer of at most 2³¹.
  int64_t multiple(const char* key, double otherwise, int64_t of) const;

  bool boolean(const char* key, bool otherwise) const;
  std::string text(const char* key, const std::string& otherwise) const;

  /// Throws Error(kInputMalformed): "ORIGIN: WHAT".
  [[noreturn]] void fail(const std::string& what) const;

 private:
  const nlohmann::json& json_;
  std::string origin_;
};

}  // namespace pare
