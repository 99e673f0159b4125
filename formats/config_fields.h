// Typed access to the members of a configuration, with errors that name file and member.
//
//   const ConfigFields fields("model: config.json: quantization_config");
//   const int64_t bits = fields.number(json, "bits", 4, 1, 8);
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace pare {

class ConfigFields {
 public:
  using Json = nlohmann::ordered_json;

  /// `subject` begins every message.
  explicit ConfigFields(std::string subject) : subject_(std::move(subject)) {}

  const std::string& subject() const noexcept { return subject_; }

  /// Throws Error(kInputMalformed): "subject: key what".
  [[noreturn]] void refuse(const std::string& key, const std::string& what) const;

  /// A member, or nullptr where it is absent or null.
  static const Json* find(const Json& json, const char* key);

  /// A text, or `otherwise` where it is absent. `where` is put in front of the key in messages.
  std::string text(const Json& json, const char* key, const std::string& where = {},
                   const std::string& otherwise = {}) const;

  /// A list of texts; none where it is absent.
  std::vector<std::string> texts(const Json& json, const char* key,
                                 const std::string& where = {}) const;

  /// A whole number from `least` to `most`, or `otherwise`.
  int64_t number(const Json& json, const char* key, int64_t otherwise, int64_t least, int64_t most,
                 const std::string& where = {}) const;

  bool boolean(const Json& json, const char* key, bool otherwise,
               const std::string& where = {}) const;

 private:
  std::string subject_;
};

}  // namespace pare
