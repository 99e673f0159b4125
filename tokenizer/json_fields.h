// Typed access to the members of a JSON file, with errors that name file and member.
//
// Holds the file's name for messages and nothing else; pure, safe to use from several threads. For
// .cpp files of this folder only: JSON stays out of what others include.
//
//   const JsonFields fields("tokenizer.json");
//   const Json root = fields.parse(text);
//   const bool flag = fields.boolean(root, "fuse_unk", false, "model");
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace pare {

using Json = nlohmann::json;

class JsonFields {
 public:
  explicit JsonFields(std::string origin);

  /// Throws Error(kInputMalformed) with the name of the file in front, as all others do.
  [[noreturn]] void fail(const std::string& what) const;
  [[noreturn]] void unsupported(const std::string& what, std::string_view type,
                                const std::string& expected) const;

  /// The root, which must be an object.
  Json parse(std::string_view text) const;

  /// A member, or nullptr where it is absent or null.
  static const Json* find(const Json& object, const char* key);

  /// The same of the root's parts, which are objects or null.
  const Json* component(const Json& root, const char* key) const;

  const Json& member(const Json& object, const char* key, const std::string& where) const;
  const Json& array(const Json& object, const char* key, const std::string& where) const;
  const std::string& string(const Json& value, const std::string& where) const;
  const std::string& string(const Json& object, const char* key, const std::string& where) const;
  bool boolean(const Json& object, const char* key, bool otherwise, const std::string& where) const;

  /// A whole number from 0 to `most`.
  int64_t count(const Json& object, const char* key, int64_t otherwise, int64_t most,
                const std::string& where) const;

  /// A token id, 0 … 2^31 − 2: one less than the largest int32, so that the size of the vocabulary
  /// is one too.
  int32_t id(const Json& value, const std::string& where) const;

 private:
  std::string origin_;
};

}  // namespace pare
