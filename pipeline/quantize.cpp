#include "pare/quantize.h"

#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "calib/statistics_collector.h"
#include "calib/token_check.h"
#include "calib/token_source.h"
#include "core/process_memory.h"
#include "core/progress_meter.h"
#include "core/thread_pool.h"
#include "formats/checkpoint_layout.h"
#include "formats/checkpoint_writer.h"
#include "formats/hdf5_types.h"
#include "formats/weight_source.h"
#include "kernels/codec.h"
#include "model/architectures.h"
#include "model/block_runner.h"
#include "model/input_groups.h"
#include "model/model_head.h"
#include "model/rotary_tables.h"
#include "pare/error.h"
#include "pare/version.h"
#include "pipeline/compress_block.h"
#include "pipeline/job_plan.h"
#include "pipeline/source_check.h"
#include "pipeline/work_folder.h"

namespace pare {
namespace {

using Clock = std::chrono::steady_clock;

// One run of quantize(): what is made before the first block and lives to the end.
class Job {
  template <typename Body>
  auto timed(const char* phase, const Body& body) {
    const Clock::time_point start = Clock::now();
    struct AddTime {
      std::map<std::string, double>& seconds;
      const char* phase;
      Clock::time_point start;
      ~AddTime() { seconds[phase] += std::chrono::duration<double>(Clock::now() - start).count(); }
    } const add{phase_seconds_, phase, start};
    return body();
  }

 public:
  Job(const QuantizeOptions& options, const Callbacks& callbacks)
      : source_(open_weight_source(options.model)),
        graph_(describe_model(source_->config_json(), source_->path() + "/config.json")),
        plan_(make_plan(options, graph_)),
        pool_(static_cast<size_t>(options.threads)),
        meter_(callbacks, 1) {}

  QuantizeReport run() {
    check_before();
    read_calibration();
    if (plan_.options.dry_run) {
      const QuantizeOptions& options = plan_.options;
      if (!options.work_dir.empty()) {
        check_work_folder(options.work_dir, job_json(), options.resume);
      }
      return finish_plan();
    }
    std::optional<WorkFolder> work = open_work_folder();
    CheckpointWriter writer(plan_.options.output, make_header(), plan_.options.force);
    write_other(writer, graph_.embedding);
    start_hidden();
    for (size_t index = 0; index < graph_.blocks.size(); ++index) {
      run_block(index, work, writer);
    }
    write_other(writer, graph_.final_norm);
    if (graph_.head != graph_.embedding) write_other(writer, graph_.head);
    for (const std::string& name : unused_) write_other(writer, name);
    meter_.phase("write", "sync and hash");
    const CheckpointFile file = timed("write", [&] { return writer.finish(); });
    if (work) work->remove(graph_.blocks.size());
    report_.output = file.path;
    report_.sha256 = file.sha256;
    report_.file_bytes = file.bytes;
    const StoredSize size = stored_size(*open_weight_source(file.path), unused_);
    report_.bytes = size.bytes;
    report_.bits_per_weight = size.bits_per_weight();
    return finish_report();
  }

 private:
  const BlockGraph& block(size_t index) const { return graph_.blocks[index]; }
  bool calibrated() const { return !plan_.options.calibration.empty(); }
  int64_t windows() const { return windows_.count; }
  int64_t length() const { return windows_.length; }
  float* window_hidden(int64_t window) {
    return hidden_.data() + window * length() * graph_.hidden_size;
  }

  void warn(const std::string& message) {
    report_.warnings.push_back(message);
    meter_.warn(message);
  }

  // Everything that can fail early does so here.
  void check_before() {
    const QuantizeOptions& options = plan_.options;
    meter_.phase("check", source_->path());
    unused_ = check_tensors(graph_, *source_);
    for (const std::string& name : unused_) {
      check_storable(name);
      warn("tensor \"" + name + "\" is not used by the model; it is copied as it is");
    }
    for (const std::string& warning : options_without_effect(plan_)) warn(warning);
    if (!options.dry_run || !options.output.empty()) {
      int64_t bytes = planned_size(plan_layers()).bytes;
      for (const std::string& name : unused_) bytes += source_->stored_bytes(name);
      check_output(options, bytes);
    }
    report_.planned_memory_bytes =
        planned_memory(plan_, graph_, static_cast<int64_t>(pool_.size()));
    if (options.max_memory > 0 && report_.planned_memory_bytes > options.max_memory) {
      throw Error(ErrorCode::kLimitExceeded,
                  "this job needs about " + std::to_string(report_.planned_memory_bytes) +
                      " bytes of memory, more than the limit of " +
                      std::to_string(options.max_memory) +
                      "; raise --max-memory, or use fewer or shorter calibration windows");
    }
    timed("check", [&] { check_source_finite(graph_, *source_, pool_, meter_); });
    meter_.check_cancelled();
  }

  // A tensor that is only copied must fit into the output under its name.
  void check_storable(const std::string& name) const {
    const auto refuse = [&](const std::string& why) {
      throw Error(ErrorCode::kInputMalformed, source_->file_of(name) + ": tensor \"" + name +
                                                  "\" is not used by the model and " + why +
                                                  "; remove it from the model");
    };
    if (!is_valid_dataset_name(name)) refuse("has a name that a checkpoint cannot hold");
    for (const auto& [linear, plan] : plan_.linears) {
      if (!plan.changes() || !name.starts_with(linear)) continue;
      for (const SideName& side : kSideNames) {
        if (name == linear + side.suffix) refuse("has the name of a scale or mask of the output");
      }
    }
  }

  void read_calibration() {
    const QuantizeOptions& options = plan_.options;
    if (!calibrated()) return;
    meter_.phase("read", options.calibration);
    timed("read", [&] {
      const int64_t needed = options.calibration_size * options.calibration_seqlen;
      const TokenDocuments documents =
          read_documents(options.calibration, *source_, needed, options.seed);
      windows_ = make_windows(documents, options.calibration_size, options.calibration_seqlen,
                              options.calibration);
      text_sha256_ = documents.text_sha256;
    });
    check_token_ids(windows_.ids, graph_.vocab_size, options.calibration, source_->path());
    if (options.calibration_seqlen > graph_.max_positions) {
      warn("calib_seqlen " + std::to_string(options.calibration_seqlen) +
           " exceeds the model's max_position_embeddings of " +
           std::to_string(graph_.max_positions));
    }
    report_.calibration_tokens = windows() * length();
    report_.calibration_sha256 = windows_.ids_sha256;
  }

  CheckpointHeader make_header() const {
    CheckpointHeader header;
    header.architecture = graph_.architecture;
    header.config_json = source_->config_json();
    header.recipe_json = recipe_json(plan_, text_sha256_, windows_.ids_sha256);
    header.calibration_sha256 = windows_.ids_sha256;
    header.source_sha256 = source_->sha256();
    header.text_files = source_->text_files();
    return header;
  }

  std::string job_json() const {
    return nlohmann::json{
        {"schema", "pare.job/1"},
        {"pare", version()},  // Another version may compute otherwise.
        {"source_sha256", source_->sha256()},
        {"recipe", recipe_json(plan_, text_sha256_, windows_.ids_sha256)},
    }
        .dump(2);
  }

  std::optional<WorkFolder> open_work_folder() const {
    const QuantizeOptions& options = plan_.options;
    if (options.work_dir.empty()) return std::nullopt;
    return WorkFolder(options.work_dir, job_json(), options.resume);
  }

  // Costs for progress: a window through a block is one; so, roughly, is compressing the block for
  // each window.
  double compress_cost() const { return static_cast<double>(std::max<int64_t>(1, windows())); }

  void start_hidden() {
    const auto blocks = static_cast<double>(graph_.blocks.size());
    meter_.set_total(blocks * (compress_cost() + 2 * static_cast<double>(windows())));
    if (!calibrated()) return;
    hidden_.resize(static_cast<size_t>(windows() * length() * graph_.hidden_size));
    embed_tokens(graph_, *source_, windows_.ids, hidden_.data());
    source_->release({graph_.embedding});
    rotary_.emplace(length());
  }

  std::string layer_text(size_t index) const {
    return "layer " + std::to_string(index + 1) + " of " + std::to_string(graph_.blocks.size());
  }

  void run_block(size_t index, const std::optional<WorkFolder>& work, CheckpointWriter& writer) {
    meter_.check_cancelled();
    std::optional<CompressedBlock> tensors;
    if (work) tensors = work->load(block(index), index);
    if (tensors) {
      meter_.advance(static_cast<double>(windows()) + compress_cost());
    } else {
      std::map<int, InputStatistics> statistics;
      if (calibrated()) statistics = timed("calibrate", [&] { return observe(index); });
      meter_.phase("compress", layer_text(index));
      tensors = timed("compress", [&] {
        return compress_block(block(index), *source_, plan_, std::move(statistics), pool_, meter_);
      });
      meter_.advance(compress_cost());
      if (work) work->save(block(index), index, *tensors);
    }
    for (const std::string& warning : tensors->warnings) warn(warning);
    timed("write", [&] { write_block(block(index), *tensors, writer); });
    if (calibrated() && index + 1 < graph_.blocks.size()) {
      timed("calibrate", [&] { advance_hidden(index, *tensors); });
    }
    for (LayerReport& layer : tensors->layers) report_.layers.push_back(std::move(layer));
    tensors.reset();
    // The allocator keeps what a block has freed in pieces that the next one does not quite fit
    // into: without this, memory would grow with depth after all.
    ::malloc_trim(0);
  }

  // Runs the calibration tokens through the original block and watches the inputs of its linears.
  std::map<int, InputStatistics> observe(size_t index) {
    meter_.phase("calibrate", layer_text(index));
    const BlockWeights weights = load_block(block(index), *source_, Precision::kBf16);
    std::vector<WatchedValue> watched;
    for (const InputGroup& group : input_groups(block(index))) {
      const bool used = std::any_of(group.linears.begin(), group.linears.end(), [&](size_t op) {
        return plan_.linear(block(index).full_name(block(index).ops[op])).changes();
      });
      if (used) watched.push_back({group.value, group.in_features, plan_.needs_gram});
    }
    const int64_t batch = batch_windows(plan_.options, static_cast<int64_t>(pool_.size()));
    StatisticsCollector collector(watched, windows(), length(), batch, pool_);
    std::vector<std::vector<float>> copies(pool_.size());
    std::vector<BlockWorkspace> workspaces = make_workspaces(index);
    const BlockRunner runner(block(index), weights, rotary_->of(block(index).rotary),
                             Precision::kBf16);
    for (int64_t first = 0; first < windows(); first += batch) {
      const int64_t count = std::min(batch, windows() - first);
      collector.begin_batch(first, count);
      pool_.parallel_for(static_cast<size_t>(count), [&](size_t i, size_t worker) {
        const float* input = window_hidden(first + static_cast<int64_t>(i));
        copies[worker].assign(input, input + length() * graph_.hidden_size);
        runner.run(copies[worker].data(), length(), workspaces[worker],
                   collector.observer(static_cast<int64_t>(i)));
      });
      collector.end_batch();
      meter_.advance(static_cast<double>(count));
      meter_.check_cancelled();
    }
    std::map<int, InputStatistics> statistics;
    for (const WatchedValue& value : watched) {
      statistics[value.value] = collector.take(value.value);
    }
    return statistics;
  }

  // Makes the next block's input: through the compressed block, as deployed, or the original one.
  void advance_hidden(size_t index, const CompressedBlock& tensors) {
    meter_.phase("calibrate", layer_text(index) + ", compressed");
    const BlockWeights weights = plan_.options.uncompressed_inputs
                                     ? load_block(block(index), *source_, Precision::kBf16)
                                     : make_block_weights(block(index), tensors, Precision::kBf16);
    std::vector<BlockWorkspace> workspaces = make_workspaces(index);
    const BlockRunner runner(block(index), weights, rotary_->of(block(index).rotary),
                             Precision::kBf16);
    const int64_t batch = batch_windows(plan_.options, static_cast<int64_t>(pool_.size()));
    for (int64_t first = 0; first < windows(); first += batch) {
      const int64_t count = std::min(batch, windows() - first);
      pool_.parallel_for(static_cast<size_t>(count), [&](size_t i, size_t worker) {
        runner.run(window_hidden(first + static_cast<int64_t>(i)), length(), workspaces[worker],
                   {});
      });
      meter_.advance(static_cast<double>(count));
      meter_.check_cancelled();
    }
  }

  std::vector<BlockWorkspace> make_workspaces(size_t index) const {
    std::vector<BlockWorkspace> workspaces;
    for (size_t i = 0; i < pool_.size(); ++i) {
      workspaces.emplace_back(block(index), length(), Precision::kBf16);
    }
    return workspaces;
  }

  void write_other(CheckpointWriter& writer, const std::string& name) {
    timed("write", [&] { writer.write_dense(name, source_->dense(name)); });
    source_->release({name});
  }

  std::vector<LayerReport> plan_layers() const {
    std::vector<LayerReport> layers;
    for (const BlockGraph& one : graph_.blocks) {
      for (const Op& op : one.ops) {
        if (op.kind != OpKind::kLinear) continue;
        const std::string name = one.full_name(op);
        const LinearPlan& linear = plan_.linear(name);
        LayerReport layer;
        layer.name = name;
        layer.shape = {one.out_features(op), one.in_features(op)};
        layer.qformat = linear.format->quantized ? linear.format->name : "bf16";
        layer.sparsity = linear.sparsity == SparsityMethod::kNone ? 0 : 0.5;
        layer.bytes = linear.changes()
                          ? planned_bytes(plan_, linear, layer.shape[0], layer.shape[1])
                          : source_->stored_bytes(name + ".weight");
        layers.push_back(std::move(layer));
      }
    }
    return layers;
  }

  StoredSize planned_size(const std::vector<LayerReport>& layers) const {
    StoredSize size = stored_size(*source_, unused_);
    for (const LayerReport& layer : layers) {
      size.bytes += layer.bytes - source_->stored_bytes(layer.name + ".weight");
    }
    return size;
  }

  // A dry run: what would be written, without writing it.
  QuantizeReport finish_plan() {
    report_.layers = plan_layers();
    const StoredSize size = planned_size(report_.layers);
    report_.output = plan_.options.output;
    report_.bytes = size.bytes;
    report_.bits_per_weight = size.bits_per_weight();
    return finish_report();
  }

  QuantizeReport finish_report() {
    report_.seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    report_.peak_rss_bytes = peak_resident_bytes();
    report_.phase_seconds.assign(phase_seconds_.begin(), phase_seconds_.end());
    return std::move(report_);
  }

  Clock::time_point start_ = Clock::now();
  std::unique_ptr<WeightSource> source_;
  ModelGraph graph_;
  JobPlan plan_;
  ThreadPool pool_;
  ProgressMeter meter_;
  std::vector<std::string> unused_;
  TokenWindows windows_;
  std::string text_sha256_;
  std::optional<RotaryTables> rotary_;  // with calibration
  std::vector<float> hidden_;           // [windows, length, hidden]
  std::map<std::string, double> phase_seconds_;
  QuantizeReport report_;
};

}  // namespace

std::vector<std::pair<std::string, std::string>> qformats() {
  std::vector<std::pair<std::string, std::string>> names;
  for (const QFormat& format : qformat_table()) names.emplace_back(format.name, format.remark);
  return names;
}

QuantizeReport quantize(const QuantizeOptions& options, const Callbacks& callbacks) {
  return Job(options, callbacks).run();
}

}  // namespace pare
