#include "engines/tensorrt_llm_check.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>

#include "engines/tensorrt_llm_expected.h"
#include "formats/input_paths.h"
#include "formats/safetensors.h"
#include "formats/tensorrt_llm_source.h"
#include "formats/tensorrt_llm_weight.h"
#include "pare/error.h"

namespace pare {
namespace {

using Files = std::vector<std::optional<SafetensorsFile>>;

std::string typed(DType dtype, const Shape& shape) {
  return std::string(safetensors_dtype_name(dtype)) + " " + shape_text(shape);
}

/// One config.json and its ranks. Goes on after each finding.
class HalfChecker {
 public:
  HalfChecker(const std::string& folder, const std::string& label, int64_t model_kv_heads,
              EngineFindings& findings)
      : folder_(folder), label_(label), model_kv_heads_(model_kv_heads), findings_(findings) {}

  void check(const EngineCheckOptions& options) {
    const std::string path = folder_ + "/" + label_ + "config.json";
    try {
      config_ = read_trt_config(path, model_kv_heads_);
    } catch (const Error& error) {
      findings_.refuse(label_ + "config.json", error.what());
      return;
    }
    const TrtSizes& sizes = config_.sizes;
    check_keys();
    if (options.tp_size > 1 && options.tp_size != sizes.tp_size) {
      findings_.refuse(label_ + "config.json",
                       "is split for tp_size " + std::to_string(sizes.tp_size) +
                           ", the engine is to run with " + std::to_string(options.tp_size));
    }
    open_ranks();
    layout_ = make_trt_layout(*config_.family, sizes);
    for (int64_t rank = 0; rank < sizes.tp_size * sizes.pp_size; ++rank) check_rank(rank);
    for (const TrtLinear& linear : layout_.linears) check_common(linear);
    for (const TrtTensor& tensor : layout_.tensors) check_copies(tensor);
    for (const TrtCache& cache : layout_.caches) check_cache(cache);
  }

 private:
  void check_keys() {
    constexpr std::array<const char*, 8> kNeeded = {
        "architecture", "dtype",      "num_hidden_layers", "num_attention_heads",
        "hidden_size",  "vocab_size", "hidden_act",        "position_embedding_type"};
    constexpr std::array<const char*, 4> kHalf = {"layernorm_type", "layernorm_position",
                                                  "mlp_type", "q_scaling"};
    const std::string name = label_ + "config.json";
    const auto need = [&](const char* key) {
      if (!config_.json.contains(key)) findings_.refuse(name, std::string(key) + " is not there");
    };
    for (const char* key : kNeeded) need(key);
    if (!label_.empty()) {
      for (const char* key : kHalf) need(key);
    }
    if (!config_.json.contains("mapping")) {
      findings_.remark(name, "mapping is not there; one rank is taken");
    }
    const auto quantization = config_.json.find("quantization");
    if (quantization == config_.json.end() || !quantization->is_object()) return;
    const TrtAlgo algo = config_.quantization.scheme.algo;
    if ((algo == TrtAlgo::kInt4 || algo == TrtAlgo::kInt4Fp8) &&
        !quantization->contains("group_size")) {
      findings_.remark(name, "group_size is not there; versions do not agree what it is then");
    }
  }

  void open_ranks() {
    const int64_t world = config_.sizes.tp_size * config_.sizes.pp_size;
    for (int64_t rank = 0; rank < world; ++rank) {
      files_.emplace_back();
      const std::string name = rank_name(rank);
      try {
        files_.back() = SafetensorsFile::open(folder_ + "/" + name);
      } catch (const Error& error) {
        findings_.refuse(name, "world_size is " + std::to_string(world) + ": " + error.what());
      }
    }
    const std::string more = rank_name(world);
    if (input_file_exists(folder_ + "/" + more)) {
      findings_.refuse(more, "is there, but world_size is " + std::to_string(world));
    }
  }

  std::string rank_name(int64_t rank) const {
    return label_ + "rank" + std::to_string(rank) + ".safetensors";
  }
  int64_t rank_of(int64_t pp_rank, int64_t tp_rank) const {
    return pp_rank * config_.sizes.tp_size + tp_rank;
  }
  const SafetensorsFile* file(int64_t rank) const {
    const auto& found = files_[static_cast<size_t>(rank)];
    return found ? &*found : nullptr;
  }
  // Null where it is not there, which check_rank() has said.
  const TensorView* find(int64_t rank, const std::string& name) const {
    const SafetensorsFile* found = file(rank);
    return found != nullptr && found->contains(name) ? &found->get(name) : nullptr;
  }

  void check_rank(int64_t rank) {
    const SafetensorsFile* found = file(rank);
    if (found == nullptr) return;
    const std::string where = rank_name(rank) + ": ";
    std::map<std::string, bool> known;
    for (const TrtExpected& tensor : expected_tensors(config_, layout_, rank)) {
      known[tensor.name] = true;
      if (!found->contains(tensor.name)) {
        if (!tensor.optional) findings_.refuse(where + tensor.name, "is not there");
        continue;
      }
      const TensorView& view = found->get(tensor.name);
      const bool type = std::ranges::find(tensor.dtypes, view.dtype) != tensor.dtypes.end();
      const bool shape = std::ranges::find(tensor.shapes, view.shape) != tensor.shapes.end();
      if (!type || !shape) {
        findings_.refuse(where + tensor.name, "is " + typed(view.dtype, view.shape) +
                                                  ", expected " +
                                                  typed(tensor.dtypes[0], tensor.shapes[0]));
        continue;
      }
      if (tensor.is_scale) check_scale(where + tensor.name, view);
      if (tensor.is_quantized && rank % config_.sizes.tp_size == 0) ++findings_.quantized_linears;
    }
    for (const std::string& name : found->names()) {
      if (!known.contains(name)) {
        findings_.refuse(where + name, "is none that the model has: the engine runs without it");
      }
    }
  }

  void check_scale(const std::string& subject, const TensorView& view) {
    for (const float scale : to_f32(view, subject)) {
      if (std::isfinite(scale) && scale > 0) continue;
      findings_.refuse(subject, "has a scale that is " + std::to_string(scale) +
                                    ", expected positive and finite");
      return;
    }
  }

  void differ(int64_t rank, const std::string& name, const std::string& what) {
    findings_.refuse(rank_name(rank) + ": " + name, what);
  }

  bool same(const TensorView* a, const TensorView* b) const {
    return a == nullptr || b == nullptr || std::ranges::equal(a->bytes, b->bytes);
  }

  // Scales that all ranks multiply with, and KV heads that several have.
  void check_common(const TrtLinear& linear) {
    const TrtScheme scheme =
        linear.is_router ? TrtScheme{} : config_.quantization.algo_of(linear.target);
    const bool row_layer = linear.split == TrtSplit::kColumns;
    const TrtSuffixes suffixes = trt_suffixes(scheme.algo, row_layer);
    std::vector<std::string> common;
    const bool grouped = scheme.group_size > 0;
    if (scheme.algo == TrtAlgo::kFp8 || (row_layer && !grouped))
      common.emplace_back(suffixes.scale);
    if (!row_layer) common.emplace_back(suffixes.smooth);
    common.emplace_back(suffixes.input);
    common.emplace_back(suffixes.second);
    if (row_layer) common.emplace_back(".bias");
    if (linear.split == TrtSplit::kWhole) common.emplace_back(".weight");
    const int64_t first = rank_of(linear.pp_rank, 0);
    for (int64_t tp_rank = 1; tp_rank < config_.sizes.tp_size; ++tp_rank) {
      for (const std::string& suffix : common) {
        const std::string name = linear.target + suffix;
        const int64_t rank = rank_of(linear.pp_rank, tp_rank);
        if (suffix.empty() || same(find(rank, name), find(first, name))) continue;
        differ(rank, name, "is not that of rank " + std::to_string(first));
      }
    }
    if (linear.is_qkv) check_heads(linear, scheme);
  }

  void check_heads(const TrtLinear& linear, const TrtScheme& scheme) {
    struct Seen {
      int64_t rank;
      int64_t row;
    };
    const bool packed = scheme.algo == TrtAlgo::kInt4 || scheme.algo == TrtAlgo::kInt4Fp8;
    std::map<std::pair<size_t, int64_t>, Seen> seen;
    const std::string name = linear.target + ".weight";
    for (size_t i = 0; i < linear.runs.size(); ++i) {
      const int64_t rank = rank_of(linear.pp_rank, static_cast<int64_t>(i));
      int64_t row = 0;
      for (const TrtRun& run : linear.runs[i]) {
        const auto [place, is_new] =
            seen.emplace(std::pair{run.source, run.begin}, Seen{rank, row});
        const int64_t at = row;
        row += run.count;
        // Packed rows that begin in the middle of a byte are compared when they are read.
        if (is_new || (packed && (at % 2 != 0 || place->second.row % 2 != 0))) continue;
        const TensorView* mine = find(rank, name);
        const TensorView* other = find(place->second.rank, name);
        if (mine == nullptr || other == nullptr || mine->shape.size() != 2) continue;
        const auto bytes = static_cast<size_t>(mine->shape[1]) * dtype_size(mine->dtype);
        const auto rows = [&](const TensorView& view, int64_t begin) {
          const int64_t unit = packed ? 2 : 1;
          const size_t offset = static_cast<size_t>(begin / unit) * bytes;
          const size_t size = static_cast<size_t>(run.count / unit) * bytes;
          return offset + size <= view.bytes.size() ? view.bytes.subspan(offset, size)
                                                    : std::span<const std::byte>{};
        };
        if (std::ranges::equal(rows(*mine, at), rows(*other, place->second.row))) continue;
        differ(rank, name,
               "has a KV head that is another one on rank " + std::to_string(place->second.rank));
      }
    }
  }

  void check_copies(const TrtTensor& tensor) {
    if (tensor.form != TrtForm::kWhole) return;
    const int64_t first = rank_of(tensor.pp_rank, 0);
    for (int64_t tp_rank = 1; tp_rank < config_.sizes.tp_size; ++tp_rank) {
      const int64_t rank = rank_of(tensor.pp_rank, tp_rank);
      if (same(find(rank, tensor.target), find(first, tensor.target))) continue;
      differ(rank, tensor.target, "is not that of rank " + std::to_string(first));
    }
  }

  // One scale for both, or one for each.
  void check_cache(const TrtCache& cache) {
    if (config_.quantization.cache.empty() || label_ == "encoder/") return;
    for (int64_t tp_rank = 0; tp_rank < config_.sizes.tp_size; ++tp_rank) {
      const int64_t rank = rank_of(cache.pp_rank, tp_rank);
      if (file(rank) == nullptr) continue;
      const auto name = [&](const char* kind) {
        return cache.target + "." + kind + "_cache_scaling_factor";
      };
      const bool both = find(rank, name("k")) != nullptr && find(rank, name("v")) != nullptr;
      if (find(rank, name("kv")) == nullptr && !both) differ(rank, name("kv"), "is not there");
      for (const char* kind : {"kv", "k", "v"}) {
        if (!same(find(rank, name(kind)), find(rank_of(cache.pp_rank, 0), name(kind)))) {
          differ(rank, name(kind), "is not that of the first rank");
        }
      }
    }
  }

  std::string folder_;
  std::string label_;
  int64_t model_kv_heads_;
  EngineFindings& findings_;
  TrtConfig config_;
  TrtLayout layout_;
  Files files_;
};

}  // namespace

void check_tensorrt_llm(const std::string& folder, const EngineCheckOptions& options,
                        EngineFindings& findings) {
  const bool whole = input_file_exists(folder + "/config.json");
  for (const std::string& label :
       whole ? std::vector<std::string>{""} : std::vector<std::string>{"encoder/", "decoder/"}) {
    int64_t model_kv_heads = 0;
    try {
      model_kv_heads = trt_model_kv_heads(folder);
    } catch (const Error& error) {
      findings.refuse(kSourceConfig, error.what());
    }
    HalfChecker(folder, label, model_kv_heads, findings).check(options);
  }
}

}  // namespace pare
