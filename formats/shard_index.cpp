#include "formats/shard_index.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/text.h"
#include "formats/checkpoint_layout.h"
#include "formats/input_paths.h"
#include "formats/json_check.h"
#include "formats/mapped_file.h"
#include "pare/error.h"

namespace pare {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr size_t kMaxIndexBytes = size_t{256} << 20;
constexpr size_t kMaxFileName = 255;
/// Room for what follows the folder's name in a shard's: "-12345678-of-12345678.h5".
constexpr size_t kMaxFolderName = kMaxFileName - 24;

[[noreturn]] void malformed(const std::string& path, const std::string& what) {
  throw Error(ErrorCode::kInputMalformed, path + ": " + what);
}

}  // namespace

std::vector<ShardPlan> read_index(const std::string& index,
                                  std::map<std::string, size_t>& weight_map) {
  const std::string text = read_text_file(index, kMaxIndexBytes);
  check_json(text, index);
  const Json json = Json::parse(text);
  std::vector<ShardPlan> shards;
  std::map<std::string, size_t> number_of;
  try {
    const Json& version = json.at("pare_format_version");
    if (json.at("pare_format") != kCheckpointIndexFormat ||
        (version != kCheckpointVersion && version != kCacheCheckpointVersion)) {
      malformed(index, std::string("expected pare_format \"") + kCheckpointIndexFormat +
                           "\", version " + std::to_string(kCheckpointVersion) + " or " +
                           std::to_string(kCacheCheckpointVersion));
    }
    for (const Json& shard : json.at("shards")) {
      const auto name = shard.at("file").get<std::string>();
      if (!is_plain_file_name(name)) {
        malformed(index, "shard \"" + name + "\" is not a plain file name");
      }
      if (!number_of.emplace(name, shards.size()).second) {
        malformed(index, "shard \"" + name + "\" is listed twice");
      }
      const Json& bytes = shard.at("bytes");
      if (!bytes.is_number_integer()) {
        malformed(index, "not an index of shards: the bytes of \"" + name + "\" are " +
                             bytes.dump() + ", expected an integer");
      }
      shards.push_back({(fs::path(index).parent_path() / name).string(), bytes.get<int64_t>(),
                        shard.at("sha256").get<std::string>()});
    }
    for (const auto& [tensor, shard] : json.at("weight_map").items()) {
      const auto found = number_of.find(shard.get<std::string>());
      if (found == number_of.end()) {
        malformed(index, "tensor \"" + tensor + "\": its shard is not in \"shards\"");
      }
      weight_map[tensor] = found->second;
    }
  } catch (const Json::exception& error) {
    malformed(index, std::string("not an index of shards: ") + error.what());
  }
  if (shards.empty()) malformed(index, "it names no shards");
  return shards;
}

std::string find_index(const std::string& folder) {
  std::string result;
  for (const std::string& name : input_folder_names(folder)) {
    if (!name.ends_with(kIndexSuffix)) continue;
    if (!result.empty()) malformed(folder, "holds more than one index of shards");
    result = (fs::path(folder) / name).string();
  }
  return result;
}

bool is_plain_file_name(std::string_view name) noexcept {
  return !name.empty() && name.size() <= kMaxFileName && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\0", 2)) == std::string_view::npos && is_utf8(name);
}

std::string shard_folder_fault(const std::string& path) {
  std::string text = path;
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  const std::string name = fs::path(text).filename().string();
  if (!is_utf8(name)) return "its name is not UTF-8, and an index of shards cannot hold it";
  if (name.size() > kMaxFolderName) {
    return "its name has " + std::to_string(name.size()) +
           " bytes; with the endings of the shards at most " + std::to_string(kMaxFolderName) +
           " fit";
  }
  if (!is_plain_file_name(name)) return "names no new folder; give the shards' folder a name";
  return {};
}

}  // namespace pare
