#include "eval/task_context.h"

#include <nlohmann/json.hpp>

#include "eval/precision.h"
#include "pare/version.h"

namespace pare {
namespace {

// To be raised whenever the same inputs would give other scores than before.
constexpr int kScoringRevision = 1;

}  // namespace

std::string describe_scores(const TaskContext& context, const std::string& kind,
                            std::span<const size_t> models, const std::string& ids_sha256,
                            const std::string& more) {
  nlohmann::json digests = nlohmann::json::array();
  for (const size_t m : models) digests.push_back(context.digests[m]);
  return nlohmann::json{{"kind", kind},
                        {"models", digests},
                        {"ids_sha256", ids_sha256},
                        {"more", more},
                        {"precision", context.options.precision},
                        {"kernel", kernel_names(context.precision)},
                        {"version", version()},
                        {"revision", kScoringRevision}}
      .dump();
}

}  // namespace pare
