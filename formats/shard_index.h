// The index of a checkpoint in shards, NAME.h5.index.json (docs/checkpoint.md, section 8).
//
// Thread-safe.
//
//   const std::string index = find_index("out");
//   std::map<std::string, size_t> weight_map;
//   for (const ShardPlan& shard : read_index(index, weight_map)) …
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace pare {

/// A shard as the index describes it.
struct ShardPlan {
  std::string path;
  int64_t bytes = 0;
  std::string sha256;
};

/// Reads an index; fills `weight_map` with dataset name → shard number. Nothing that it names is
/// opened. Throws Error(kInputMissing) when it cannot be read, Error(kInputMalformed) when it is no
/// index or names a shard outside its folder.
std::vector<ShardPlan> read_index(const std::string& index,
                                  std::map<std::string, size_t>& weight_map);

/// The path of the index in a folder; empty when there is none. Throws Error(kInputMissing) when
/// the folder cannot be listed, Error(kInputMalformed) when it holds more than one.
std::string find_index(const std::string& folder);

/// Whether `name` can be a file of a folder of shards: 1 to 255 bytes of UTF-8 without '/' and NUL,
/// neither "." nor "..".
bool is_plain_file_name(std::string_view name) noexcept;

/// Why the folder `path` cannot hold shards, whose names begin with its own; empty when it can.
std::string shard_folder_fault(const std::string& path);

}  // namespace pare
