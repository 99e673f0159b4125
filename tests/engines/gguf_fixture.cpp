#include "tests/engines/gguf_fixture.h"

#include "engines/gguf_check.h"

namespace pare::testing {

ExportReport export_as_gguf(const std::string& checkpoint, const std::string& output, int threads) {
  ExportOptions options;
  options.checkpoint = checkpoint;
  options.format = "gguf";
  options.output = output;
  options.force = true;
  options.threads = threads;
  return export_to(options, {});
}

std::string refusals_of(const std::string& folder) {
  EngineFindings findings;
  check_gguf(folder, {}, findings);
  std::string text;
  for (const CheckFinding& one : findings.refusals) {
    text += one.subject + ": " + one.message + "\n";
  }
  return text;
}

}  // namespace pare::testing
