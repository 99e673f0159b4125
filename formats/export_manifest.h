// The file that an exported folder says with what belongs to it.
#pragma once

#include <set>
#include <string>

namespace pare {

inline constexpr const char* kExportManifest = "pare_export.json";
inline constexpr const char* kExportManifestSchema = "pare.exported/1";

/// Names of the files of an exported folder, the manifest's with them; none where there is no
/// manifest. Throws Error(kInputMalformed) for a damaged one.
std::set<std::string> exported_files(const std::string& folder);

}  // namespace pare
