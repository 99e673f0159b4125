#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "core/progress_meter.h"
#include "core/sha256.h"
#include "core/thread_pool.h"
#include "engines/engine_export.h"
#include "engines/tensorrt_llm_export.h"
#include "formats/beside_source.h"
#include "formats/export_manifest.h"
#include "formats/input_paths.h"
#include "formats/mapped_file.h"
#include "formats/output_file.h"
#include "pare/engines.h"
#include "pare/error.h"
#include "pare/version.h"

namespace pare {
namespace {

struct Form {
  const char* name;
  const char* remark;
  FormTraits traits;
  void (*require)(const LinearSurvey& survey, const EngineOptions& options);
  EngineExport (*make)(const LinearSurvey& survey, const EngineOptions& options);
};

constexpr std::array<Form, 8> kForms = {
    {{"compressed-tensors",
      "vLLM, SGLang: FP8, INT8, INT4, FP4, and an FP8 cache",
      {false, true},
      require_compressed_tensors,
      export_compressed_tensors},
     {"modelopt",
      "TensorRT-LLM, vLLM, SGLang: FP8, NVFP4, and a cache",
      {true, false},
      require_modelopt,
      export_modelopt},
     {"awq",
      "vLLM, SGLang: INT4 as AutoAWQ's \"gemm\"",
      {false, true, false, true},
      require_awq,
      export_awq},
     {"gptq",
      "vLLM, SGLang: INT4 and INT8 weights, version 1",
      {false, true, false, true},
      require_gptq,
      export_gptq},
     {"gptq-v2",
      "the same, version 2, which has all zero points",
      {false, true, false, true},
      require_gptq_v2,
      export_gptq_v2},
     {"tensorrt-llm",
      "TensorRT-LLM 0.9 to 1.2: FP8, INT8, INT4, a quantized cache",
      {true, false, true},
      require_tensorrt_llm,
      export_tensorrt_llm},
     {"gguf",
      "llama.cpp: INT4, INT8 and MXFP4 weights, the rest in BF16",
      {false, true},
      require_gguf,
      export_gguf},
     {"dense",
      "any engine: weights dequantized to BF16",
      {true, true},
      require_dense,
      export_dense}}};

// Throws Error(kUsage) for what makes no sense.
EngineOptions engine_options(const ExportOptions& options, const Form& form) {
  if (options.shard_bytes < 1) throw Error(ErrorCode::kUsage, "shard_bytes must be at least 1");
  if (options.tp_size < 1 || options.pp_size < 1) {
    throw Error(ErrorCode::kUsage, "tp_size and pp_size must be at least 1");
  }
  if (!form.traits.ranks && (options.tp_size != 1 || options.pp_size != 1)) {
    throw Error(ErrorCode::kUsage, std::string("tp_size and pp_size are for --export "
                                               "tensorrt-llm; ") +
                                       form.name + " is not split");
  }
  return {
      .shard_bytes = options.shard_bytes, .tp_size = options.tp_size, .pp_size = options.pp_size};
}

const Form& find_form(const std::string& name) {
  std::string known;
  for (const Form& form : kForms) {
    if (form.name == name) return form;
    known += std::string(known.empty() ? "" : ", ") + form.name;
  }
  throw Error(ErrorCode::kUsage, "export format \"" + name + "\" is not known; known: " + known);
}

// What a linear is worth does not change on the way: read back, it has the same codes and scales.
void compare(const EngineExport& form, const WeightSource& made, const ModelFiles& model,
             ThreadPool& pool, ProgressMeter& meter) {
  const WeightSource& source = *model.source;
  const std::set<std::string> turned = transposed_weights(model.graph);
  const auto is_same = form.is_same ? form.is_same : is_same_weight;
  std::vector<std::string> names;
  for (const std::string& name : source.names()) {
    if (source.is_compressed(name)) names.push_back(name);
  }
  pool.parallel_for(names.size(), [&](size_t i, size_t) {
    if (!is_same(made, names[i], source.compressed(names[i]), turned.contains(names[i]))) {
      throw Error(ErrorCode::kInternal, made.path() + ": \"" + names[i] +
                                            "\" is not what the checkpoint holds once read back");
    }
    made.release({names[i]});
    source.release({names[i]});
  });
  meter.check_cancelled();
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

// What an engine would refuse does not get its name.
void check(const std::string& place, const std::string& output, ExportReport& report,
           ProgressMeter& meter) {
  const CheckReport found = check_folder({.folder = place});
  const auto text = [&](const CheckFinding& finding, const char* separator) {
    return replaced(finding.subject + separator + finding.message, place, output);
  };
  if (!found.refusals.empty()) {
    throw Error(ErrorCode::kInputMalformed,
                output + ": engines would refuse it: " + text(found.refusals.front(), " ") +
                    (found.refusals.size() == 1
                         ? ""
                         : ", and " + std::to_string(found.refusals.size() - 1) + " more"));
  }
  for (const CheckFinding& remark : found.remarks) {
    report.warnings.push_back(text(remark, ": "));
    meter.warn(report.warnings.back());
  }
}

// Whether a folder is of the kinds that are read as BF16 (formats/quantized_source.h).
bool is_decoded(const std::string& path) {
  if (input_kind(path) != PathKind::kFolder || !input_file_exists(path + "/config.json")) {
    return false;
  }
  constexpr size_t kMostBytes = size_t{64} << 20;
  const auto json =
      nlohmann::json::parse(read_text_file(path + "/config.json", kMostBytes), nullptr, false);
  const auto at = [](const nlohmann::json& object, const char* key) {
    return object.is_object() ? object.value(key, nlohmann::json()) : nlohmann::json();
  };
  const nlohmann::json method = at(at(json, "quantization_config"), "quant_method");
  return method == "fp8" || method == "mxfp4";
}

// Engines take an adapter as a folder of its own.
void refuse_adapter(const WeightSource& source, const std::string& name) {
  if (!name.ends_with(kLoraASuffix)) return;
  throw Error(ErrorCode::kInputMalformed,
              source.file_of(name) + ": tensor \"" + name +
                  "\" is of an adapter beside the weights, which engines load from a folder of its "
                  "own: quantize with --lora-mode merge");
}

nlohmann::ordered_json files_json(const ExportReport& report) {
  auto files = nlohmann::ordered_json::array();
  for (const ExportedFile& file : report.files) {
    files.push_back({{"name", file.name}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  }
  return files;
}

// Where an exported folder comes from, and what belongs to it.
std::string manifest_json(const ExportReport& report) {
  return nlohmann::ordered_json{{"schema", kExportManifestSchema},
                                {"pare", version()},
                                {"format", report.format},
                                {"source_sha256", report.source_sha256},
                                {"files", files_json(report)}}
             .dump(2) +
         "\n";
}

void write_text(const std::string& folder, const std::string& name, const std::string& text) {
  const std::string path = folder + "/" + name;
  GrowingFile file(path, path);
  file.append(std::as_bytes(std::span(text)));
  file.sync();
}

}  // namespace

std::vector<std::pair<std::string, std::string>> export_formats() {
  std::vector<std::pair<std::string, std::string>> formats;
  for (const Form& form : kForms) formats.emplace_back(form.name, form.remark);
  return formats;
}

FormTraits form_traits(const std::string& format) { return find_form(format).traits; }

void check_export(const QuantizeOptions& job, const ExportOptions& options) {
  const Form& form = find_form(options.format);
  const EngineOptions engine = engine_options(options, form);
  check_output_place(options.output, /*folder=*/true, options.force);
  if (!job.lora.empty() && job.lora_mode == "beside") {
    throw Error(ErrorCode::kUsage,
                "lora_mode beside keeps the adapter's factors in the checkpoint; engines load an "
                "adapter from a folder of its own: use merge");
  }
  form.require(survey_job(job), engine);
}

ExportReport export_to(const ExportOptions& options, const Callbacks& callbacks) {
  const auto start = std::chrono::steady_clock::now();
  const Form& form = find_form(options.format);
  const EngineOptions engine = engine_options(options, form);
  ProgressMeter meter(callbacks, 0);
  ThreadPool pool(static_cast<size_t>(options.threads));
  const ModelFiles model = open_model_files(options.checkpoint);
  check_output_place(options.output, /*folder=*/true, options.force);
  ExportReport report;
  report.format = form.name;
  report.output = options.output;
  for (const std::string& name : model.source->names()) {
    report.quantized_linears += model.source->is_compressed(name) ? 1 : 0;
    refuse_adapter(*model.source, name);
  }
  meter.phase("read", options.checkpoint);
  const LinearSurvey survey = survey_linears(model);
  form.require(survey, engine);
  EngineExport made = form.make(survey, engine);
  report.source_sha256 = model.source->sha256();
  report.warnings = made.warnings;
  if (is_decoded(options.checkpoint)) {
    report.warnings.push_back(options.checkpoint +
                              ": its weights are stored as FP8 in blocks or as MXFP4, and go over "
                              "decoded to BF16");
  }
  for (const std::string& warning : report.warnings) meter.warn(warning);

  OutputFolder folder(options.output, options.force);
  const std::string& place = folder.temporary_path();
  meter.set_total(static_cast<double>(made.bytes));
  meter.phase("write", options.output);
  std::vector<std::string> names = made.write(place, pool, meter);
  for (const auto& [name, text] : made.files) {
    write_text(place, name, text);
    names.push_back(name);
  }
  meter.phase("check", options.output);
  compare(made, *open_weight_source(place), model, pool, meter);
  check(place, options.output, report, meter);
  for (const std::string& name : names) {
    const std::string path = place + "/" + name;
    report.files.push_back(
        {name, static_cast<int64_t>(std::filesystem::file_size(path)), sha256_file(path)});
  }
  write_text(place, kExportManifest, manifest_json(report));
  folder.commit();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

std::string to_json(const ExportReport& report) {
  nlohmann::ordered_json json = {{"schema", "pare.export/1"},
                                 {"format", report.format},
                                 {"output", report.output},
                                 {"source_sha256", report.source_sha256},
                                 {"quantized_linears", report.quantized_linears},
                                 {"files", files_json(report)},
                                 {"seconds", report.seconds},
                                 {"warnings", report.warnings}};
  return json.dump(2);
}

}  // namespace pare
