#include "formats/export_manifest.h"

#include <nlohmann/json.hpp>

#include "formats/input_paths.h"
#include "formats/json_check.h"
#include "formats/mapped_file.h"
#include "pare/error.h"

namespace pare {

std::set<std::string> exported_files(const std::string& folder) {
  constexpr size_t kMostBytes = size_t{64} << 20;
  const std::string path = folder + "/" + kExportManifest;
  if (!input_file_exists(path)) return {};
  const std::string text = read_text_file(path, kMostBytes);
  check_json(text, path);
  const auto json = nlohmann::json::parse(text);
  const auto malformed = [&](const std::string& what) {
    throw Error(ErrorCode::kInputMalformed, path + ": " + what);
  };
  if (json.value("schema", nlohmann::json()) != kExportManifestSchema) {
    malformed(std::string("schema is not \"") + kExportManifestSchema + "\"");
  }
  std::set<std::string> names = {kExportManifest};
  const auto files = json.find("files");
  if (files == json.end() || !files->is_array()) malformed("files is not a list");
  for (const auto& file : *files) {
    const auto name = file.is_object() ? file.find("name") : file.end();
    if (!file.is_object() || name == file.end() || !name->is_string()) {
      malformed("a file has no name");
    }
    names.insert(name->get<std::string>());
  }
  return names;
}

}  // namespace pare
