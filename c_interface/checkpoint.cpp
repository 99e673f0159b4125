#include <algorithm>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "c_interface/handles.h"
#include "c_interface/status.h"

namespace pare {
namespace {

[[noreturn]] void usage(const std::string& what) { throw Error(ErrorCode::kUsage, what); }

const std::string& text_of(const Checkpoint& checkpoint, const std::string& name) {
  const CheckpointTexts& texts = checkpoint.texts();
  if (name == "config.json") return texts.config_json;
  if (name == "recipe.json") return texts.recipe_json;
  const auto found = texts.text_files.find(name);
  if (found == texts.text_files.end()) {
    usage(checkpoint.path() + ": holds no text \"" + name + "\"");
  }
  return found->second;
}

int64_t number_of(const pare_tensor& tensor, const std::string& name) {
  if (name == "stored_bytes") return tensor.info.stored_bytes;
  if (!tensor.info.scheme) {
    usage("tensor \"" + tensor.name + "\" is not compressed and has no \"" + name + "\"");
  }
  const WeightScheme& scheme = *tensor.info.scheme;
  if (name == "group_size") return scheme.group_size;
  if (name == "block_rows") return scheme.block_rows;
  if (name == "symmetric") return scheme.symmetric ? 1 : 0;
  if (name == "sparse") return scheme.sparse ? 1 : 0;
  if (name == "pre_quant_scaled") return scheme.pre_quant_scaled ? 1 : 0;
  usage("\"" + name +
        "\" is not known of a tensor; known: stored_bytes, group_size, block_rows, symmetric, "
        "sparse, pre_quant_scaled");
}

/// Calls `use` with the bytes of one part.
template <typename Use>
void with_part(const pare_tensor& tensor, const std::string& part, Use use) {
  const auto floats = [](const float& value, size_t count) {
    return std::as_bytes(std::span(&value, count));
  };
  if (!tensor.info.scheme) {
    if (part != "data") {
      usage("tensor \"" + tensor.name + "\" is not compressed: it has the part data, not \"" +
            part + "\"");
    }
    return use(tensor.checkpoint->dense(tensor.name).bytes);
  }
  const QuantizedWeight weight = tensor.checkpoint->quantized(tensor.name);
  if (part == "codes") return use(std::as_bytes(std::span(weight.codes)));
  if (part == "mask_index") return use(std::as_bytes(std::span(weight.mask_index)));
  if (part == "zero_point") return use(std::as_bytes(std::span(weight.zero_point)));
  if (part == "scale") return use(std::as_bytes(std::span(weight.scale)));
  if (part == "pre_quant_scale") return use(std::as_bytes(std::span(weight.pre_quant_scale)));
  if (part == "global_scale") {
    return use(floats(weight.global_scale, weight.scheme.scheme == "nvfp4" ? 1 : 0));
  }
  if (part == "input_scale") {
    return use(floats(weight.input_scale, weight.input_scale > 0 ? 1 : 0));
  }
  usage("part \"" + part +
        "\" is not known; a compressed weight has codes, mask_index, zero_point, scale, "
        "pre_quant_scale, global_scale, input_scale");
}

}  // namespace
}  // namespace pare

extern "C" {

pare_status pare_checkpoint_open(const char* path, pare_checkpoint** checkpoint) {
  return pare::guarded([&] {
    *pare::require(checkpoint, "checkpoint") = nullptr;
    *checkpoint = std::make_unique<pare_checkpoint>(pare::require(path, "path")).release();
  });
}

void pare_checkpoint_close(pare_checkpoint* checkpoint) { delete checkpoint; }

pare_status pare_checkpoint_verify(const pare_checkpoint* checkpoint) {
  return pare::guarded([&] { pare::require(checkpoint, "checkpoint")->checkpoint.verify(); });
}

pare_status pare_checkpoint_text(const pare_checkpoint* checkpoint, const char* name,
                                 const char** text, size_t* size) {
  return pare::guarded([&] {
    *pare::require(text, "text") = nullptr;
    const std::string& found = pare::text_of(pare::require(checkpoint, "checkpoint")->checkpoint,
                                             pare::require(name, "name"));
    *text = found.c_str();
    if (size != nullptr) *size = found.size();
  });
}

size_t pare_checkpoint_count(const pare_checkpoint* checkpoint) {
  return checkpoint == nullptr ? 0 : checkpoint->tensors.size();
}

const pare_tensor* pare_checkpoint_tensor(const pare_checkpoint* checkpoint, size_t index) {
  return index < pare_checkpoint_count(checkpoint) ? &checkpoint->tensors[index] : nullptr;
}

pare_status pare_checkpoint_find(const pare_checkpoint* checkpoint, const char* name,
                                 const pare_tensor** tensor) {
  return pare::guarded([&] {
    *pare::require(tensor, "tensor") = nullptr;
    const auto& all = pare::require(checkpoint, "checkpoint")->tensors;
    const std::string wanted = pare::require(name, "name");
    const auto found = std::lower_bound(
        all.begin(), all.end(), wanted,
        [](const pare_tensor& each, const std::string& text) { return each.name < text; });
    if (found == all.end() || found->name != wanted) {
      pare::usage(checkpoint->checkpoint.path() + ": there is no tensor \"" + wanted + "\"");
    }
    *tensor = &*found;
  });
}

const char* pare_tensor_name(const pare_tensor* tensor) {
  return tensor == nullptr ? nullptr : tensor->name.c_str();
}

const char* pare_tensor_dtype(const pare_tensor* tensor) {
  return tensor == nullptr ? nullptr : tensor->info.dtype.c_str();
}

const char* pare_tensor_scheme(const pare_tensor* tensor) {
  return tensor == nullptr || !tensor->info.scheme ? nullptr : tensor->info.scheme->scheme.c_str();
}

const char* pare_tensor_activation(const pare_tensor* tensor) {
  return tensor == nullptr || !tensor->info.scheme ? nullptr
                                                   : tensor->info.scheme->activation.c_str();
}

size_t pare_tensor_shape(const pare_tensor* tensor, const int64_t** shape) {
  if (shape != nullptr) *shape = tensor == nullptr ? nullptr : tensor->info.shape.data();
  return tensor == nullptr ? 0 : tensor->info.shape.size();
}

pare_status pare_tensor_number(const pare_tensor* tensor, const char* name, int64_t* value) {
  return pare::guarded([&] {
    pare::require(value, "value");
    *value = pare::number_of(*pare::require(tensor, "tensor"), pare::require(name, "name"));
  });
}

pare_status pare_tensor_values(const pare_tensor* tensor, int64_t first, int64_t rows,
                               float* values, size_t count) {
  return pare::guarded([&] {
    const pare::Checkpoint& checkpoint = *pare::require(tensor, "tensor")->checkpoint;
    const std::vector<float> found = checkpoint.values(tensor->name, first, rows);
    if (count != found.size()) {
      pare::usage("tensor \"" + tensor->name + "\": these rows have " +
                  std::to_string(found.size()) + " values, the buffer has room for " +
                  std::to_string(count));
    }
    if (found.empty()) return;
    std::copy(found.begin(), found.end(), pare::require(values, "values"));
  });
}

pare_status pare_tensor_part(const pare_tensor* tensor, const char* part, void* buffer,
                             size_t capacity, size_t* size) {
  return pare::guarded([&] {
    pare::require(tensor, "tensor");
    pare::with_part(*tensor, pare::require(part, "part"), [&](std::span<const std::byte> bytes) {
      if (size != nullptr) *size = bytes.size();
      if (buffer == nullptr || bytes.empty()) return;
      if (capacity < bytes.size()) {
        pare::usage("tensor \"" + tensor->name + "\": " + part + " has " +
                    std::to_string(bytes.size()) + " bytes, the buffer has " +
                    std::to_string(capacity));
      }
      std::memcpy(buffer, bytes.data(), bytes.size());
    });
  });
}

}  // extern "C"
