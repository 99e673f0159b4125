#include "eval/model_heads.h"

namespace pare {

std::vector<ModelHead> load_heads(std::span<const EvaluatedModel> models,
                                  std::span<const size_t> owners, Precision precision) {
  std::vector<ModelHead> heads;
  heads.reserve(models.size());  // keeps references to earlier ones valid
  for (size_t m = 0; m < models.size(); ++m) {
    if (owners[m] == m) {
      heads.emplace_back(models[m].graph, *models[m].source, precision);
    } else {
      heads.emplace_back(models[m].graph, *models[m].source, precision, heads[owners[m]]);
    }
  }
  return heads;
}

}  // namespace pare
