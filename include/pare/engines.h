// Checkpoints in the forms that inference engines read.
//
//   pare::ExportOptions options;
//   options.checkpoint = "llama-int4.h5";
//   options.format = "compressed-tensors";
//   options.output = "llama-int4-vllm";
//   pare::ExportReport report = pare::export_to(options, {});
//
// docs/engines.md says which engine reads which form.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "pare/export.h"
#include "pare/progress.h"
#include "pare/quantize.h"

namespace pare {

struct ExportOptions {
  std::string checkpoint;  ///< An HDF5 checkpoint, or whatever else pare reads as a model.
  std::string format;      ///< See export_formats().
  std::string output;      ///< The folder to write.
  bool force = false;      ///< Replaces a folder that an export wrote, after success only.
  int64_t shard_bytes = int64_t{5} << 30;  ///< A file of weights is no larger, where it can be cut.
  /// Ranks of tensor and pipeline parallelism, for "tensorrt-llm", whose files are for one rank
  /// each.
  int64_t tp_size = 1;
  int64_t pp_size = 1;
  int threads = 0;  ///< 0: all processors; never changes a byte.
};

struct ExportedFile {
  std::string name;
  int64_t bytes = 0;
  std::string sha256;
};

struct ExportReport {
  std::string format;
  std::string output;
  std::string source_sha256;  ///< Of the checkpoint.
  std::vector<ExportedFile> files;
  int64_t quantized_linears = 0;
  double seconds = 0;
  std::vector<std::string> warnings;  ///< What the form cannot say as the checkpoint does.
};

/// One thing that check_folder() found, about a tensor, a module or a file.
struct CheckFinding {
  std::string subject;
  std::string message;
};

struct CheckOptions {
  std::string folder;
  int64_t tp_size = 1;  ///< Tensor parallelism that the engine will be started with.
};

struct CheckReport {
  std::string folder;
  std::string format;
  int64_t quantized_linears = 0;
  std::vector<CheckFinding> refusals;  ///< The engine fails, or runs another model.
  std::vector<CheckFinding> remarks;   ///< It works, but not as one may think.
};

/// Name and one line about each form.
PARE_EXPORT std::vector<std::pair<std::string, std::string>> export_formats();

/// What a form has a place for. Where it has none, quantize without: QuantizeOptions of these
/// names.
struct FormTraits {
  bool pre_quant_scale = false;  ///< Scales of an input that no norm or linear could absorb.
  bool head_scales = false;      ///< Scales of the cache for each head (kv_scales "head").
  bool ranks = false;            ///< A file for each rank: tp_size and pp_size.
  bool one_scheme = false;       ///< All quantized linears are of one kind.
};

/// Throws as export_to().
PARE_EXPORT FormTraits form_traits(const std::string& format);

/// Throws what export_to() would throw of the checkpoint that quantize(job) writes, as far as it is
/// known before: options.checkpoint is not looked at. Reads no weights.
PARE_EXPORT void check_export(const QuantizeOptions& job, const ExportOptions& options);

/// Writes a folder, reads it back, compares every linear with the checkpoint and checks it as
/// check_folder() does before it gets its name; remarks become warnings. Throws pare::Error: kUsage
/// for a form that is not known, kInputMalformed for a model that the form cannot hold, naming the
/// tensor, kWriteFailed.
PARE_EXPORT ExportReport export_to(const ExportOptions& options, const Callbacks& callbacks);

/// Schema "pare.export/1".
PARE_EXPORT std::string to_json(const ExportReport& report);

/// Reads a folder as an engine would and says what it would refuse. Throws Error(kInputMissing)
/// when there is nothing to check; what is wrong with it is in the report.
PARE_EXPORT CheckReport check_folder(const CheckOptions& options);

/// Schema "pare.check/1".
PARE_EXPORT std::string to_json(const CheckReport& report);

}  // namespace pare
