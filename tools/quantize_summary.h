// What quantize prints when it is done: the result in a few lines and the layers that lost most, or
// the plan of every layer after a dry run. A pure function of the report.
//
//   write_stdout(quantize_summary(report, options));
#pragma once

#include <string>

#include "pare/mixed_precision.h"
#include "pare/quantize.h"

namespace pare::tools {

std::string quantize_summary(const QuantizeReport& report, const QuantizeOptions& options);

/// The plan's figures, then its job's summary.
std::string mixed_summary(const MixedReport& report, const QuantizeOptions& options);

}  // namespace pare::tools
