#include <set>
#include <string>

#include "core/text.h"
#include "formats/checkpoint_layout.h"
#include "formats/checkpoint_state.h"
#include "formats/checkpoint_writer.h"
#include "formats/hdf5_texts.h"
#include "formats/json_check.h"
#include "formats/quantized_weight.h"
#include "pare/checkpoint.h"
#include "pare/error.h"

namespace pare {
namespace {

/// Dimensions of an HDF5 dataset.
constexpr size_t kMostDimensions = 32;

[[noreturn]] void usage(const std::string& what) { throw Error(ErrorCode::kUsage, what); }

/// A text that a reader would refuse must not get into a file.
void check_texts(const CheckpointTexts& texts, const std::string& path) {
  try {
    check_json(texts.config_json, "config_json");
  } catch (const Error& error) {
    usage(path + ": " + error.what());
  }
  size_t total = 0;
  for (const std::string* text : {&texts.architecture, &texts.config_json, &texts.recipe_json,
                                  &texts.calibration_sha256, &texts.source_sha256}) {
    total += text->size();
    if (text->size() > kMaxTextBytes || total > kMaxFileTextBytes) {
      usage(path + ": a text of " + std::to_string(text->size()) +
            " bytes is more than a checkpoint's root can hold");
    }
    if (text->find('\0') != std::string::npos || !is_utf8(*text)) {
      usage(path + ": a text of the root is not UTF-8 without NUL bytes");
    }
  }
}

CheckpointHeader header_of(const CheckpointTexts& texts, const std::string& path) {
  check_texts(texts, path);
  return {.architecture = texts.architecture,
          .config_json = texts.config_json,
          .recipe_json = texts.recipe_json,
          .calibration_sha256 = texts.calibration_sha256,
          .source_sha256 = texts.source_sha256,
          .text_files = texts.text_files};
}

/// The tensor as the writer takes it. Throws Error(kUsage).
TensorView checked_view(const PlainTensor& tensor, const std::string& name) {
  const std::string shown = "tensor \"" + name + "\": ";
  const auto dtype = dtype_from_name(tensor.dtype);
  if (!dtype) usage(shown + "dtype \"" + tensor.dtype + "\" is not known");
  if (tensor.shape.size() > kMostDimensions) {
    usage(shown + std::to_string(tensor.shape.size()) + " dimensions, expected at most " +
          std::to_string(kMostDimensions));
  }
  int64_t elements = 0;
  try {
    elements = element_count(tensor.shape);
  } catch (const Error& error) {
    usage(shown + error.what());
  }
  const auto size = static_cast<int64_t>(dtype_size(*dtype));
  const auto found = static_cast<int64_t>(tensor.bytes.size());
  if (found % size != 0 || found / size != elements) {
    usage(shown + std::to_string(found) + " bytes do not hold shape " + shape_text(tensor.shape) +
          " of " + tensor.dtype);
  }
  return {*dtype, tensor.shape, tensor.bytes};
}

void check_same_shape(const Checkpoint& from, const std::string& name,
                      const std::vector<int64_t>& shape) {
  if (!from.contains(name)) {
    usage(from.path() + ": there is no tensor \"" + name + "\" to be replaced");
  }
  const std::vector<int64_t> expected = from.info(name).shape;
  if (shape != expected) {
    usage("tensor \"" + name + "\": the replacement has shape " + shape_text(shape) +
          ", expected " + shape_text(expected));
  }
}

}  // namespace

struct CheckpointOutput::State {
  State(const std::string& path, const CheckpointTexts& texts, bool force)
      : writer(path, header_of(texts, path), force) {}

  void check_new(const std::string& name) const {
    if (finished) usage("tensor \"" + name + "\": the checkpoint is finished");
    if (names.contains(name)) usage("tensor \"" + name + "\" is written already");
    const bool is_path = name.empty() || name == "." || name == ".." ||
                         name.find_first_of(std::string_view("/\0", 2)) != std::string::npos;
    if (is_path || !is_utf8(name)) {
      usage("tensor \"" + name +
            "\": a name is UTF-8 text without \"/\", and neither empty nor \".\" nor \"..\"");
    }
  }

  CheckpointWriter writer;
  std::set<std::string> names;  // Written.
  bool finished = false;
};

CheckpointOutput::CheckpointOutput(const std::string& path, const CheckpointTexts& texts,
                                   bool force)
    : state_(std::make_unique<State>(path, texts, force)) {}
CheckpointOutput::~CheckpointOutput() = default;

void CheckpointOutput::write(const std::string& name, const PlainTensor& tensor) {
  state_->check_new(name);
  state_->writer.write_dense(name, checked_view(tensor, name));
  state_->names.insert(name);
}

void CheckpointOutput::write(const std::string& name, const QuantizedWeight& weight) {
  if (!name.ends_with(".weight")) {
    usage("tensor \"" + name + "\": a compressed weight's name ends in \".weight\"");
  }
  state_->check_new(name);
  state_->writer.write_compressed(name, to_compressed(weight, name));
  state_->names.insert(name);
}

void CheckpointOutput::copy(const Checkpoint& from, const std::string& name) {
  const CheckpointSource& source = from.state_->with(name);
  state_->check_new(name);
  if (source.is_compressed(name)) {
    state_->writer.write_compressed(name, source.compressed(name));
  } else {
    state_->writer.write_dense(name, source.dense(name));
  }
  source.release({name});
  state_->names.insert(name);
}

WrittenCheckpoint CheckpointOutput::finish() {
  if (state_->finished) usage("the checkpoint is finished already");
  const CheckpointFile file = state_->writer.finish();
  state_->finished = true;
  return {file.path, file.sha256, file.bytes};
}

WrittenCheckpoint copy_checkpoint(const Checkpoint& from, const std::string& path,
                                  const std::map<std::string, Replacement>& replaced, bool force) {
  for (const auto& [name, tensor] : replaced) {
    std::visit([&, &name = name](const auto& value) { check_same_shape(from, name, value.shape); },
               tensor);
  }
  CheckpointOutput output(path, from.texts(), force);
  for (const std::string& name : from.stored_order()) {
    const auto found = replaced.find(name);
    if (found == replaced.end()) {
      output.copy(from, name);
    } else {
      std::visit([&](const auto& value) { output.write(name, value); }, found->second);
    }
  }
  return output.finish();
}

}  // namespace pare
