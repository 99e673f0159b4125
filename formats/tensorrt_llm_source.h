// A TensorRT-LLM checkpoint as a WeightSource: ranks put together again, under Hugging Face's
// names.
//
// A folder with config.json ("architecture", "mapping") and rank0.safetensors …, or with such
// folders encoder/ and decoder/. hf_config.json, where it is there, is the model's config.json;
// without it one is made from TensorRT-LLM's own. Quantized linears are compressed weights. What
// ranks have in common, such as repeated KV heads, has to be equal.
//
//   auto source = open_tensorrt_llm("engine-checkpoint");
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/rank_files.h"
#include "formats/tensorrt_llm_config.h"
#include "formats/weight_source.h"

namespace pare {

/// Hugging Face's config.json in an exported folder: a name that the engine does not look at.
inline constexpr const char* kSourceConfig = "hf_config.json";

/// One config.json and its ranks.
struct TrtPart {
  TrtConfig config;
  TrtLayout layout;
  std::string label;          ///< "", "encoder/" or "decoder/"
  std::vector<size_t> files;  ///< By rank, into TrtFolder::files.

  size_t file_of(int64_t pp_rank, int64_t tp_rank) const {
    return files[static_cast<size_t>(pp_rank * config.sizes.tp_size + tp_rank)];
  }
};

struct TrtFolder {
  std::string path;
  std::vector<TrtPart> parts;  ///< One; or the encoder, then the decoder.
  std::vector<RankFile> files;
  std::string source_config;  ///< hf_config.json; empty when it is not there.
};

/// KV heads of the model, as hf_config.json has them: config.json may have written each several
/// times. 0 where nothing is said. Throws Error(kInputMalformed) for a damaged file.
int64_t trt_model_kv_heads(const std::string& folder);

/// Opens what a folder says there is, without looking at tensors. Throws Error(kInputMissing) for a
/// rank that is not there, Error(kInputMalformed) as read_trt_config().
TrtFolder open_trt_folder(const std::string& path);

/// Throws as open_trt_folder(), and Error(kInputMalformed), naming file and tensor, for one that is
/// missing, that no model of the family has, or of another type or shape.
std::unique_ptr<WeightSource> open_tensorrt_llm(const std::string& path);

}  // namespace pare
