#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include "core/progress_meter.h"
#include "core/thread_pool.h"
#include "eval/evaluated_model.h"
#include "eval/lockstep.h"
#include "eval/precision.h"
#include "formats/safetensors.h"
#include "model/model_head.h"
#include "pare/error.h"
#include "pare/evaluate.h"

namespace pare {
namespace {

// [batch, length] token ids.
struct GoldenIds {
  int64_t batch = 0;
  int64_t length = 0;
  std::vector<int32_t> ids;
};

GoldenIds read_ids(const SafetensorsFile& golden, const std::string& name,
                   const std::string& path) {
  const TensorView& view = golden.get(name);
  if (view.dtype != DType::kI64 || view.shape.size() != 2 || element_count(view.shape) == 0) {
    throw Error(ErrorCode::kInputMalformed,
                path + ": \"" + name + "\" must be int64 [batch, length], found " +
                    std::string(dtype_name(view.dtype)) + " " + shape_text(view.shape));
  }
  GoldenIds result{view.shape[0], view.shape[1], {}};
  for (int64_t i = 0; i < element_count(view.shape); ++i) {
    int64_t id = 0;
    std::memcpy(&id, view.bytes.data() + i * 8, 8);
    if (id < 0 || id > INT32_MAX) {
      throw Error(ErrorCode::kInputMalformed, path + ": token id " + std::to_string(id));
    }
    result.ids.push_back(static_cast<int32_t>(id));
  }
  return result;
}

// What the model runs on: "input_ids", or those for the encoder and "decoder_input_ids".
TokenWindows read_windows(const SafetensorsFile& golden, const std::string& path, bool encoder) {
  GoldenIds ids = read_ids(golden, "input_ids", path);
  TokenWindows windows;
  if (encoder) {
    for (int64_t i = 0; i <= ids.batch; ++i) windows.sources.begin.push_back(i * ids.length);
    windows.sources.ids = std::move(ids.ids);
    const int64_t batch = ids.batch;
    ids = read_ids(golden, "decoder_input_ids", path);
    if (ids.batch != batch) {
      throw Error(ErrorCode::kInputMalformed,
                  path + ": \"input_ids\" has " + std::to_string(batch) +
                      " sequences, \"decoder_input_ids\" " + std::to_string(ids.batch));
    }
  }
  windows.count = ids.batch;
  windows.length = ids.length;
  windows.ids = std::move(ids.ids);
  return windows;
}

std::vector<float> read_logits(const SafetensorsFile& golden, const std::string& path,
                               const Shape& expected) {
  const TensorView view = golden.get("logits");
  if (view.shape != expected) {
    throw Error(ErrorCode::kInputMalformed, path + ": \"logits\" has shape " +
                                                shape_text(view.shape) + ", the model makes " +
                                                shape_text(expected));
  }
  return to_f32(view, "logits");
}

// Adds up how far logits are from those that are expected.
struct Comparison {
  double max_abs = 0;
  double error = 0;
  double norm = 0;
  int64_t agree = 0;

  double rel_l2() const { return std::sqrt(error / norm); }

  void add(std::span<const float> found, std::span<const float> wanted) {
    for (size_t i = 0; i < found.size(); ++i) {
      const double difference = static_cast<double>(found[i]) - static_cast<double>(wanted[i]);
      max_abs = std::max(max_abs, std::abs(difference));
      error += difference * difference;
      norm += static_cast<double>(wanted[i]) * static_cast<double>(wanted[i]);
    }
    agree += std::max_element(found.begin(), found.end()) - found.begin() ==
             std::max_element(wanted.begin(), wanted.end()) - wanted.begin();
  }
};

// What is compared: the golden file's tokens and logits.
struct Golden {
  TokenWindows windows;
  std::vector<float> logits;  // [windows, length, vocabulary]
};

Comparison compare(const EvaluatedModel& model, const Golden& golden, Precision precision,
                   ThreadPool& pool, ProgressMeter& meter) {
  const TokenWindows& windows = golden.windows;
  const ModelGraph& graph = model.graph;
  LockstepRunner runner({&model, 1},
                        {.length = windows.length,
                         .source_length = windows.sources.longest(),
                         .precision = precision},
                        pool, meter);
  meter.set_total(runner.cost(windows.count));
  std::vector<std::vector<float>> hidden;
  runner.run(windows, 0, windows.count, "", hidden);
  meter.phase("verify", "output head");
  const ModelHead head(graph, *model.source, precision);
  LogitsWorkspace workspace;
  Comparison comparison;
  const auto vocab = static_cast<size_t>(graph.vocab_size);
  for (int64_t position = 0; position < windows.count * windows.length; ++position) {
    meter.check_cancelled();
    const float* wanted = golden.logits.data() + position * graph.vocab_size;
    comparison.add(head.logits(hidden[0].data() + position * graph.hidden_size, 1, workspace),
                   {wanted, vocab});
  }
  return comparison;
}

// The graph as transformers' eager attention runs Falcon: it adds linear biases twice, once in the
// mask and once in the attention. Nothing for other models.
std::optional<ModelGraph> with_alibi_twice(const ModelGraph& graph) {
  std::optional<ModelGraph> twice;
  for (size_t b = 0; b < graph.blocks.size(); ++b) {
    for (size_t a = 0; a < graph.blocks[b].attentions.size(); ++a) {
      const AlibiSpec& alibi = graph.blocks[b].attentions[a].alibi;
      if (!alibi.bf16 || alibi.slopes.empty()) continue;
      if (!twice) twice = graph;
      twice->blocks[b].attentions[a].alibi.scale *= 2;
    }
  }
  return twice;
}

// Above what FP32 differs by from one implementation to another.
constexpr double kFarOff = 1e-4;

}  // namespace

VerifyReport verify(const std::string& golden_path, const std::string& path,
                    const std::string& precision_name, int threads, const Callbacks& callbacks) {
  const Precision asked = parse_precision(precision_name);
  if (threads < 0) throw Error(ErrorCode::kUsage, "the number of threads is negative");
  const SafetensorsFile file = SafetensorsFile::open(golden_path);
  EvaluatedModel model = open_model(path);
  const Precision precision = run_precision(asked, {&model, 1});
  Golden golden;
  golden.windows = read_windows(file, golden_path, model.graph.encoder.has_value());
  const TokenWindows& windows = golden.windows;
  golden.logits =
      read_logits(file, golden_path, {windows.count, windows.length, model.graph.vocab_size});

  ThreadPool pool(static_cast<size_t>(threads));
  ProgressMeter meter(callbacks, 1);
  VerifyReport report;
  Comparison comparison = compare(model, golden, precision, pool, meter);
  std::optional<ModelGraph> twice = with_alibi_twice(model.graph);
  if (twice && !(comparison.rel_l2() <= kFarOff)) {
    model.graph = std::move(*twice);
    const Comparison other = compare(model, golden, precision, pool, meter);
    if (other.rel_l2() < comparison.rel_l2()) {
      comparison = other;
      report.note = "reference adds ALiBi twice, as transformers' eager attention does";
    }
  }
  report.precision = precision_name;
  report.positions = windows.count * windows.length;
  report.max_abs = comparison.max_abs;
  report.rel_l2 = comparison.rel_l2();
  report.argmax_agreement =
      static_cast<double>(comparison.agree) / static_cast<double>(report.positions);
  if (!std::isfinite(report.rel_l2)) {
    throw Error(ErrorCode::kNonFinite, path + ": logits hold NaN or infinity");
  }
  return report;
}

}  // namespace pare
