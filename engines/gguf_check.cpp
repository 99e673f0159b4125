#include "engines/gguf_check.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <set>
#include <vector>

#include "formats/gguf_file.h"
#include "formats/gguf_names.h"
#include "formats/gguf_pre_tokenizers.h"
#include "formats/input_paths.h"
#include "pare/error.h"

namespace pare {
namespace {

using Kind = GgufPart::Kind;

constexpr size_t kLongestName = 63;  // GGML_MAX_NAME is 64, with the end

std::string file_in(const std::string& path) {
  if (input_kind(path) != PathKind::kFolder) return path;
  std::vector<std::string> found;
  for (const std::string& name : input_folder_names(path)) {
    if (name.ends_with(".gguf")) found.push_back(name);
  }
  if (found.size() == 1) return path + (path.ends_with('/') ? "" : "/") + found[0];
  throw Error(ErrorCode::kInputMalformed,
              path + ": holds " + std::to_string(found.size()) + " GGUF files, expected one");
}

class Checker {
 public:
  Checker(const GgufFile& file, EngineFindings& findings) : file_(file), findings_(findings) {}

  void run() {
    for (const GgufTensor& tensor : file_.tensors()) check_values(tensor);
    check_tokenizer();
    const std::string* name = file_.find_text("general.architecture");
    if (name == nullptr) {
      findings_.refuse("general.architecture", "is missing");
      return;
    }
    prefix_ = *name + ".";
    const bool experts = integer("expert_count").value_or(0) > 0;
    architecture_ = find_gguf_architecture(*name, experts, false);
    if (architecture_ == nullptr) {
      findings_.remark(
          *name, "is an architecture whose tensors are not checked; known: " + known_gguf_names());
      return;
    }
    if (!read_sizes()) return;
    check_tensors();
    if (!file_.has("general.file_type")) {
      findings_.remark("general.file_type", "is missing: llama.cpp guesses it");
    }
    if (findings_.quantized_linears > 0 && !file_.has("general.quantization_version")) {
      findings_.remark("general.quantization_version", "is missing, expected 2");
    }
  }

 private:
  std::optional<int64_t> integer(const std::string& key) const {
    constexpr int64_t kLargest = int64_t{1} << 31;
    try {
      const std::optional<int64_t> value = file_.find_integer(prefix_ + key);
      // Of another kind, or no size of anything: as good as missing.
      return value && *value <= kLargest ? value : std::nullopt;
    } catch (const Error&) {
      return std::nullopt;
    }
  }

  // -- keys ---------------------------------------------------------------------------------------

  bool read_sizes() {
    bool complete = true;
    const auto required = [&](const char* key) {
      const std::optional<int64_t> value = integer(key);
      if (!value || *value < 1) {
        findings_.refuse(prefix_ + key, "is missing, or no positive integer");
        complete = false;
      }
      return value.value_or(0);
    };
    layers_ = required("block_count");
    required("context_length");
    width_ = required("embedding_length");
    heads_ = required("attention.head_count");
    inner_ = required("feed_forward_length");
    if (architecture_->has_experts) {
      experts_ = required("expert_count");
      if (required("expert_used_count") > experts_) {
        findings_.refuse(prefix_ + "expert_used_count", "is more than there are experts");
      }
      if (architecture_->name == std::string_view("qwen3moe")) {
        inner_ = required("expert_feed_forward_length");
      }
    }
    if (!file_.has(prefix_ + "attention.layer_norm_rms_epsilon")) {
      findings_.refuse(prefix_ + "attention.layer_norm_rms_epsilon", "is missing");
    }
    if (!complete) return false;
    kv_heads_ = integer("attention.head_count_kv").value_or(heads_);
    head_dim_ = integer("attention.key_length").value_or(width_ / heads_);
    if (kv_heads_ < 1 || heads_ % kv_heads_ != 0) {
      findings_.refuse(prefix_ + "attention.head_count_kv", "is " + std::to_string(kv_heads_) +
                                                                ", expected a divisor of the " +
                                                                std::to_string(heads_) + " heads");
    }
    if (integer("attention.value_length").value_or(head_dim_) != head_dim_) {
      findings_.refuse(prefix_ + "attention.value_length", "is not that of keys");
    }
    const int64_t rotated = integer("rope.dimension_count").value_or(head_dim_);
    if (architecture_->interleaved ? rotated != head_dim_ : rotated > head_dim_) {
      findings_.refuse(prefix_ + "rope.dimension_count", "is " + std::to_string(rotated) +
                                                             ", expected the width of a head, " +
                                                             std::to_string(head_dim_));
    }
    return true;
  }

  // -- tensors ------------------------------------------------------------------------------------

  void check_tensors() {
    std::set<std::string> expected = {"rope_freqs.weight"};
    const auto expect = [&](const std::string& name, const Shape& shape, bool required) {
      expected.insert(name);
      const GgufTensor* tensor = file_.find(name);
      if (tensor == nullptr) {
        if (required) findings_.refuse(name, "is missing");
      } else if (tensor->shape != shape) {
        findings_.refuse(
            name, "has shape " + shape_text(tensor->shape) + ", expected " + shape_text(shape));
      }
    };
    const GgufTensor* embedding = file_.find("token_embd.weight");
    const int64_t rows = embedding == nullptr ? 0 : embedding->shape[0];
    expect("token_embd.weight", {rows, width_}, true);
    expect("output_norm.weight", {width_}, true);
    // Gemma 2's head is its embedding.
    if (architecture_->name != std::string_view("gemma2")) {
      expect("output.weight", {rows, width_}, false);
    }
    if (rows > 0 && integer("vocab_size").value_or(rows) != rows) {
      findings_.refuse(prefix_ + "vocab_size",
                       "is not the number of rows of the embedding, " + std::to_string(rows));
    }
    // As many layers as the file can have: a damaged number must not fill the memory.
    const auto most = static_cast<int64_t>(file_.tensors().size());
    if (layers_ > most) {
      findings_.refuse(
          prefix_ + "block_count",
          "is " + std::to_string(layers_) + ", the file has " + std::to_string(most) + " tensors");
    }
    for (int64_t layer = 0; layer < std::min(layers_, most); ++layer) {
      for (const GgufPart& part : architecture_->parts) {
        const std::string name = "blk." + std::to_string(layer) + "." + part.tensor;
        const Shape shape = shape_of(part);
        expect(name + ".weight", shape, true);
        if (part.kind == Kind::kNorm || part.kind == Kind::kExperts) continue;
        const bool needs_bias = architecture_->name == std::string_view("qwen2") &&
                                part.tensor != kOutput &&
                                std::string_view(part.tensor).starts_with("attn_");
        expect(name + ".bias", {shape[0]}, needs_bias);
      }
    }
    for (const GgufTensor& tensor : file_.tensors()) {
      if (!expected.contains(tensor.name)) {
        findings_.refuse(tensor.name, "is none of architecture \"" +
                                          std::string(architecture_->name) +
                                          "\": llama.cpp counts tensors that it does not use");
      }
    }
  }

  Shape shape_of(const GgufPart& part) const {
    const std::string_view name = part.tensor;
    if (name == "attn_q_norm" || name == "attn_k_norm") return {head_dim_};
    if (part.kind == Kind::kNorm) return {width_};
    if (part.kind == Kind::kRouter) return {experts_, width_};
    if (name == "attn_q") return {heads_ * head_dim_, width_};
    if (name == "attn_k" || name == "attn_v") return {kv_heads_ * head_dim_, width_};
    if (name == kOutput) return {width_, heads_ * head_dim_};
    const bool down = name.find("down") != std::string_view::npos;
    Shape shape = down ? Shape{width_, inner_} : Shape{inner_, width_};
    if (part.kind == Kind::kExperts) shape.insert(shape.begin(), experts_);
    return shape;
  }

  // Names, types, and that all values are finite (what --check-tensors of llama.cpp looks at).
  void check_values(const GgufTensor& tensor) {
    if (tensor.name.size() > kLongestName) {
      findings_.refuse(tensor.name, "has a name of " + std::to_string(tensor.name.size()) +
                                        " bytes, expected at most 63");
    }
    const bool quantized = tensor.type->block > 1;
    if (tensor.shape.size() == 1 && tensor.type->id != kGgmlF32) {
      const std::string what = std::string("is a vector of type ") + tensor.type->name;
      if (quantized) {
        findings_.refuse(tensor.name, what + ", expected F32");
      } else {
        findings_.remark(tensor.name, what + "; not every backend adds or multiplies with one");
      }
    }
    const bool linear = quantized && tensor.name.starts_with("blk.");
    findings_.quantized_linears += linear ? (tensor.shape.size() == 3 ? tensor.shape[0] : 1) : 0;
    if (tensor.type->decode == nullptr) {
      findings_.remark(tensor.name, std::string("has type ") + tensor.type->name +
                                        ", whose values are not checked");
      return;
    }
    std::vector<float> row(static_cast<size_t>(tensor.row_elements()));
    const auto bytes = static_cast<size_t>(tensor.row_bytes());
    int64_t bad = 0;
    for (int64_t i = 0; i < tensor.rows(); ++i) {
      decode_ggml(*tensor.type, tensor.bytes.subspan(static_cast<size_t>(i) * bytes, bytes), row);
      bad += std::all_of(row.begin(), row.end(), [](float v) { return std::isfinite(v); }) ? 0 : 1;
    }
    file_.release(tensor.bytes);
    if (bad > 0) {
      findings_.refuse(tensor.name,
                       std::to_string(bad) + " rows have values that are no finite numbers");
    }
  }

  // -- tokenizer ----------------------------------------------------------------------------------

  void check_tokenizer() {
    const std::string* model = file_.find_text("tokenizer.ggml.model");
    if (model == nullptr) {
      findings_.refuse("tokenizer.ggml.model", "is missing");
      return;
    }
    if (*model == "no_vocab" || *model == "none") {
      findings_.remark("tokenizer.ggml.model", "says that there is no tokenizer");
      return;
    }
    const std::vector<std::string>* tokens = file_.find_texts("tokenizer.ggml.tokens");
    if (tokens == nullptr) {
      findings_.refuse("tokenizer.ggml.tokens", "is missing");
      return;
    }
    const GgufTensor* embedding = file_.find("token_embd.weight");
    if (embedding != nullptr && embedding->shape[0] != static_cast<int64_t>(tokens->size())) {
      findings_.refuse("tokenizer.ggml.tokens", "has " + std::to_string(tokens->size()) +
                                                    " tokens, the embedding has " +
                                                    std::to_string(embedding->shape[0]) + " rows");
    }
    const std::set<std::string_view> distinct(tokens->begin(), tokens->end());
    if (distinct.size() != tokens->size()) {
      findings_.refuse("tokenizer.ggml.tokens", "has the same token twice");
    }
    const auto check_size = [&](const char* key, size_t size) {
      if (size < tokens->size()) {
        findings_.refuse(key, "has " + std::to_string(size) + " elements, there are " +
                                  std::to_string(tokens->size()) + " tokens");
      }
    };
    if (const auto* types = file_.find_integers("tokenizer.ggml.token_type")) {
      check_size("tokenizer.ggml.token_type", types->size());
    }
    if (*model == "llama") {
      const auto* scores = file_.find_numbers("tokenizer.ggml.scores");
      check_size("tokenizer.ggml.scores", scores == nullptr ? 0 : scores->size());
    } else if (*model == "gpt2") {
      check_byte_pairs();
    }
    check_special(static_cast<int64_t>(tokens->size()));
  }

  void check_byte_pairs() {
    if (file_.find_texts("tokenizer.ggml.merges") == nullptr) {
      findings_.refuse("tokenizer.ggml.merges", "is missing");
    }
    const std::string* pre = file_.find_text("tokenizer.ggml.pre");
    if (pre == nullptr) {
      findings_.remark("tokenizer.ggml.pre", "is missing: llama.cpp cuts words in a default way");
    } else if (find_gguf_pre_tokenizer(*pre) == nullptr) {
      findings_.remark("tokenizer.ggml.pre", "\"" + *pre + "\" is not known here");
    }
  }

  void check_special(int64_t count) {
    constexpr std::array<const char*, 4> kKeys = {"bos_token_id", "eos_token_id",
                                                  "unknown_token_id", "padding_token_id"};
    for (const char* name : kKeys) {
      const std::string key = std::string("tokenizer.ggml.") + name;
      const std::optional<int64_t> id = file_.find_integer(key);
      if (id && *id >= count) {
        findings_.refuse(
            key, "is " + std::to_string(*id) + ", there are " + std::to_string(count) + " tokens");
      }
    }
    const bool adds = file_.find_boolean("tokenizer.ggml.add_bos_token").value_or(false);
    if (adds && !file_.has("tokenizer.ggml.bos_token_id")) {
      findings_.refuse("tokenizer.ggml.add_bos_token", "is true, but no token is named");
    }
  }

  static constexpr std::string_view kOutput = "attn_output";

  const GgufFile& file_;
  EngineFindings& findings_;
  std::string prefix_;
  const GgufArchitecture* architecture_ = nullptr;
  int64_t layers_ = 0;
  int64_t width_ = 0;
  int64_t heads_ = 0;
  int64_t kv_heads_ = 0;
  int64_t head_dim_ = 0;
  int64_t inner_ = 0;
  int64_t experts_ = 0;
};

}  // namespace

void check_gguf(const std::string& path, const EngineCheckOptions& /*options*/,
                EngineFindings& findings) {
  if (input_kind(path) == PathKind::kNothing) {
    throw Error(ErrorCode::kInputMissing, path + ": there is no such file or folder");
  }
  try {
    const GgufFile file(file_in(path));
    Checker(file, findings).run();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInputMalformed) throw;
    findings.refuse(path, error.what());
  }
}

}  // namespace pare
