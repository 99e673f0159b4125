// The model as one GGUF file, for llama.cpp: weights with the codes and scales that they have.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>
#include <tuple>

#include "engines/engine_export.h"
#include "engines/gguf_metadata.h"
#include "engines/gguf_weights.h"
#include "engines/gguf_writer.h"
#include "formats/gguf_names.h"
#include "kernels/codec.h"
#include "pare/error.h"

namespace pare {
namespace {

using Kind = GgufPart::Kind;

constexpr const char* kFile = "model.gguf";
constexpr int64_t kQuantizationVersion = 2;  // of the blocks' layout, since 2023
constexpr size_t kLongestName = 63;          // with its end in 64 bytes

// What is found out about all weights, for warnings.
struct Changes {
  int64_t uneven = 0;
  int64_t scaled = 0;
  int64_t rounds_inputs = 0;
  int64_t mixed_experts = 0;
  int64_t small_scales = 0;
  double largest_change = 0;
  std::string largest_name;

  void add(const GgufWeightPlan& plan, const std::string& name) {
    uneven += plan.uneven ? 1 : 0;
    scaled += plan.scaled ? 1 : 0;
    rounds_inputs += plan.rounds_inputs ? 1 : 0;
    small_scales += plan.small_scales;
    if (plan.largest_change > largest_change) {
      largest_change = plan.largest_change;
      largest_name = name;
    }
  }
};

std::string percent(double share) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.3g %%", 100 * share);
  return text.data();
}

// general.file_type, by the type that most bytes of linears have.
int64_t file_type_of(const std::map<uint32_t, int64_t>& bytes_of_type) {
  uint32_t most = kGgmlBf16;
  int64_t bytes = 0;
  for (const auto& [type, found] : bytes_of_type) {
    if (found > bytes) std::tie(most, bytes) = std::pair(type, found);
  }
  switch (most) {
    case kGgmlF16:
      return 1;
    case kGgmlQ40:
      return 2;
    case kGgmlQ41:
      return 3;
    case kGgmlQ80:
      return 7;
    case kGgmlMxfp4:
      return 38;
    default:
      return 32;  // BF16
  }
}

// A tensor that is stored densely: vectors and routers in FP32, matrices in F16 or BF16.
std::vector<std::byte> dense_bytes(const WeightSource& source, const std::string& name,
                                   uint32_t type, int64_t head_dim, float offset) {
  const Shape shape = source.shape(name);
  std::vector<std::byte> stored(static_cast<size_t>(element_count(shape)) *
                                dtype_size(source.dtype(name)));
  source.read(name, 0, stored);
  const TensorView view{source.dtype(name), shape, stored};
  std::vector<std::byte> bytes;
  if (type == kGgmlF32) {
    std::vector<float> values = to_f32(view, name);
    for (float& value : values) value += offset;
    bytes = to_bytes<float>(values);
  } else if (type == kGgmlBf16) {
    bytes = to_bytes<uint16_t>(to_bf16(view, name));
  } else {
    bytes = std::move(stored);
  }
  if (head_dim == 0) return bytes;
  std::vector<std::byte> turned(bytes.size());
  const size_t row_bytes = bytes.size() / static_cast<size_t>(shape[0]);
  for (int64_t row = 0; row < shape[0]; ++row) {
    std::memcpy(turned.data() + static_cast<size_t>(interleaved_row(row, head_dim)) * row_bytes,
                bytes.data() + static_cast<size_t>(row) * row_bytes, row_bytes);
  }
  return turned;
}

const GgufArchitecture& require_architecture(const ModelFiles& model) {
  const GgufArchitecture* found = find_gguf_architecture(model.graph.architecture);
  if (found != nullptr) return *found;
  throw Error(ErrorCode::kInputMalformed,
              model.source->path() + ": architecture \"" + model.graph.architecture +
                  "\" is not written as GGUF; known: " + known_gguf_models());
}

class Exporter {
 public:
  explicit Exporter(const ModelFiles& model)
      : model_(model), source_(model.source), architecture_(require_architecture(model)) {}

  EngineExport make() {
    metadata_.add("general.architecture", architecture_.name);
    metadata_.add("general.type", "model");
    metadata_.add("general.name", name());
    const std::vector<float> divisors =
        add_gguf_shape(model_, architecture_, metadata_, result_.warnings);
    add_gguf_vocabulary(model_, metadata_, result_.warnings);
    add_tensors();
    if (!divisors.empty()) add_divisors(divisors);
    metadata_.add("general.file_type", file_type_of(bytes_of_type_));
    metadata_.add("general.quantization_version", kQuantizationVersion);
    add_warnings();
    for (const GgufPiece& piece : pieces_) result_.bytes += piece.bytes();
    result_.is_same = [types = types_](const WeightSource& made, const std::string& name,
                                       const CompressedWeight& weight, bool /*turned*/) {
      return is_same(made, name, weight, *types.at(name));
    };
    result_.write = [metadata = metadata_, pieces = pieces_](
                        const std::string& folder, ThreadPool& pool, ProgressMeter& meter) {
      write_gguf(folder + "/" + kFile, metadata, pieces, pool, meter);
      return std::vector<std::string>{kFile};
    };
    return std::move(result_);
  }

 private:
  // Of the model: that of its folder or file, which may have dots in it (Llama-3.1-8B).
  std::string name() const {
    const std::filesystem::path path(source_->path());
    const std::filesystem::path last = path.has_filename() ? path : path.parent_path();
    std::string name = last.filename().string();
    for (const std::string_view ending : {".index.json", ".h5", ".gguf"}) {
      if (name.ends_with(ending)) name.resize(name.size() - ending.size());
    }
    return name;
  }

  // Values as the type says, and nothing else.
  static bool is_same(const WeightSource& made, const std::string& name,
                      const CompressedWeight& weight, const GgmlType& type) {
    std::vector<float> found;
    if (made.is_compressed(name)) {
      const CompressedWeight read = made.compressed(name);
      found.resize(static_cast<size_t>(read.out_features * read.in_features));
      dequantize_rows(read, 0, read.out_features, found);
    } else {
      found = to_f32(made.dense(name), name);
    }
    return found == gguf_values(weight, type);
  }

  // Where tensors stand in the file: as llama.cpp reads them.
  struct Order {
    int64_t layer = 0;
    const GgufPart* part = nullptr;
    std::string tensor;

    auto tied() const { return std::tie(layer, part, tensor); }
    bool operator<(const Order& other) const { return tied() < other.tied(); }
  };

  void add_tensors() {
    std::map<Order, std::vector<std::string>> tensors;  // names of the model, by expert
    const std::set<std::string> unused(model_.unused.begin(), model_.unused.end());
    bool has_cache = false;
    for (const std::string& name : source_->names()) {
      if (is_cache_tensor(*source_, name)) {
        has_cache = true;
        continue;
      }
      if (unused.contains(name)) continue;
      const std::optional<GgufPlace> place = gguf_place(architecture_, name);
      if (!place || place->tensor.size() > kLongestName) {
        throw Error(ErrorCode::kInputMalformed, source_->file_of(name) + ": tensor \"" + name +
                                                    "\" has no place in architecture \"" +
                                                    architecture_.name + "\" of llama.cpp");
      }
      std::vector<std::string>& names = tensors[order_of(*place)];
      const auto index = static_cast<size_t>(std::max<int64_t>(place->expert, 0));
      if (names.size() <= index) names.resize(index + 1);
      names[index] = name;
    }
    for (const auto& [order, names] : tensors) add_tensor(order, names);
    if (has_cache) {
      result_.warnings.emplace_back("the scales of the cache of keys and values are left out");
    }
  }

  static Order order_of(const GgufPlace& place) {
    if (place.part == nullptr) {
      const bool first = place.tensor.starts_with("token_embd");
      return {first ? -1 : int64_t{1} << 40, nullptr, place.tensor};
    }
    const size_t dot = place.tensor.find('.');
    return {std::stoll(place.tensor.substr(dot + 1)), place.part, place.tensor};
  }

  int64_t head_dim_of(const GgufPart* part) const {
    if (!architecture_.interleaved || part == nullptr) return 0;
    const bool turned = part->kind == Kind::kQuery || part->kind == Kind::kKey;
    return turned ? model_.graph.blocks[0].attentions[0].shape.head_dim : 0;
  }

  void add_tensor(const Order& order, const std::vector<std::string>& names) {
    const bool linear = order.part != nullptr && order.part->kind != Kind::kNorm &&
                        order.part->kind != Kind::kRouter;
    GgufPiece piece;
    piece.name = order.tensor;
    piece.shape = source_->shape(names[0]);
    piece.type = type_of(order, names);
    const int64_t head_dim = head_dim_of(order.part);
    const bool norm = order.part == nullptr ? order.tensor == "output_norm.weight"
                                            : order.part->kind == Kind::kNorm;
    const float offset = norm ? architecture_.norm_offset : 0;
    for (const std::string& name : names) {
      if (source_->shape(name) != piece.shape) {
        throw Error(ErrorCode::kInputMalformed, source_->file_of(name) + ": tensor \"" + name +
                                                    "\" has another shape than the first expert");
      }
      piece.parts.emplace_back([source = source_, name, type = piece.type, head_dim, offset] {
        std::vector<std::byte> bytes = source->is_compressed(name)
                                           ? gguf_bytes(source->compressed(name), *type, head_dim)
                                           : dense_bytes(*source, name, type->id, head_dim, offset);
        source->release({name});
        return bytes;
      });
      types_[name] = piece.type;
    }
    if (order.part != nullptr && order.part->kind == Kind::kExperts) {
      piece.shape.insert(piece.shape.begin(), static_cast<int64_t>(names.size()));
    }
    if (linear && piece.shape.size() > 1) bytes_of_type_[piece.type->id] += piece.bytes();
    pieces_.push_back(std::move(piece));
  }

  // One for all experts of a layer: BF16 where they do not agree.
  const GgmlType* type_of(const Order& order, const std::vector<std::string>& names) {
    const GgmlType* common = nullptr;
    bool mixed = false;
    for (const std::string& name : names) {
      const GgmlType* type = nullptr;
      if (source_->is_compressed(name)) {
        const GgufWeightPlan plan = plan_gguf_weight(source_->compressed(name), name);
        source_->release({name});
        changes_.add(plan, name);
        type = plan.type;
      } else if (source_->shape(name).size() < 2 ||
                 (order.part != nullptr && order.part->kind == Kind::kRouter)) {
        type = find_ggml_type(kGgmlF32);
      } else {
        type = find_ggml_type(source_->dtype(name) == DType::kF16 ? kGgmlF16 : kGgmlBf16);
      }
      mixed = mixed || (common != nullptr && common != type);
      common = type;
    }
    changes_.mixed_experts += mixed ? 1 : 0;
    return mixed ? find_ggml_type(kGgmlBf16) : common;
  }

  void add_divisors(const std::vector<float>& divisors) {
    GgufPiece piece{
        "rope_freqs.weight", find_ggml_type(kGgmlF32), {static_cast<int64_t>(divisors.size())}, {}};
    piece.parts.emplace_back([bytes = to_bytes<float>(divisors)] { return bytes; });
    pieces_.push_back(std::move(piece));
  }

  void add_warnings() {
    const auto warn = [&](int64_t count, const std::string& what) {
      if (count > 0) result_.warnings.push_back(std::to_string(count) + " " + what);
    };
    warn(changes_.uneven,
         "linears are stored in BF16: their rows or groups are not whole blocks of 32");
    warn(changes_.scaled,
         "linears are stored in BF16, with the scales of their inputs that nothing absorbed");
    warn(changes_.mixed_experts,
         "tensors of experts are stored in BF16: their experts have several formats");
    warn(changes_.rounds_inputs,
         "linears were measured with rounded inputs; llama.cpp rounds them in its own way");
    warn(changes_.small_scales, "scales are below the normal numbers of F16");
    if (changes_.largest_change > 0) {
      result_.warnings.push_back("scales are stored in F16: the largest change is " +
                                 percent(changes_.largest_change) + ", in \"" +
                                 changes_.largest_name + "\"");
    }
  }

  const ModelFiles& model_;
  std::shared_ptr<const WeightSource> source_;
  const GgufArchitecture& architecture_;
  GgufMetadata metadata_;
  std::vector<GgufPiece> pieces_;
  std::map<std::string, const GgmlType*> types_;  // by name of the model
  std::map<uint32_t, int64_t> bytes_of_type_;     // of linears
  Changes changes_;
  EngineExport result_;
};

}  // namespace

void require_gguf(const LinearSurvey& survey, const EngineOptions& /*options*/) {
  const ModelFiles& model = survey.model;
  GgufMetadata metadata;
  std::vector<std::string> warnings;  // come with the export
  add_gguf_shape(model, require_architecture(model), metadata, warnings);
  add_gguf_vocabulary(model, metadata, warnings);
}

EngineExport export_gguf(const LinearSurvey& survey, const EngineOptions& /*options*/) {
  return Exporter(survey.model).make();
}

}  // namespace pare
