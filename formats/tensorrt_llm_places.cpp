#include "formats/tensorrt_llm_places.h"

#include <algorithm>
#include <array>
#include <set>

#include "pare/error.h"

namespace pare {
namespace {

// Tensors that files may have and that say nothing the others do not.
constexpr std::array<const char*, 8> kDerived = {
    ".kv_cache_rcp_scaling_factor", ".rotary_inv_freq", ".embed_positions",
    ".embed_positions_for_gpt_attention", ".alibi_slopes", ".scale_to_int",
    // Of a head that was not quantized after all.
    "lm_head.weights_scaling_factor", "lm_head.activation_scaling_factor"};

bool is_float(DType dtype) {
  return dtype == DType::kBf16 || dtype == DType::kF16 || dtype == DType::kF32;
}

class Placer {
 public:
  explicit Placer(const TrtFolder& folder) : folder_(folder) {}

  std::map<std::string, TrtPlaced> place() {
    for (const TrtPart& part : folder_.parts) {
      part_ = &part;
      for (const TrtLinear& linear : part.layout.linears) add_linear(linear);
      for (const TrtTensor& tensor : part.layout.tensors) add_tensor(tensor);
      refuse_unknown();
    }
    return std::move(placed_);
  }

 private:
  const SafetensorsFile& file(size_t index) const { return folder_.files[index].file; }

  [[noreturn]] void malformed(size_t index, const std::string& tensor,
                              const std::string& what) const {
    throw Error(ErrorCode::kInputMalformed,
                file(index).path() + ": tensor \"" + tensor + "\" " + what);
  }

  // A tensor of a rank, whose shape has to be this one.
  const TensorView& take(size_t index, const std::string& name, const Shape& shape) {
    if (!file(index).contains(name)) malformed(index, name, "is not there");
    const TensorView& view = file(index).get(name);
    if (view.shape != shape) {
      malformed(
          index, name,
          "has shape " + shape_text(view.shape) + ", config.json implies " + shape_text(shape));
    }
    known_.insert({index, name});
    return view;
  }

  void take_scale(size_t index, const std::string& name) {
    if (!file(index).contains(name)) malformed(index, name, "is not there");
    known_.insert({index, name});
  }

  void add(const std::string& name, TrtPlaced tensor) {
    tensor.part = part_;
    if (tensor.shape.empty()) {
      tensor.shape =
          tensor.turned ? Shape{tensor.columns, tensor.rows} : Shape{tensor.rows, tensor.columns};
    }
    placed_.emplace(name, std::move(tensor));
  }

  // The part of a linear's rows that are of one source, on all ranks.
  std::vector<TrtPlace> places_of(const TrtLinear& linear, size_t source,
                                  const char* ending) const {
    std::vector<TrtPlace> places;
    for (size_t rank = 0; rank < linear.runs.size(); ++rank) {
      const auto tp_rank = static_cast<int64_t>(rank);
      int64_t row = 0;
      for (const TrtRun& run : linear.runs[rank]) {
        if (run.source == source) {
          const bool columns = linear.split == TrtSplit::kColumns && *ending == 'w';
          add_place(
              {part_->file_of(linear.pp_rank, tp_rank), linear.target + "." + ending, run.begin,
               run.count, columns ? tp_rank * linear.local_columns() : 0, row, false},
              places);
        }
        row += run.count;
      }
    }
    return places;
  }

  static void add_place(TrtPlace place, std::vector<TrtPlace>& places) {
    place.copy = std::ranges::any_of(places, [&](const TrtPlace& other) {
      return other.begin == place.begin && other.column == place.column;
    });
    places.push_back(std::move(place));
  }

  // Whether a linear is stored quantized; its shape on each rank is checked on the way.
  DType check_weight(const TrtLinear& linear, const TrtScheme& scheme) {
    DType dtype = DType::kF32;
    for (int64_t rank = 0; rank < part_->config.sizes.tp_size; ++rank) {
      const size_t index = part_->file_of(linear.pp_rank, rank);
      const std::string name = linear.target + ".weight";
      Shape shape = linear.local_shape(rank);
      const bool packed = scheme.algo == TrtAlgo::kInt4 || scheme.algo == TrtAlgo::kInt4Fp8;
      if (packed) {
        int64_t& rows = shape[shape.size() - 2];
        if (rows % 2 != 0) malformed(index, name, "has an odd number of rows, two are packed");
        rows /= 2;
      }
      const TensorView& view = take(index, name, shape);
      if (rank > 0 && view.dtype != dtype) malformed(index, name, "is of another type on rank 0");
      dtype = view.dtype;
      check_type(index, name, scheme.algo, dtype);
    }
    return dtype;
  }

  void check_type(size_t index, const std::string& name, TrtAlgo algo, DType dtype) const {
    const char* expected = nullptr;
    switch (algo) {
      case TrtAlgo::kNone:
        if (!is_float(dtype)) expected = "a floating-point type, for it is not quantized";
        break;
      case TrtAlgo::kInt8WeightOnly:
        if (!is_float(dtype)) {
          expected = "a floating-point type: weights laid out for a GPU are not read";
        }
        break;
      case TrtAlgo::kFp8:
      case TrtAlgo::kFp8Rowwise:
        if (dtype != DType::kF8E4m3 && dtype != DType::kI8) expected = "F8_E4M3";
        break;
      default:
        if (dtype != DType::kI8 && dtype != DType::kU8) expected = "I8";
    }
    if (expected == nullptr) return;
    malformed(index, name,
              "is " + std::string(safetensors_dtype_name(dtype)) + ", expected " + expected);
  }

  void add_linear(const TrtLinear& linear) {
    TrtScheme scheme;
    if (!linear.is_router) scheme = part_->config.quantization.algo_of(linear.target);
    TrtPlaced tensor;
    tensor.columns = linear.columns;
    tensor.linear = &linear;
    tensor.dtype = check_weight(linear, scheme);
    const bool compressed =
        scheme.algo != TrtAlgo::kNone && scheme.algo != TrtAlgo::kInt8WeightOnly;
    if (compressed) {
      tensor.scheme = scheme;
      check_groups(linear, scheme);
      take_scales(linear, scheme.algo);
    }
    for (size_t source = 0; source < linear.sources.size(); ++source) {
      TrtPlaced one = tensor;
      one.source = source;
      one.rows = linear.source_rows[source];
      one.places = places_of(linear, source, "weight");
      one.turned = !compressed && part_->config.family->transposed;
      add(linear.sources[source] + ".weight", std::move(one));
    }
    add_bias(linear);
  }

  void check_groups(const TrtLinear& linear, const TrtScheme& scheme) const {
    if (scheme.group_size <= 0 || linear.local_columns() % scheme.group_size == 0) return;
    malformed(part_->file_of(linear.pp_rank, 0), linear.target + ".weight",
              "has " + std::to_string(linear.local_columns()) +
                  " columns, which groups of group_size " + std::to_string(scheme.group_size) +
                  " do not divide");
  }

  void take_scales(const TrtLinear& linear, TrtAlgo algo) {
    const TrtSuffixes suffixes = trt_suffixes(algo, linear.split == TrtSplit::kColumns);
    for (int64_t rank = 0; rank < part_->config.sizes.tp_size; ++rank) {
      const size_t index = part_->file_of(linear.pp_rank, rank);
      for (const char* suffix : {suffixes.scale, suffixes.input, suffixes.second}) {
        if (*suffix != '\0') take_scale(index, linear.target + suffix);
      }
      // Who has none multiplies with nothing.
      const std::string smooth = linear.target + suffixes.smooth;
      if (*suffixes.smooth != '\0' && file(index).contains(smooth)) known_.insert({index, smooth});
    }
  }

  void add_bias(const TrtLinear& linear) {
    const std::string name = linear.target + ".bias";
    if (!file(part_->file_of(linear.pp_rank, 0)).contains(name)) return;
    DType dtype = DType::kF32;
    for (int64_t rank = 0; rank < part_->config.sizes.tp_size; ++rank) {
      const size_t index = part_->file_of(linear.pp_rank, rank);
      Shape shape = linear.local_shape(rank);
      shape.pop_back();
      dtype = take(index, name, shape).dtype;
      if (!is_float(dtype)) malformed(index, name, "is no floating-point tensor");
    }
    for (size_t source = 0; source < linear.sources.size(); ++source) {
      TrtPlaced one;
      one.dtype = dtype;
      one.rows = linear.source_rows[source];
      one.shape = {one.rows};
      one.places = places_of(linear, source, "bias");
      add(linear.sources[source] + ".bias", std::move(one));
    }
  }

  void add_tensor(const TrtTensor& tensor) {
    const int64_t tp_size = part_->config.sizes.tp_size;
    if (tensor.optional && !file(part_->file_of(tensor.pp_rank, 0)).contains(tensor.target)) return;
    TrtPlaced one;
    one.shape = tensor.shape;
    one.rows = tensor.shape[0];
    one.columns = tensor.shape.size() > 1 ? tensor.shape[1] : 1;
    if (tensor.form == TrtForm::kRelativeBias) {
      std::swap(one.rows, one.columns);
      one.turned = true;
    }
    const Shape local = local_shape(tensor, tp_size);
    for (int64_t rank = 0; rank < tp_size; ++rank) {
      const size_t index = part_->file_of(tensor.pp_rank, rank);
      const TensorView& view = take(index, tensor.target, local);
      if (!is_float(view.dtype)) malformed(index, tensor.target, "is no floating-point tensor");
      if (rank > 0 && view.dtype != one.dtype) {
        malformed(index, tensor.target, "is of another type on rank 0");
      }
      one.dtype = view.dtype;
      TrtPlace place{index, tensor.target, tensor.skip, local[0], 0, 0, false};
      if (tensor.form == TrtForm::kPadded || tensor.form == TrtForm::kRelativeBias) {
        place.begin += rank * local[0];
        place.count = std::clamp<int64_t>(one.rows - place.begin, 0, local[0]);
      }
      if (tensor.form == TrtForm::kColumns) place.column = rank * local[1];
      if (place.count > 0) add_place(std::move(place), one.places);
    }
    // One that several layers have a copy of is shown once; the embedding of both halves too.
    if (const auto known = placed_.find(tensor.source); known != placed_.end()) {
      for (TrtPlace& place : one.places) {
        add_place(std::move(place), known->second.places);
      }
      return;
    }
    add(tensor.source, std::move(one));
  }

  void refuse_unknown() {
    for (const TrtCache& cache : part_->layout.caches) {
      for (int64_t rank = 0; rank < part_->config.sizes.tp_size; ++rank) {
        const size_t index = part_->file_of(cache.pp_rank, rank);
        for (const char* kind : {"kv", "k", "v"}) {
          known_.insert({index, cache.target + "." + kind + "_cache_scaling_factor"});
        }
      }
    }
    for (const size_t index : part_->files) {
      for (const std::string& name : file(index).names()) {
        const bool derived = std::ranges::any_of(
            kDerived, [&](const char* ending) { return name.ends_with(ending); });
        if (!derived && !known_.contains({index, name})) {
          malformed(index, name,
                    std::string("is none that ") + part_->config.family->architecture +
                        " has as config.json describes it");
        }
      }
    }
  }

  const TrtFolder& folder_;
  const TrtPart* part_ = nullptr;
  std::map<std::string, TrtPlaced> placed_;
  std::set<std::pair<size_t, std::string>> known_;
};

}  // namespace

TrtSuffixes trt_suffixes(TrtAlgo algo, bool row_layer) {
  constexpr const char* kScale = ".weights_scaling_factor";
  constexpr const char* kInput = ".activation_scaling_factor";
  constexpr const char* kSmooth = ".prequant_scaling_factor";
  constexpr const char* kChannel = ".per_channel_scale";
  switch (algo) {
    case TrtAlgo::kFp8:
      return {kScale, kInput, "", ""};
    case TrtAlgo::kFp8Rowwise:
      return {kChannel, "", "", ""};
    case TrtAlgo::kInt8Static:
      return {kScale, kInput, "", kSmooth};
    case TrtAlgo::kInt8PerToken:
      return {kChannel, "", "", row_layer ? ".smoother" : ""};
    case TrtAlgo::kInt4:
      return {kScale, "", "", kSmooth};
    case TrtAlgo::kInt4Fp8:
      return {kScale, kInput, ".weights_scaling_factor_2", kSmooth};
    default:
      return {};
  }
}

std::map<std::string, TrtPlaced> place_tensors(const TrtFolder& folder) {
  return Placer(folder).place();
}

}  // namespace pare
