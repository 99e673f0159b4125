// Reports that were written earlier.
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "formats/mapped_file.h"
#include "pare/error.h"
#include "pare/evaluate.h"

namespace pare {
namespace {

using Json = nlohmann::json;

// A report of a large model with every subject and layer is some hundred kilobytes.
constexpr size_t kMostBytes = size_t{64} << 20;

std::vector<EvaluateReport> read_file(const std::string& path) {
  const std::string text = read_text_file(path, kMostBytes);
  const Json json = Json::parse(text, nullptr, false);
  const auto reports = json.is_object() ? json.find("reports") : json.end();
  if (!json.is_object() || reports == json.end()) return {evaluate_report_from_json(text, path)};
  if (json.value("schema", Json()) != "pare.compare/1" || !reports->is_array()) {
    throw Error(ErrorCode::kInputMalformed,
                path +
                    ": schema: expected \"pare.eval/1\" or \"pare.compare/1\", as "
                    "accuracy-eval --json writes them");
  }
  std::vector<EvaluateReport> result;
  for (size_t i = 0; i < reports->size(); ++i) {
    result.push_back(evaluate_report_from_json((*reports)[i].dump(),
                                               path + ": reports[" + std::to_string(i) + "]"));
  }
  return result;
}

// What must be equal for rows of one task to be compared. Token ids differ between tokenizers, the
// data and how much of it was taken must not.
std::string measured_how(const EvaluateReport& report, const TaskReport& task) {
  std::string text = task.data_sha256 + " " + task.method + " " + report.precision;
  if (task.questions) {
    text += " " + std::to_string(report.baseline.choices.at(task.name).accuracy.n);
  } else if (task.ctx > 0) {
    text += task.windows * task.ctx < task.text_tokens - 2 * task.ctx
                ? " " + std::to_string(task.windows)
                : " whole";
  }
  return text;
}

// By name: who had it first, and its digest.
class Digests {
 public:
  // A sentence where `name` has another digest here than where it was first met.
  std::string differs(const std::string& name, const std::string& digest, const std::string& path) {
    const auto [found, is_new] = known_.try_emplace(name, digest, path);
    if (is_new || found->second.first == digest) return "";
    return path + " and " + found->second.second;
  }

 private:
  std::map<std::string, std::pair<std::string, std::string>> known_;
};

}  // namespace

std::vector<EvaluateReport> read_reports(const std::vector<std::string>& paths) {
  std::vector<EvaluateReport> all;
  Digests baselines;
  Digests data;
  for (const std::string& path : paths) {
    for (EvaluateReport& report : read_file(path)) {
      const auto warn = [&](const std::string& warning) { report.warnings.push_back(warning); };
      const ModelResult& baseline = report.baseline;
      std::string files = baselines.differs(baseline.name, baseline.sha256, path);
      if (!files.empty()) {
        warn("W-BASELINE: " + files + ": the baselines called " + baseline.name +
             " are different models");
      }
      for (const TaskReport& task : report.tasks) {
        files = data.differs(task.name, measured_how(report, task), path);
        if (files.empty()) continue;
        warn("W-DATA: " + files + ": task " + task.name +
             " was measured on different data or in another way; its rows cannot be compared");
      }
      all.push_back(std::move(report));
    }
  }
  return all;
}

}  // namespace pare
