#include <nlohmann/json.hpp>

#include "engines/engine_check.h"
#include "engines/folder_check.h"
#include "engines/gguf_check.h"
#include "engines/tensorrt_llm_check.h"
#include "formats/gguf_file.h"
#include "formats/gguf_source.h"
#include "formats/input_paths.h"
#include "formats/mapped_file.h"
#include "formats/tensorrt_llm_config.h"
#include "pare/engines.h"
#include "pare/error.h"

namespace pare {
namespace {

nlohmann::ordered_json findings_json(const std::vector<CheckFinding>& findings) {
  auto list = nlohmann::ordered_json::array();
  for (const CheckFinding& finding : findings) {
    list.push_back({{"subject", finding.subject}, {"message", finding.message}});
  }
  return list;
}

bool is_gguf(const std::string& path) {
  if (input_kind(path) == PathKind::kFolder) return is_gguf_folder(path);
  return has_gguf_signature(MappedFile(path).bytes());
}

}  // namespace

CheckReport check_folder(const CheckOptions& options) {
  if (options.tp_size < 1) throw Error(ErrorCode::kUsage, "tp_size must be at least 1");
  if (input_kind(options.folder) == PathKind::kNothing) {
    throw Error(ErrorCode::kInputMissing, options.folder + ": there is no such file or folder");
  }
  CheckReport report;
  report.folder = options.folder;
  const EngineCheckOptions check{.tp_size = options.tp_size};
  EngineFindings findings;
  if (is_gguf(options.folder)) {
    report.format = "gguf";
    check_gguf(options.folder, check, findings);
  } else if (is_trt_folder(options.folder)) {
    report.format = "tensorrt-llm";
    check_tensorrt_llm(options.folder, check, findings);
  } else {
    if (!input_file_exists(options.folder + "/config.json")) {
      throw Error(
          ErrorCode::kInputMissing,
          options.folder + ": config.json is not there; check takes a folder that an engine loads");
    }
    report.format = check_hf_folder(options.folder, check, findings);
  }
  report.quantized_linears = findings.quantized_linears;
  report.refusals = std::move(findings.refusals);
  report.remarks = std::move(findings.remarks);
  return report;
}

std::string to_json(const CheckReport& report) {
  const nlohmann::ordered_json json = {{"schema", "pare.check/1"},
                                       {"folder", report.folder},
                                       {"format", report.format},
                                       {"quantized_linears", report.quantized_linears},
                                       {"refusals", findings_json(report.refusals)},
                                       {"remarks", findings_json(report.remarks)}};
  return json.dump(2);
}

}  // namespace pare
