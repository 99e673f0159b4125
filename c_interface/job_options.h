// Options by name and as text, for callers that have no structures.
//
//   JobOptions options(JobKind::kQuantize);
//   options.set("qformat", "int4_awq");
#pragma once

#include <set>
#include <string>

#include "pare/engines.h"
#include "pare/evaluate.h"
#include "pare/gates.h"
#include "pare/mixed_precision.h"
#include "pare/quantize.h"

namespace pare {

enum class JobKind { kQuantize, kMixed, kEvaluate, kExport, kCheck };

/// "quantize", "mixed", "evaluate", "export" or "check". Throws Error(kUsage).
JobKind job_kind(const std::string& name);

/// What one kind of job is told; the structures of the other kinds keep their defaults.
class JobOptions {
 public:
  explicit JobOptions(JobKind kind) : kind_(kind) {}

  /// See pare_job_set(). Throws Error(kUsage), naming the option and what it takes.
  void set(const std::string& name, const std::string& value);

  /// Throws Error(kUsage) for the first of `names` that was not set.
  void require(std::initializer_list<const char*> names) const;

  JobKind kind() const noexcept { return kind_; }

  QuantizeOptions quantize;  ///< Of a mixed job, too.
  MixedOptions mixed;        ///< Without its `quantize`.
  EvaluateOptions evaluate;
  Gates gates;
  ExportOptions exporting;
  CheckOptions check;

 private:
  JobKind kind_;
  std::set<std::string> given_;
};

}  // namespace pare
