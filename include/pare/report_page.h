// The report as a web page: one file that opens from disk, without a network.
//
// A pure function on texts; safe from any thread. The same reports give the same bytes.
//
//   pare::EvaluateReport report = pare::evaluate({}, {});
//   std::string html = pare::report_page({pare::to_json(report)});
#pragma once

#include <string>
#include <vector>

#include "pare/export.h"

namespace pare {

/// A page that shows `reports_json`, each what to_json(EvaluateReport) gave; models of several
/// baselines stand side by side. The page's own JSON has the schema "pare.compare/1" and holds the
/// reports as they are, to the digit. Whatever text a report holds stays text: none of it can
/// become markup or run. Throws Error(kInputMalformed) where a text is not JSON or not of the
/// schema "pare.eval/1", naming its place in the list from 1, and Error(kUsage) for an empty list.
PARE_EXPORT std::string report_page(const std::vector<std::string>& reports_json);

}  // namespace pare
