// What is at a path that somebody gave, said in our own errors.
//
// std::filesystem throws its own exception for links that lead in a circle, folders that may not
// be searched and names that are too long. These functions say instead what is wrong with which
// path. Thread-safe.
//
//   if (!input_file_exists(folder + "/config.json")) …
#pragma once

#include <string>
#include <system_error>
#include <vector>

namespace pare {

enum class PathKind { kNothing, kFile, kFolder, kOther };

/// What `path` leads to; a dangling link is nothing. Throws Error(kInputMissing) with the system's
/// reason when that cannot be told.
PathKind input_kind(const std::string& path);

/// Whether there is a regular file. Throws as input_kind(), and Error(kInputMalformed) when there
/// is something else.
bool input_file_exists(const std::string& path);

/// Names of what a folder holds, sorted. Sets `error` and returns nothing when it cannot be listed.
std::vector<std::string> folder_names(const std::string& path, std::error_code& error);

/// The same of an input: throws Error(kInputMissing) with the system's reason.
std::vector<std::string> input_folder_names(const std::string& path);

}  // namespace pare
