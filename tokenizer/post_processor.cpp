#include "tokenizer/post_processor.h"

namespace pare {

void apply_templates(std::span<const PostProcessorTemplate> templates, std::vector<int32_t>& ids) {
  for (const PostProcessorTemplate& step : templates) {
    ids.insert(ids.begin(), step.before.begin(), step.before.end());
    ids.insert(ids.end(), step.after.begin(), step.after.end());
  }
}

}  // namespace pare
