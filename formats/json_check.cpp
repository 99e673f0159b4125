#include "formats/json_check.h"

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "pare/error.h"

namespace pare {
namespace {

constexpr size_t kMaxDepth = 64;

/// Walks the text without building it, with the keys of the open objects on a stack.
class DuplicateFinder final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit DuplicateFinder(const std::string& subject) : subject_(subject) {}

  bool null() override { return value(); }
  bool boolean(bool /*value*/) override { return value(); }
  bool number_integer(number_integer_t /*value*/) override { return value(); }
  bool number_unsigned(number_unsigned_t /*value*/) override { return value(); }
  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override { return value(); }
  bool string(string_t& /*value*/) override { return value(); }
  bool binary(binary_t& /*value*/) override { return value(); }

  bool start_object(size_t /*elements*/) override {
    open();
    return true;
  }
  bool start_array(size_t /*elements*/) override {
    value();
    open();
    return true;
  }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    if (!keys_.back().insert(name).second) fail("key \"" + name + "\" appears twice");
    return true;
  }

  bool parse_error(size_t position, const std::string& /*token*/,
                   const nlohmann::json::exception& error) override {
    fail("not valid JSON at byte " + std::to_string(position) + ": " + error.what());
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::kInputMalformed, subject_ + ": " + what);
  }
  bool value() const {
    if (keys_.empty()) fail("expected a JSON object");
    return true;
  }
  void open() {
    if (keys_.size() >= kMaxDepth) {
      fail("nested deeper than " + std::to_string(kMaxDepth) + " levels");
    }
    keys_.emplace_back();
  }
  bool close() {
    keys_.pop_back();
    return true;
  }

  const std::string& subject_;
  std::vector<std::set<std::string>> keys_;
};

}  // namespace

void check_json(std::string_view text, const std::string& subject) {
  DuplicateFinder finder(subject);
  nlohmann::json::sax_parse(text.begin(), text.end(), &finder);
}

}  // namespace pare
