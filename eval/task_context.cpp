#include "eval/task_context.h"

#include <nlohmann/json.hpp>

#include "kernels/matmul.h"
#include "pare/version.h"

namespace pare {

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
                        {"kernel", matmul_kernels()},
                        {"version", version()}}
      .dump();
}

}  // namespace pare
