#include "pare/quantize.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "calib/builtin_text.h"
#include "calib/pair_source.h"
#include "calib/token_check.h"
#include "calib/token_source.h"
#include "core/process_memory.h"
#include "core/progress_meter.h"
#include "core/text.h"
#include "core/thread_pool.h"
#include "formats/checkpoint_layout.h"
#include "formats/checkpoint_writer.h"
#include "formats/hdf5_types.h"
#include "formats/weight_source.h"
#include "model/block_parameters.h"
#include "model/model_files.h"
#include "model/position_limit.h"
#include "model/rotate_model.h"
#include "pare/error.h"
#include "pare/version.h"
#include "pipeline/compress_cache.h"
#include "pipeline/compress_model.h"
#include "pipeline/job_plan.h"
#include "pipeline/phase_times.h"
#include "pipeline/saved_statistics.h"
#include "pipeline/source_check.h"
#include "pipeline/work_folder.h"

namespace pare {
namespace {

using Clock = std::chrono::steady_clock;

LoraUse lora_use(const QuantizeOptions& options) {
  if (options.lora_mode == "merge") return LoraUse::kMerge;
  if (options.lora_mode == "beside") return LoraUse::kBeside;
  throw Error(ErrorCode::kUsage,
              "lora_mode is \"" + options.lora_mode + "\"; expected merge or beside");
}

// One run of quantize(): what is made before the first block and lives to the end.
class Job {
 public:
  Job(const QuantizeOptions& options, const Callbacks& callbacks)
      : original_(open_model_files(options.model, options.lora, lora_use(options))),
        model_(original_),
        source_(model_.source),
        graph_(model_.graph),
        plan_(make_plan(options, graph_)),
        pool_(static_cast<size_t>(options.threads)),
        meter_(callbacks, 1) {
    rotate();
  }

  QuantizeReport run() {
    check_before();
    read_calibration();
    open_statistics();
    if (plan_.options.dry_run) {
      const QuantizeOptions& options = plan_.options;
      if (!options.work_dir.empty()) {
        check_work_folder(options.work_dir, job_json(), options.resume);
      }
      return finish_plan();
    }
    std::optional<WorkFolder> work = open_work_folder();
    CheckpointWriter writer(plan_.options.output, make_header(), plan_.options.force);
    for (const Parameter& parameter : outer_parameters(graph_)) {
      if (source_->contains(parameter.name)) write_other(writer, parameter.name);
    }
    const size_t pieces = compress_model(
        {graph_, *source_, plan_, windows_, work, writer, saved_ ? &*saved_ : nullptr,
         saver_ ? &*saver_ : nullptr, pool_, meter_, times_},
        report_);
    for (const std::string& name : unused_) write_other(writer, name);
    meter_.phase("write", "sync and hash");
    if (saver_) times_.timed("write", [&] { saver_->finish(); });
    const CheckpointFile file = times_.timed("write", [&] { return writer.finish(); });
    if (work) work->remove(pieces);
    report_.output = file.path;
    report_.sha256 = file.sha256;
    report_.file_bytes = file.bytes;
    const StoredSize size = stored_size(*open_weight_source(file.path), unused_);
    report_.bytes = size.bytes;
    report_.bits_per_weight = size.bits_per_weight();
    return finish_report();
  }

 private:
  bool calibrated() const { return !plan_.options.calibration.empty(); }

  // From here on the job is on the rotated model, but for what is said of the one that was given.
  void rotate() {
    const QuantizeOptions& options = plan_.options;
    report_.rotation.kind = options.rotate;
    if (options.rotate == "none") return;
    std::set<std::string> quantized;
    for (const auto& [name, linear] : plan_.linears) {
      if (linear.changes()) quantized.insert(name + ".weight");
    }
    RotatedModel rotated = rotate_model(
        original_, {.heads = options.rotate == "residual+heads", .seed = options.rotate_seed},
        quantized);
    report_.rotation.matrix = rotated.description;
    report_.rotation.untied_head_bytes = rotated.untied_bytes;
    const int64_t left = rotated.attentions - rotated.rotated_attentions;
    if (left > 0) {
      warn("the values of " + std::to_string(left) + " of " + std::to_string(rotated.attentions) +
           " attentions cannot be rotated head by head and stay as they are");
    }
    model_ = std::move(rotated.model);
  }

  void warn(const std::string& message) {
    report_.warnings.push_back(message);
    meter_.warn(message);
  }

  // Everything that can fail early does so here.
  void check_before() {
    const QuantizeOptions& options = plan_.options;
    meter_.phase("check", source_->path());
    unused_ = model_.unused;
    for (const std::string& name : unused_) check_storable(name);
    if (!unused_.empty()) {
      warn("not used by the model and copied as they are, " + std::to_string(unused_.size()) +
           (unused_.size() == 1 ? " tensor: " : " tensors: ") + shown_names(unused_));
    }
    for (const std::string& warning : options_without_effect(plan_)) warn(warning);
    for (const std::string& warning : check_cache_plan(plan_.cache, graph_, source_->path())) {
      warn(warning);
    }
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
    times_.timed("check",
                 [&] { check_source_finite(original_.graph, *original_.source, pool_, meter_); });
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
    for (const CacheReport& cache : plan_caches()) {
      if (!name.starts_with(cache.name + ".")) continue;
      for (const char* own : {".kv_cache_dtype", ".k_scale", ".v_scale", ".k_bias", ".v_bias"}) {
        if (name == cache.name + own) refuse("has the name of a tensor of the quantized KV cache");
      }
    }
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
    times_.timed("read", [&] {
      if (graph_.encoder) return read_pairs();
      const int64_t needed = options.calibration_size * options.calibration_seqlen;
      const TokenDocuments documents =
          read_documents(options.calibration, *source_, needed, options.seed,
                         {.parse_special = options.parse_special});
      windows_ = make_windows(documents, options.calibration_size, options.calibration_seqlen,
                              options.calibration);
      text_sha256_ = documents.text_sha256;
    });
    if (options.calibration == kBuiltinText) {
      warn("calibrated on the text that pare brings, " + std::to_string(windows_.count) +
           " windows that a small language model wrote; give text like what the model will see "
           "with --calib");
      plan_.options.calibration_size = windows_.count;
    }
    check_token_ids(windows_.ids, graph_.vocab_size, options.calibration, source_->path());
    const int64_t longest = std::max(windows_.length, windows_.sources.longest());
    require_positions(graph_, source_->path(), longest,
                      graph_.encoder ? "the longest side of a calibration pair" : "calib_seqlen");
    if (graph_.max_positions > 0 && options.calibration_seqlen > graph_.max_positions) {
      warn("calib_seqlen " + std::to_string(options.calibration_seqlen) +
           " exceeds the model's max_position_embeddings of " +
           std::to_string(graph_.max_positions));
    }
    report_.calibration_tokens = static_cast<int64_t>(windows_.sources.ids.size());
    for (int64_t i = 0; i < windows_.count; ++i) {
      report_.calibration_tokens += windows_.tokens_of(i);
    }
    report_.calibration_sha256 = windows_.ids_sha256;
  }

  void read_pairs() {
    const QuantizeOptions& options = plan_.options;
    TokenPairs pairs = pare::read_pairs(options.calibration, *source_, graph_,
                                        {.count = options.calibration_size,
                                         .length = options.calibration_seqlen,
                                         .seed = options.seed,
                                         .parse_special = options.parse_special});
    if (pairs.cut > 0) {
      warn(std::to_string(pairs.cut) + " pairs of " + options.calibration +
           " are longer than calib_seqlen and were cut to " +
           std::to_string(options.calibration_seqlen) + " tokens");
    }
    windows_ = std::move(pairs.windows);
    text_sha256_ = pairs.text_sha256;
  }

  CheckpointHeader make_header() const {
    CheckpointHeader header;
    header.architecture = graph_.architecture;
    header.config_json = source_->config_json();
    header.recipe_json = recipe_json(plan_, text_sha256_, windows_.ids_sha256);
    header.calibration_sha256 = windows_.ids_sha256;
    header.source_sha256 = original_.source->sha256();
    header.text_files = source_->text_files();
    return header;
  }

  std::string job_json() const {
    return nlohmann::json{
        {"schema", "pare.job/1"},
        {"pare", version()},  // Another version may compute otherwise.
        {"source_sha256", original_.source->sha256()},
        {"recipe", recipe_json(plan_, text_sha256_, windows_.ids_sha256)},
    }
        .dump(2);
  }

  std::optional<WorkFolder> open_work_folder() const {
    const QuantizeOptions& options = plan_.options;
    if (options.work_dir.empty()) return std::nullopt;
    return WorkFolder(options.work_dir, job_json(), options.resume);
  }

  StatisticsOrigin statistics_origin() const {
    const QuantizeOptions& options = plan_.options;
    return {.source_sha256 = original_.source->sha256(),
            .rotate = options.rotate,
            .rotate_seed = options.rotate_seed,
            .moe_calib = options.moe_calib,
            .ids_sha256 = windows_.ids_sha256,
            .text_sha256 = text_sha256_,
            .calibration_size = options.calibration_size,
            .calibration_seqlen = options.calibration_seqlen,
            .seed = options.seed,
            .tokens = report_.calibration_tokens};
  }

  // Statistics from a file stand for the text that they are of, in the recipe and the report.
  void open_statistics() {
    QuantizeOptions& options = plan_.options;
    if (!options.save_stats.empty() && !options.dry_run) {
      saver_.emplace(options.save_stats, make_header(), statistics_origin(), options.force);
    }
    if (options.stats.empty()) return;
    saved_.emplace(options.stats);
    saved_->check_model(options.model, statistics_origin());
    const StatisticsOrigin& origin = saved_->origin();
    options.calibration_size = origin.calibration_size;
    options.calibration_seqlen = origin.calibration_seqlen;
    options.seed = origin.seed;
    text_sha256_ = origin.text_sha256;
    windows_.ids_sha256 = origin.ids_sha256;
    report_.calibration_tokens = origin.tokens;
    report_.calibration_sha256 = origin.ids_sha256;
  }

  void write_other(CheckpointWriter& writer, const std::string& name) {
    times_.timed("write", [&] { writer.write_dense(name, source_->dense(name)); });
    source_->release({name});
  }

  std::vector<LayerReport> plan_layers() const {
    std::vector<LayerReport> layers;
    for_each_block(graph_, [&](const BlockGraph& one) {
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
    });
    return layers;
  }

  std::vector<CacheReport> plan_caches() const {
    std::vector<CacheReport> caches;
    for (const BlockGraph& block : graph_.blocks) {
      for (CacheReport& cache : planned_caches(with_cache(block, plan_.cache))) {
        caches.push_back(std::move(cache));
      }
    }
    return caches;
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
    report_.caches = plan_caches();
    const StoredSize size = planned_size(report_.layers);
    report_.output = plan_.options.output;
    report_.bytes = size.bytes;
    report_.bits_per_weight = size.bits_per_weight();
    return finish_report();
  }

  QuantizeReport finish_report() {
    report_.seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    report_.peak_rss_bytes = peak_resident_bytes();
    report_.phase_seconds.assign(times_.seconds().begin(), times_.seconds().end());
    return std::move(report_);
  }

  Clock::time_point start_ = Clock::now();
  const ModelFiles original_;
  ModelFiles model_;  // rotated, or the original
  const std::shared_ptr<const WeightSource>& source_;
  const ModelGraph& graph_;
  JobPlan plan_;
  ThreadPool pool_;
  ProgressMeter meter_;
  std::vector<std::string> unused_;
  TokenWindows windows_;
  std::string text_sha256_;
  std::optional<SavedStatistics> saved_;
  std::optional<StatisticsWriter> saver_;
  PhaseTimes times_;
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
