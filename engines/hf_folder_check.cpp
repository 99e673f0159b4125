#include <algorithm>
#include <array>

#include "engines/engine_export.h"
#include "engines/folder_check.h"
#include "formats/hf_folder.h"
#include "formats/input_paths.h"
#include "formats/quantized_source.h"
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
      findings.refuse(module, error.what());
      folder.unreadable.insert(module);
    }
    source.release({name});
  }
}

std::string form_of(const Json& quantization) {
  if (quantization.is_null()) return "dense";
  const Json method =
      quantization.is_object() ? quantization.value("quant_method", Json()) : Json();
  return method.is_string() ? method.get<std::string>() : "unknown";
}

void check_form(const FolderContents& folder, const EngineCheckOptions& options,
                EngineFindings& findings) {
  const std::string method = form_of(folder.quantization);
  if (method == "compressed-tensors") {
    check_compressed_tensors(folder, findings);
    check_weight_only_kernels(folder, options, findings);
  } else if (method == "awq" || method == "gptq") {
    method == "awq" ? check_awq(folder, findings) : check_gptq(folder, findings);
    check_weight_only_kernels(folder, options, findings);
  } else if (method == "modelopt" || method == "modelopt_fp4") {
    check_modelopt(folder, findings);
  }
}

}  // namespace

std::string check_hf_folder(const std::string& path, const EngineCheckOptions& options,
                            EngineFindings& findings) {
  FolderContents folder;
  folder.path = path;
  try {
    folder.stored = open_stored_folder(path);
    folder.quantization = quantization_of(*folder.stored);
    check_parts(*folder.stored, folder.quantization, findings);
    for (const CheckFinding& finding : findings.refusals) folder.unreadable.insert(finding.subject);
    folder.model = bind_model(open_hf_folder(path));
  } catch (const Error& error) {
    // What lacks a part is often no linear for a reader: then that is the reason.
    if (findings.refusals.empty()) findings.refuse(path, error.what());
    return form_of(folder.quantization);
  }
  const Json config = Json::parse(folder.stored->config_json());
  check_metadata(path, findings);
  check_head(folder, config, findings);
  check_texts(folder, findings);
  read_linears(folder, findings);
  check_fused(folder.model.graph, folder.quantized, folder.unreadable, findings);
  check_split(folder, options, findings);
  try {
    check_form(folder, options, findings);
  } catch (const Error& error) {
    findings.refuse("config.json", error.what());
  }
  return form_of(folder.quantization);
}

}  // namespace pare
