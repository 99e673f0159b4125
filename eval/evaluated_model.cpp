#include "eval/evaluated_model.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "eval/layer_format.h"
#include "model/cache_tensors.h"
#include "model/model_files.h"
#include "pare/error.h"

namespace pare {
namespace {

using Json = nlohmann::json;

// The recipe is for information only: what does not parse is as good as absent.
Json recipe_of(const EvaluatedModel& model) {
  Json recipe = Json::parse(model.source->recipe_json(), nullptr, false);
  return recipe.is_object() ? recipe : Json::object();
}

std::string text_or(const Json& object, const char* key, const std::string& otherwise) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : otherwise;
}

// Of the whole model and of the layers that have another one.
std::set<std::string> formats_of(const Json& recipe) {
  std::set<std::string> formats = {text_or(recipe, "qformat", "")};
  const auto overrides = recipe.find("overrides");
  if (overrides == recipe.end() || !overrides->is_array()) return formats;
  for (const Json& one : *overrides) {
    if (one.is_array() && one.size() == 2 && one[1].is_string()) {
      formats.insert(one[1].get<std::string>());
    }
  }
  return formats;
}

// What most of some quantized linears have, spread over the model: reading all would take long.
std::string quantized_type(const WeightSource& source, const std::vector<std::string>& linears) {
  constexpr size_t kLooked = 16;
  std::map<std::string, int64_t> elements;
  const size_t step = (linears.size() + kLooked - 1) / kLooked;
  for (size_t i = 0; i < linears.size(); i += step) {
    elements[linear_qformat(source, linears[i])] += element_count(source.shape(linears[i]));
  }
  return std::max_element(elements.begin(), elements.end(),
                          [](auto& a, auto& b) { return a.second < b.second; })
      ->first;
}

// What a model without a recipe is stored as: its quantized linears, or where there are none the
// element type that most of the parameters have.
std::string stored_type(const EvaluatedModel& model) {
  std::vector<std::string> linears;
  for (const std::string& name : model.source->names()) {
    if (model.source->is_compressed(name)) linears.push_back(name);
  }
  if (!linears.empty()) return quantized_type(*model.source, linears);
  std::map<DType, int64_t> elements;
  for (const std::string& name : model.source->names()) {
    elements[model.source->dtype(name)] += element_count(model.source->shape(name));
  }
  const auto most = std::max_element(elements.begin(), elements.end(),
                                     [](auto& a, auto& b) { return a.second < b.second; });
  if (most == elements.end()) return "unknown";
  return dense_qformat(most->first);
}

void strip_ending(std::string& name, const std::string& ending) {
  if (name.size() > ending.size() && name.ends_with(ending)) {
    name.resize(name.size() - ending.size());
  }
}

// A merged weight would have to be rounded again, so adapters stay beside compressed ones.
LoraUse use_of_adapter(const std::string& path, const std::string& adapter) {
  if (adapter.empty()) return LoraUse::kMerge;
  const auto source = open_weight_source(path);
  const std::vector<std::string>& names = source->names();
  const bool compressed = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return source->is_compressed(name);
  });
  return compressed ? LoraUse::kBeside : LoraUse::kMerge;
}

}  // namespace

std::string dense_qformat(DType dtype) {
  switch (dtype) {
    case DType::kBf16:
      return "bf16";
    case DType::kF16:
      return "fp16";
    case DType::kF32:
      return "fp32";
    default:
      return std::string(dtype_name(dtype));
  }
}

bool may_be_permuted(const EvaluatedModel& model) {
  const Json recipe = recipe_of(model);
  return text_or(recipe, "permute_channels", "off") != "off" &&
         text_or(recipe, "sparsity", "none") != "none";
}

namespace {

// Scales that the quantizer moved into norms and rows are not in an adapter that comes later.
void require_unscaled(const EvaluatedModel& model, const std::string& path,
                      const std::string& adapter) {
  const Json recipe = recipe_of(model);
  if (may_be_permuted(model)) {
    throw Error(ErrorCode::kInputMalformed,
                path + ": pruning may have put its channels in another order, which the adapter " +
                    adapter + " does not know; quantize with --permute-channels off, or with " +
                    "--lora " + adapter + " --lora-mode beside");
  }
  const bool rotated = rotation_of(model) != "none";
  static const std::set<std::string> scaled = {"int8_sq",  "int4_awq", "w4a8_awq", "nvfp4",
                                               "nvfp4_wo", "mxfp4",    "mxfp4_wo"};
  const std::set<std::string> used = formats_of(recipe);
  const auto moved = std::find_if(used.begin(), used.end(),
                                  [](const std::string& name) { return scaled.contains(name); });
  if (!rotated && moved == used.end()) return;
  throw Error(ErrorCode::kInputMalformed,
              path + ": its " +
                  (rotated ? "weights are rotated" : *moved + " moved scales between layers") +
                  ", which the adapter " + adapter + " does not know; quantize with --lora " +
                  adapter + " --lora-mode beside instead");
}

}  // namespace

std::string rotation_of(const EvaluatedModel& model) {
  const Json recipe = recipe_of(model);
  std::string kind = text_or(recipe, "rotate", "none");
  if (kind == "none") return kind;
  return kind + ", seed " + recipe.value("rotate_seed", Json(0)).dump();
}

EvaluatedModel open_model(const std::string& path, const std::string& adapter) {
  EvaluatedModel model;
  model.name = model_name(path);
  if (!adapter.empty()) model.name += " + " + model_name(adapter);
  ModelFiles files = open_model_files(path, adapter, use_of_adapter(path, adapter));
  model.source = std::move(files.source);
  model.graph = std::move(files.graph);
  model.unused = std::move(files.unused);
  if (!adapter.empty()) require_unscaled(model, path, adapter);
  return model;
}

std::string model_name(const std::string& path) {
  std::filesystem::path full = std::filesystem::absolute(path).lexically_normal();
  if (!full.has_filename()) full = full.parent_path();
  std::string name = full.filename().string();
  strip_ending(name, ".index.json");
  strip_ending(name, ".h5");
  return name.empty() ? path : name;
}

ModelResult describe(const EvaluatedModel& model) {
  const WeightSource& source = *model.source;
  const Json recipe = recipe_of(model);
  ModelResult result;
  result.name = model.name;
  result.qformat =
      recipe.contains("qformat") ? text_or(recipe, "qformat", "unknown") : stored_type(model);
  result.kv_cache = cache_label(model.graph);
  result.sparsity = text_or(recipe, "sparsity", "none");
  const StoredSize size = stored_size(source, model.unused);
  result.parameters = size.parameters;
  result.bytes = size.bytes;
  result.bits_per_weight = size.bits_per_weight();
  result.sha256 = source.sha256();
  return result;
}

std::string calibration_text_sha256(const EvaluatedModel& model) {
  const Json recipe = recipe_of(model);
  const auto calibration = recipe.find("calibration");
  if (calibration == recipe.end() || !calibration->is_object()) return "";
  return text_or(*calibration, "text_sha256", "");
}

std::vector<int32_t> bos_tokens(const EvaluatedModel& model) {
  const Json config = Json::parse(model.source->config_json(), nullptr, false);
  if (!config.is_object() || !config.contains("bos_token_id")) return {};
  std::vector<int32_t> tokens;
  const auto add = [&](const Json& id) {
    if (id.is_number_integer()) tokens.push_back(id.get<int32_t>());
  };
  if (config["bos_token_id"].is_array()) {
    for (const Json& id : config["bos_token_id"]) add(id);
  } else {
    add(config["bos_token_id"]);
  }
  return tokens;
}

}  // namespace pare
