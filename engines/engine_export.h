// What becomes of a checkpoint in the form of an engine: tensors that are made when they are
// written, and the small files beside them.
//
//   EngineExport made = export_compressed_tensors(survey_linears(model), {});
//   made.write(folder, pool, meter);
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "engines/linear_survey.h"
#include "formats/safetensors_pieces.h"
#include "model/model_files.h"

namespace pare {

struct EngineOptions {
  int64_t shard_bytes = int64_t{5} << 30;
  int64_t tp_size = 1;  ///< Ranks, for a form that has a file for each.
  int64_t pp_size = 1;
};

struct EngineExport {
  int64_t bytes = 0;  ///< Of all tensors: what `write` advances the meter by.
  /// Writes the files of the weights into a folder and returns their names.
  std::function<std::vector<std::string>(const std::string& folder, ThreadPool& pool,
                                         ProgressMeter& meter)>
      write;
  std::map<std::string, std::string> files;  ///< config.json and so on, by name.
  std::vector<std::string> warnings;         ///< What the form cannot say as the checkpoint does.
  /// Whether the folder, read back, holds under this name what the checkpoint's weight is worth as
  /// far as the form can say it; empty: is_same_weight(), as are the arguments.
  std::function<bool(const WeightSource& made, const std::string& name,
                     const CompressedWeight& weight, bool turned)>
      is_same;
};

/// Sets what is written: the shards of a Hugging Face folder.
void set_shards(EngineExport& made, std::vector<TensorPiece> pieces, const EngineOptions& options);

/// Whether `made` has the same codes and scales under this name, or where it is dense there the
/// same values in BF16, [out, in] or `turned`, [in, out]; a 2:4 weight has its zeros.
bool is_same_weight(const WeightSource& made, const std::string& name,
                    const CompressedWeight& weight, bool turned);

/// A tensor that goes over as it is.
TensorPiece copy_piece(std::shared_ptr<const WeightSource> source, const std::string& name);

/// What a compressed weight becomes: `tensors`, whose bytes `make` gives in their order.
TensorPiece weight_piece(
    const std::shared_ptr<const WeightSource>& source, const std::string& name,
    std::vector<TensorSpec> tensors,
    std::function<std::vector<std::vector<std::byte>>(const CompressedWeight& weight)> make);

/// The same, one tensor at a time, by what its name has behind the module's.
TensorPiece linear_piece(const std::shared_ptr<const WeightSource>& source,
                         const SurveyedLinear& linear, std::vector<TensorSpec> tensors,
                         std::vector<std::byte> (*bytes_of)(const std::string& suffix,
                                                            const CompressedWeight& weight));

/// A compressed weight as what it is worth, in BF16: [out, in], or `turned`, [in, out].
TensorPiece dense_piece(const std::shared_ptr<const WeightSource>& source, const std::string& name,
                        bool turned);

/// What all tensors become in a Hugging Face folder: quantized linears as `linear` says, tensors of
/// a cache as `cache` says; 2:4 alone is dense, [in, out] where the model has it so (GPT-2), and
/// everything else goes over.
std::vector<TensorPiece> folder_pieces(
    const LinearSurvey& survey,
    const std::function<TensorPiece(const SurveyedLinear& linear)>& linear,
    const std::function<std::vector<TensorPiece>(const std::string& name)>& cache);

/// For forms that leave a cache out.
inline std::vector<TensorPiece> no_cache(const std::string& /*name*/) { return {}; }

/// Names of weights whose dense form is [in, out] (GPT-2).
std::set<std::string> transposed_weights(const ModelGraph& graph);

/// Codes of all weights, one byte each, [out, in]: pruned ones have the code of zero. Packed or
/// not, for every format but kBf16.
std::vector<int8_t> dense_codes(const CompressedWeight& weight);

/// Codes of E2M1, one byte each, as two a byte.
std::vector<std::byte> nibble_bytes(std::span<const int8_t> codes);

/// `values` as bytes, little-endian as they are.
template <typename Value>
std::vector<std::byte> to_bytes(std::span<const Value> values) {
  const auto bytes = std::as_bytes(values);
  return {bytes.begin(), bytes.end()};
}

/// The linears of a model by name, "model.layers.0.mlp.up_proj" and "lm_head", in its order.
std::vector<std::string> linear_modules(const ModelGraph& graph);

// -- Forms ----------------------------------------------------------------------------------------
//
// require_…() throws Error(kInputMalformed), naming the linear, for what the form cannot hold as
// far as a survey shows it, so that it can be asked before a checkpoint is made; export_…() throws
// what else there is. REQUIRES: require_…() has been called.

/// compressed-tensors (vLLM, SGLang).
void require_compressed_tensors(const LinearSurvey& survey, const EngineOptions& options);
EngineExport export_compressed_tensors(const LinearSurvey& survey, const EngineOptions& options);

/// Plain safetensors: every weight dequantized, scales of its input multiplied in, in BF16. 2:4 is
/// a dense matrix with zeros.
void require_dense(const LinearSurvey& survey, const EngineOptions& options);
EngineExport export_dense(const LinearSurvey& survey, const EngineOptions& options);

/// AutoAWQ's "gemm": INT4, one group size; scales go to F16.
void require_awq(const LinearSurvey& survey, const EngineOptions& options);
EngineExport export_awq(const LinearSurvey& survey, const EngineOptions& options);

/// GPTQ, versions 1 and 2: INT4, or INT8 weights alone. Version 1 has no zero point 0.
void require_gptq(const LinearSurvey& survey, const EngineOptions& options);
EngineExport export_gptq(const LinearSurvey& survey, const EngineOptions& options);
void require_gptq_v2(const LinearSurvey& survey, const EngineOptions& options);
EngineExport export_gptq_v2(const LinearSurvey& survey, const EngineOptions& options);

/// NVIDIA Model Optimizer's unified Hugging Face checkpoints (TensorRT-LLM, vLLM, SGLang).
void require_modelopt(const LinearSurvey& survey, const EngineOptions& options);
EngineExport export_modelopt(const LinearSurvey& survey, const EngineOptions& options);

/// One GGUF file (llama.cpp): Q4_0, Q4_1, Q8_0 and MXFP4 with the codes and scales of the
/// checkpoint, everything else in BF16. Not for architectures and tokenizers that llama.cpp does
/// not have, nor for scales beyond F16.
void require_gguf(const LinearSurvey& survey, const EngineOptions& options);
EngineExport export_gguf(const LinearSurvey& survey, const EngineOptions& options);

/// What is lost where a form keeps neither how inputs are rounded nor a cache: a warning for each.
std::vector<std::string> lost_warnings(const LinearSurvey& survey);

/// The largest magnitude of what the weights of a linear are worth.
float largest_value(const CompressedWeight& weight);

/// What the weights of a linear are worth, [out, in], rounded to BF16.
std::vector<uint16_t> dense_values(const CompressedWeight& weight);

/// A matrix [rows, columns] as [columns, rows].
std::vector<uint16_t> transposed(const std::vector<uint16_t>& values, int64_t rows,
                                 int64_t columns);

}  // namespace pare
