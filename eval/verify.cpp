#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/progress_meter.h"
#include "core/thread_pool.h"
#include "eval/precision.h"
#include "formats/safetensors.h"
#include "formats/weight_source.h"
#include "model/architectures.h"
#include "model/block_runner.h"
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

GoldenIds read_ids(const SafetensorsFile& golden, const std::string& path) {
  const TensorView view = golden.get("input_ids");
  if (view.dtype != DType::kI64 || view.shape.size() != 2 || element_count(view.shape) == 0) {
    throw Error(ErrorCode::kInputMalformed,
                path + ": \"input_ids\" must be int64 [batch, length], found " +
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

}  // namespace

VerifyReport verify(const std::string& golden_path, const std::string& model,
                    const std::string& precision_name, int threads, const Callbacks& callbacks) {
  const Precision precision = parse_precision(precision_name);
  if (threads < 0) throw Error(ErrorCode::kUsage, "the number of threads is negative");
  const SafetensorsFile golden = SafetensorsFile::open(golden_path);
  const std::unique_ptr<WeightSource> source = open_weight_source(model);
  const ModelGraph graph = describe_model(source->config_json(), source->path() + "/config.json");
  check_tensors(graph, *source);
  const GoldenIds ids = read_ids(golden, golden_path);
  const std::vector<float> expected =
      read_logits(golden, golden_path, {ids.batch, ids.length, graph.vocab_size});

  ThreadPool pool(static_cast<size_t>(threads));
  // The head costs about as much as a block.
  ProgressMeter meter(callbacks, static_cast<double>(graph.blocks.size() + 1));
  std::vector<float> hidden(static_cast<size_t>(ids.batch * ids.length * graph.hidden_size));
  embed_tokens(graph, *source, ids.ids, hidden.data());
  RotaryTables rotary(ids.length);
  for (size_t index = 0; index < graph.blocks.size(); ++index) {
    meter.phase("verify", "layer " + std::to_string(index + 1) + " of " +
                              std::to_string(graph.blocks.size()));
    meter.check_cancelled();
    const BlockGraph& block = graph.blocks[index];
    const BlockWeights weights = load_block(block, *source, precision);
    const BlockRunner runner(block, weights, rotary.of(block.rotary), precision);
    pool.parallel_for(static_cast<size_t>(ids.batch), [&](size_t sequence, size_t) {
      BlockWorkspace workspace(block, ids.length, precision);
      runner.run(hidden.data() + static_cast<int64_t>(sequence) * ids.length * graph.hidden_size,
                 ids.length, workspace, {});
    });
    meter.advance(1);
  }
  meter.phase("verify", "head");

  const ModelHead head(graph, *source, precision);
  LogitsWorkspace workspace;
  VerifyReport report;
  report.precision = precision_name;
  double error = 0;
  double norm = 0;
  int64_t agree = 0;
  for (int64_t position = 0; position < ids.batch * ids.length; ++position) {
    meter.check_cancelled();
    const std::span<const float> found =
        head.logits(hidden.data() + position * graph.hidden_size, 1, workspace);
    const float* wanted = expected.data() + position * graph.vocab_size;
    for (size_t i = 0; i < found.size(); ++i) {
      const double difference = static_cast<double>(found[i]) - static_cast<double>(wanted[i]);
      report.max_abs = std::max(report.max_abs, std::abs(difference));
      error += difference * difference;
      norm += static_cast<double>(wanted[i]) * static_cast<double>(wanted[i]);
    }
    agree += std::max_element(found.begin(), found.end()) - found.begin() ==
             std::max_element(wanted, wanted + graph.vocab_size) - wanted;
  }
  report.positions = ids.batch * ids.length;
  report.rel_l2 = std::sqrt(error / norm);
  report.argmax_agreement = static_cast<double>(agree) / static_cast<double>(report.positions);
  if (!std::isfinite(report.rel_l2)) {
    throw Error(ErrorCode::kNonFinite, model + ": logits hold NaN or infinity");
  }
  return report;
}

}  // namespace pare
