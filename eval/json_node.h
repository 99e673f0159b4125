// A value in a JSON file that somebody else may have written: it knows where it stands, so that
// whatever is missing or of another type is named by file and key path.
//
// Refers to the parsed JSON and the file's name, which must outlive it. Reading is safe from any
// thread.
//
//   const JsonNode root(json, "eval.json");
//   root.at("candidates").elements()[1].at("tasks").at("mmlu").at("flips").at("lost").count();
//   // Error: eval.json: candidates[1].tasks.mmlu.flips.lost: expected a whole number …, found "3"
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pare/measured.h"

namespace pare {

/// All of its methods throw Error(kInputMalformed).
class JsonNode {
 public:
  JsonNode(const nlohmann::json& json, const std::string& file) : JsonNode(json, file, "") {}

  /// An object's member; throws when it is not there.
  JsonNode at(const std::string& key) const;

  /// An object's member, where it has one.
  std::optional<JsonNode> find(const std::string& key) const;

  std::vector<JsonNode> elements() const;                         ///< Of an array.
  std::vector<std::pair<std::string, JsonNode>> members() const;  ///< Of an object; sorted by key.

  bool is_null() const { return json_->is_null(); }
  double number() const;
  double share() const;   ///< A number from 0 to 1.
  int64_t count() const;  ///< A whole number ≥ 0.
  std::string text() const;
  Interval interval() const;  ///< Two numbers, the lower one first.

  /// The members key, key_se and key_ci, which may be null, of an object.
  Measured measured(const std::string& key) const;

  [[noreturn]] void fail(const std::string& what) const;

 private:
  JsonNode(const nlohmann::json& json, const std::string& file, std::string path)
      : json_(&json), file_(&file), path_(std::move(path)) {}

  JsonNode member(const std::string& key, const nlohmann::json& value) const;
  void check_object() const;
  [[noreturn]] void fail_type(const std::string& expected) const;

  const nlohmann::json* json_;
  const std::string* file_;
  std::string path_;  ///< "candidates[1].tasks"
};

}  // namespace pare
