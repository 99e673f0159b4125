#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "engines/engine_export.h"
#include "engines/folder_check.h"
#include "formats/hf_folder.h"
#include "formats/input_paths.h"
#include "formats/quantized_source.h"
#include "formats/resolve_names.h"
#include "formats/safetensors.h"
#include "pare/error.h"

namespace pare {
namespace {

using Json = nlohmann::ordered_json;

// transformers refuses a file that does not say whose tensors it holds.
void check_metadata(const std::string& path, EngineFindings& findings) {
  constexpr std::array<const char*, 4> kKnown = {"pt", "tf", "flax", "mlx"};
  for (const std::string& name : input_folder_names(path)) {
    if (!name.ends_with(".safetensors")) continue;
    const SafetensorsFile file = SafetensorsFile::open(path + "/" + name);
    const auto format = file.metadata().find("format");
    if (format == file.metadata().end() ||
        std::find(kKnown.begin(), kKnown.end(), format->second) == kKnown.end()) {
      findings.remark(name,
                      "has no metadata \"format\": \"pt\", without which transformers does "
                      "not read it");
    }
  }
}

void check_head(const FolderContents& folder, const Json& config, EngineFindings& findings) {
  const ModelGraph& graph = folder.model.graph;
  const std::string head = "lm_head.weight";
  const auto tied = config.find("tie_word_embeddings");
  if (tied == config.end() || *tied != true || !folder.stored->contains(head) ||
      !folder.stored->contains(graph.embedding.tokens)) {
    return;
  }
  const TensorView matrix = folder.stored->dense(head);
  const TensorView embedding = folder.stored->dense(graph.embedding.tokens);
  if (!std::ranges::equal(matrix.bytes, embedding.bytes)) {
    findings.refuse(head, "differs from \"" + graph.embedding.tokens +
                              "\", though tie_word_embeddings says that they are one: engines take "
                              "either");
  }
}

void check_texts(const FolderContents& folder, EngineFindings& findings) {
  const auto& texts = folder.stored->text_files();
  const bool has_tokenizer = std::any_of(texts.begin(), texts.end(), [](const auto& entry) {
    return entry.first == "tokenizer.json" || entry.first.ends_with(".model") ||
           entry.first == "vocab.json";
  });
  if (!has_tokenizer) {
    findings.remark(folder.path, "has no tokenizer: engines need --tokenizer");
  }
}

// Reads every compressed linear, so that a missing or impossible scale is found.
void read_linears(FolderContents& folder, EngineFindings& findings) {
  const WeightSource& source = *folder.model.source;
  for (const std::string& module : linear_modules(folder.model.graph)) {
    const std::string name = module + ".weight";
    if (!source.contains(name) || !source.is_compressed(name)) continue;
    ++findings.quantized_linears;
    if (folder.unreadable.contains(module)) continue;
    try {
      folder.quantized.push_back(
          surveyed_linear(module, source.file_of(name), source.compressed(name)));
    } catch (const Error& error) {
      findings.refuse(folder.stored_name(module), error.what());
      folder.unreadable.insert(module);
    }
    source.release({name});
  }
}

// Whether a reader's message is about a tensor of the module; it may have the module without the
// name of a larger model in front.
bool is_about(const std::string& message, const std::string& module) {
  const size_t begin = message.find('"');
  if (begin == std::string::npos) return false;
  const std::string tensor = message.substr(begin + 1, message.find('"', begin + 1) - begin - 1);
  const std::string named = tensor.substr(0, tensor.rfind('.'));
  return named == module || named.ends_with("." + module) || module.ends_with("." + named);
}

// Which names of the graph the files have otherwise, and which linears were found to lack parts.
void find_names(FolderContents& folder, const EngineFindings& findings) {
  std::vector<std::string> modules = linear_modules(folder.model.graph);
  const std::string& head = folder.model.graph.head.matrix;
  modules.push_back(head.substr(0, head.rfind('.')));
  std::set<std::string> stored;
  for (const std::string& name : folder.stored->names()) {
    stored.insert(name.substr(0, name.rfind('.')));
  }
  const std::vector<std::string> available(stored.begin(), stored.end());
  folder.other_names = match_names(modules, available, folder.path);
  std::set<std::string> lacking;
  for (const CheckFinding& finding : findings.refusals) lacking.insert(finding.subject);
  for (const std::string& module : modules) {
    if (lacking.contains(folder.stored_name(module))) folder.unreadable.insert(module);
  }
}

void check_form(const FolderContents& folder, const EngineCheckOptions& options,
                EngineFindings& findings) {
  const std::string method = form_of(folder.quantization);
  if (method == "compressed-tensors") {
    check_compressed_tensors(folder, findings);
    check_weight_only_kernels(folder, options, findings);
  } else if (method == "awq" || method == "gptq") {
    method == "awq" ? check_awq(folder, findings) : check_gptq(folder, findings);
    // Channels in another order are groups of 1 here, and of the stored size in a kernel.
    const bool in_order = folder.quantization.value("desc_act", Json(false)) != true;
    if (in_order) check_weight_only_kernels(folder, options, findings);
  } else if (method == "modelopt" || method == "modelopt_fp4") {
    check_modelopt(folder, findings);
  }
}

// Engines stop at names that they do not know, or pass them over.
void check_strangers(const FolderContents& folder, EngineFindings& findings) {
  if (folder.model.unused.empty()) return;
  const size_t count = folder.model.unused.size();
  findings.remark("tensors", std::to_string(count) + (count == 1 ? " is" : " are") +
                                 " none of the model's, the first is \"" +
                                 folder.model.unused.front() + "\"; some engines refuse that");
}

// Why a folder is not judged: engines may load what pare cannot read. Empty where it is.
std::string unread_reason(const FolderContents& folder) {
  constexpr std::array<std::string_view, 8> kRead = {
      "dense", "compressed-tensors", "awq", "gptq", "modelopt", "modelopt_fp4", "fp8", "mxfp4"};
  const Json& quantization = folder.quantization;
  const std::string form = form_of(quantization);
  if (form == "unknown") return "";
  const bool known = std::find(kRead.begin(), kRead.end(), form) != kRead.end();
  if (known && (form != "fp8" || quantization.contains("weight_block_size"))) return "";
  return folder.path + ": not checked: quant_method \"" + form + "\"" +
         (known ? " without weight_block_size" : "") +
         " is not read; checked are compressed-tensors, modelopt, awq, gptq, fp8 in blocks, mxfp4, "
         "and folders that are not quantized";
}

}  // namespace

std::string form_of(const Json& quantization) {
  if (quantization.is_null()) return "dense";
  const Json method =
      quantization.is_object() ? quantization.value("quant_method", Json()) : Json();
  return method.is_string() ? method.get<std::string>() : "unknown";
}

std::string check_hf_folder(const std::string& path, const EngineCheckOptions& options,
                            EngineFindings& findings) {
  FolderContents folder;
  folder.path = path;
  std::string unread;
  try {
    folder.stored = open_stored_folder(path);
    folder.quantization = quantization_of(*folder.stored);
    unread = unread_reason(folder);
    if (!unread.empty()) throw Error(ErrorCode::kInputMalformed, unread);
    check_parts(*folder.stored, folder.quantization, findings);
    folder.model = bind_model(open_hf_folder(path));
    find_names(folder, findings);
  } catch (const Error& error) {
    if (!unread.empty()) throw;
    // A variant that engines may load all the same.
    const std::string what = error.what();
    if (form_of(folder.quantization) != "unknown" && what.find("not read") != std::string::npos) {
      throw Error(ErrorCode::kInputMalformed, path + ": not checked: " + what);
    }
    // What lacks a part is often no linear for a reader, which is said already.
    const bool is_said =
        std::any_of(findings.refusals.begin(), findings.refusals.end(),
                    [&](const CheckFinding& finding) { return is_about(what, finding.subject); });
    if (!is_said) findings.refuse(path, what);
    return form_of(folder.quantization);
  }
  const Json config = Json::parse(folder.stored->config_json());
  check_metadata(path, findings);
  check_head(folder, config, findings);
  check_texts(folder, findings);
  read_linears(folder, findings);
  check_fused(folder.model.graph, folder.quantized, folder.unreadable, findings);
  check_split(folder, options, findings);
  check_block_kernels(folder, findings);
  check_strangers(folder, findings);
  try {
    check_form(folder, options, findings);
  } catch (const Error& error) {
    findings.refuse("config.json", error.what());
  }
  return form_of(folder.quantization);
}

}  // namespace pare
