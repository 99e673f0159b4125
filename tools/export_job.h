// quantize --export: which folders a job makes beside, or instead of, its checkpoint.
//
//   -o OUT.h5 --export F,G     OUT.h5, and the folders OUT-F and OUT-G
//   -o DIR --export F          the folder DIR in the form F, no checkpoint
//   -o DIR --export F,G        DIR/F and DIR/G, no checkpoint
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "pare/engines.h"
#include "pare/progress.h"
#include "tools/quantize_command.h"

namespace pare::tools {

struct ExportJob {
  std::string output;      ///< As -o has it.
  std::string checkpoint;  ///< Where quantize() writes to.
  std::string recipe;      ///< Where the plan of a mixed job goes, unless --save-recipe says so.
  bool keeps_checkpoint = true;
  std::vector<ExportOptions> exports;
};

/// The forms that the command asks for: those of --export, or TensorRT-LLM's where --tp_size or
/// --pp_size is given without it. Throws Error(kUsage) for an unknown one.
std::vector<std::string> export_forms(const Command& command);

/// What becomes of an output of the job. Throws Error(kUsage) where there are no forms but
/// parallelism.
ExportJob plan_exports(const Command& command, const std::string& output);

/// Refuses, before any work, what the forms cannot hold. `formats` are the --qformat or, for mixed
/// precision, the --formats.
void check_exports(const ExportJob& job, const QuantizeOptions& options,
                   const std::vector<std::string>& formats);

/// Writes the folders, each with a report once it has its name, and removes a checkpoint that
/// nobody asked for.
void run_exports(const ExportJob& job, const Callbacks& callbacks,
                 const std::function<void(const ExportReport&)>& on_report);

}  // namespace pare::tools
