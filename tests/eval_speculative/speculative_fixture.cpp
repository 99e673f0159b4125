#include "tests/eval_speculative/speculative_fixture.h"

#include <cstring>
#include <filesystem>

#include "formats/weight_source.h"
#include "pare/error.h"
#include "tests/support/tiny_model.h"

namespace pare::testing {

void write_padded_copy(const std::string& folder, const std::string& padded, int64_t extra) {
  const auto source = open_weight_source(folder);
  std::map<std::string, Bf16Tensor> tensors;
  for (const std::string& name : source->names()) {
    const TensorView view = source->dense(name);
    Bf16Tensor tensor{{view.shape.begin(), view.shape.end()}, {}};
    tensor.bits.resize(view.bytes.size() / sizeof(uint16_t));
    std::memcpy(tensor.bits.data(), view.bytes.data(), view.bytes.size());
    if (tensor.shape[0] == kTinyVocabulary) {
      tensor.shape[0] += extra;
      tensor.bits.resize(static_cast<size_t>(tensor.shape[0] * tensor.shape[1]));
    }
    tensors[name] = std::move(tensor);
  }
  std::filesystem::create_directories(padded);
  write_safetensors(padded + "/model.safetensors", tensors);
  for (const char* name : {"config.json", "tokenizer.json"}) {
    std::filesystem::copy_file(folder + "/" + name, padded + "/" + name);
  }
  edit_file(padded + "/config.json", "\"vocab_size\": " + std::to_string(kTinyVocabulary),
            "\"vocab_size\": " + std::to_string(kTinyVocabulary + extra));
}

SpeculativeOptions SpeculativeTest::pair(const std::vector<std::string>& drafts,
                                         const std::vector<std::string>& targets) const {
  SpeculativeOptions result;
  result.drafts = drafts;
  result.targets = targets;
  result.text = ids_;
  result.ctx = 32;
  result.threads = 2;
  return result;
}

Failure failure_of(const SpeculativeOptions& options, const Callbacks& callbacks) {
  try {
    evaluate_speculative(options, callbacks);
  } catch (const Error& error) {
    return {static_cast<int>(error.code()), error.what()};
  }
  ADD_FAILURE() << "evaluate_speculative() did not fail";
  return {};
}

}  // namespace pare::testing
