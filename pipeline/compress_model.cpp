#include "pipeline/compress_model.h"

#include <malloc.h>

#include <algorithm>
#include <span>

#include "model/block_parameters.h"
#include "model/input_groups.h"
#include "pipeline/calibration_run.h"
#include "pipeline/compress_block.h"
#include "pipeline/compress_cache.h"
#include "pipeline/compressed_block.h"

namespace pare {
namespace {

class ModelCompression {
 public:
  ModelCompression(const CompressionJob& job, QuantizeReport& report) : job_(job), report_(report) {
    if (!job.plan.options.calibration.empty() && job.saved == nullptr) {
      calibration_.emplace(job.graph, job.source, job.windows, job.plan, job.pool, job.meter);
    }
  }

  size_t run() {
    const std::vector<BlockGraph> none;
    const std::vector<BlockGraph>& encoder = job_.graph.encoder ? job_.graph.encoder->blocks : none;
    const std::vector<BlockGraph>& decoder = job_.graph.blocks;
    job_.meter.set_total(total_cost(encoder, decoder));
    if (job_.graph.encoder) {
      if (calibration_) calibration_->start(Stack::kEncoder);
      for (size_t i = 0; i < encoder.size(); ++i) {
        layer_ = "encoder layer " + std::to_string(i + 1) + " of " + std::to_string(encoder.size());
        run_layer(encoder[i], true);
      }
    }
    if (calibration_) calibration_->start(Stack::kDecoder);
    for (size_t i = 0; i < decoder.size(); ++i) {
      layer_ = "layer " + std::to_string(i + 1) + " of " + std::to_string(decoder.size());
      run_layer(decoder[i], i + 1 < decoder.size());
    }
    return piece_;
  }

 private:
  // A sequence through a block costs one; so, roughly, does compressing the block for each.
  double total_cost(const std::vector<BlockGraph>& encoder,
                    const std::vector<BlockGraph>& decoder) const {
    // Known before the calibration run has embedded them.
    const double windows = calibration_ ? static_cast<double>(job_.windows.count) : 0;
    double total = 0;
    size_t piece = 0;
    for (const std::vector<BlockGraph>* stack : {&encoder, &decoder}) {
      for (const BlockGraph& block : *stack) {
        const int64_t pieces = 1 + (block.experts ? block.experts->count : 0);
        total += compress_cost() * static_cast<double>(pieces) + windows;
        if (observes(block, is_finished(piece, pieces))) total += windows;
        piece += static_cast<size_t>(pieces);
      }
    }
    // The last layer has nothing behind it; what follows an encoder's has a pass of its own.
    return total - windows + (encoder.empty() ? 0 : windows);
  }

  double compress_cost() const {
    return static_cast<double>(std::max<int64_t>(1, job_.windows.count));
  }

  void warn(const std::string& message) {
    report_.warnings.push_back(message);
    job_.meter.warn(message);
  }

  // `advances`: another block follows, which needs the tokens as this one leaves them.
  void run_layer(const BlockGraph& block, bool advances) {
    job_.meter.check_cancelled();
    const int64_t experts = block.experts ? block.experts->count : 0;
    const bool finished = is_finished(piece_, 1 + experts);
    std::map<int, InputStatistics> statistics;
    if (job_.saved != nullptr && !finished) statistics = read_saved(block);
    if (observes(block, finished)) {
      job_.meter.phase("calibrate", layer_);
      statistics = job_.times.timed("calibrate", [&] {
        const BlockWeights original = load_block(block, job_.source, Precision::kBf16);
        return calibration_->observe(block, original, watched(block));
      });
      keep_statistics(block, statistics, {});
    }
    if (calibration_ && finished && advances && job_.plan.needs_original) {
      calibration_->pass(block, load_block(block, job_.source, Precision::kBf16));
    }
    BlockWeights weights;  // of the block without its experts, as it leaves the tokens
    const BlockGraph stored = with_cache(block, job_.plan.cache);
    {
      const CompressedBlock tensors = take_piece(block, stored, std::move(statistics));
      if (calibration_ && advances) {
        job_.meter.phase("calibrate", layer_ + ", compressed");
        job_.times.timed("calibrate", [&] {
          weights = weights_after(block, stored, tensors);
          calibration_->advance(block, weights);
        });
      }
    }
    const size_t first = report_.experts.size();
    for (int64_t expert = 0; expert < experts; ++expert) {
      run_expert(block, expert, !finished, advances);
    }
    warn_of_few_tokens(block, std::span(report_.experts).subspan(first));
    if (calibration_ && advances && experts > 0) {
      job_.times.timed("calibrate", [&] { calibration_->finish(block, weights); });
    }
    // The allocator keeps what a block has freed in pieces that the next one does not quite fit
    // into: without this, memory would grow with depth after all.
    ::malloc_trim(0);
  }

  void run_expert(const BlockGraph& block, int64_t expert, bool watches, bool advances) {
    job_.meter.check_cancelled();
    const BlockGraph graph = expert_block(block, expert);
    std::map<int, InputStatistics> statistics;
    ExpertTokens tokens;
    if (watches && job_.saved != nullptr) {
      statistics = read_saved(graph);
      for (const InputGroup& group : input_groups(graph)) {
        if (statistics.contains(group.value)) {
          tokens = job_.saved->expert_tokens(shared_name(graph, group));
        }
      }
    } else if (watches && calibration_ && !watched(graph).empty()) {
      job_.meter.phase("calibrate", layer_ + ", expert " + std::to_string(expert + 1) + " of " +
                                        std::to_string(block.experts->count));
      statistics = job_.times.timed("calibrate", [&] {
        const BlockWeights original = load_block(graph, job_.source, Precision::kBf16);
        return calibration_->observe_expert(block, expert, original, watched(graph), tokens);
      });
      keep_statistics(graph, statistics, tokens);
    }
    const CompressedBlock tensors = take_piece(graph, graph, std::move(statistics), tokens);
    if (calibration_ && advances) {
      job_.times.timed("calibrate", [&] {
        calibration_->advance_expert(block, expert, weights_after(graph, graph, tensors));
      });
    }
    ::malloc_trim(0);  // as after a layer: experts are many
  }

  // Whether a job needs the input of these linears; one that saves it for others needs all.
  bool is_used(const BlockGraph& block, const InputGroup& group) const {
    return std::any_of(group.linears.begin(), group.linears.end(), [&](size_t op) {
      return job_.plan.linear(block.full_name(block.ops[op])).changes() ||
             (job_.saver != nullptr && !block.ops[op].linear.keep);
    });
  }

  // The linear under whose name the statistics of a group are saved.
  static std::string shared_name(const BlockGraph& block, const InputGroup& group) {
    return block.full_name(block.ops[group.linears[0]]);
  }

  std::map<int, InputStatistics> read_saved(const BlockGraph& block) {
    return job_.times.timed("calibrate", [&] {
      std::map<int, InputStatistics> statistics;
      for (const InputGroup& group : input_groups(block)) {
        if (!is_used(block, group)) continue;
        statistics[group.value] = job_.saved->read(shared_name(block, group), group.in_features);
      }
      return statistics;
    });
  }

  // The same numbers whether they are saved or only might have been.
  void keep_statistics(const BlockGraph& block, std::map<int, InputStatistics>& statistics,
                       const ExpertTokens& tokens) {
    if (!job_.plan.options.uncompressed_inputs) return;
    for (auto& [value, found] : statistics) round_as_saved(found);
    if (job_.saver == nullptr) return;
    for (const InputGroup& group : input_groups(block)) {
      const auto found = statistics.find(group.value);
      if (found == statistics.end()) continue;
      job_.times.timed(
          "write", [&] { job_.saver->write(shared_name(block, group), found->second, tokens); });
    }
  }

  // Inputs of the linears that change.
  std::vector<WatchedValue> watched(const BlockGraph& block) const {
    std::vector<WatchedValue> values;
    for (const InputGroup& group : input_groups(block)) {
      const bool used = is_used(block, group);
      if (used) values.push_back({group.value, group.in_features, job_.plan.needs_gram, 0});
    }
    return values;
  }

  // `stored` is the block as the checkpoint has it, with the cache of its attention.
  BlockWeights weights_after(const BlockGraph& block, const BlockGraph& stored,
                             const CompressedBlock& tensors) const {
    return job_.plan.options.uncompressed_inputs
               ? load_block(block, job_.source, Precision::kBf16)
               : make_block_weights(stored, tensors, job_.source, Precision::kBf16);
  }

  // Whether the original block runs for statistics, of its experts' inputs or of its own.
  bool observes(const BlockGraph& block, bool finished) const {
    return calibration_ && !finished &&
           (!watched(block).empty() || block.experts || job_.plan.needs_original);
  }

  // Whether the work folder has a block and its experts, numbered from `first`.
  bool is_finished(size_t first, int64_t pieces) const {
    if (!job_.work) return false;
    for (int64_t i = 0; i < pieces; ++i) {
      if (!job_.work->contains(first + static_cast<size_t>(i))) return false;
    }
    return true;
  }

  // A block or an expert, from the work folder or compressed now; it is written.
  CompressedBlock take_piece(const BlockGraph& block, const BlockGraph& stored,
                             std::map<int, InputStatistics> statistics,
                             const ExpertTokens& tokens = {}) {
    std::optional<CompressedBlock> tensors;
    if (job_.work) tensors = job_.work->load(stored, piece_);
    if (!tensors) {
      job_.meter.phase("compress", layer_);
      tensors = job_.times.timed("compress", [&] {
        return compress_block(block, job_.source, job_.plan, std::move(statistics), job_.pool,
                              job_.meter);
      });
      note_tokens(block, tokens, *tensors);
      if (calibration_) {
        job_.times.timed("calibrate", [&] {
          compress_cache(stored, job_.source, *calibration_, job_.pool, *tensors);
        });
      }
      if (job_.work) job_.work->save(stored, piece_, *tensors);
    }
    ++piece_;
    job_.meter.advance(compress_cost());
    for (const std::string& warning : tensors->warnings) warn(warning);
    job_.times.timed("write", [&] { write_block(stored, *tensors, job_.writer); });
    for (LayerReport& layer : tensors->layers) report_.layers.push_back(std::move(layer));
    if (tensors->expert) report_.experts.push_back(*tensors->expert);
    for (CacheReport& cache : tensors->caches) report_.caches.push_back(std::move(cache));
    return std::move(*tensors);
  }

  void note_tokens(const BlockGraph& block, const ExpertTokens& tokens, CompressedBlock& tensors) {
    if (tokens.routed + tokens.added == 0) return;
    tensors.expert =
        ExpertReport{block.prefix.substr(0, block.prefix.size() - 1), tokens.routed, tokens.added};
  }

  // Once a layer: with little text there are many such experts.
  void warn_of_few_tokens(const BlockGraph& block, std::span<const ExpertReport> experts) {
    if (job_.plan.options.moe_calib == "all") return;
    int64_t few = 0;
    const ExpertReport* fewest = nullptr;
    std::string unseen;
    for (const ExpertReport& expert : experts) {
      if (expert.added == 0) continue;
      ++few;
      if (fewest == nullptr || expert.tokens < fewest->tokens) fewest = &expert;
      if (expert.tokens > 0) continue;
      unseen += (unseen.empty() ? "" : ", ") + expert.name.substr(expert.name.rfind('.') + 1);
    }
    if (few == 0) return;
    std::string text =
        block.prefix.substr(0, block.prefix.size() - 1) + ": " + std::to_string(few) + " of " +
        std::to_string(experts.size()) +
        " experts were chosen by few calibration tokens (the fewest: " + fewest->name + " by " +
        std::to_string(fewest->tokens) +
        ") and were calibrated on others of the layer as well, evenly spread";
    if (!unseen.empty()) {
      text += "; no token chose expert " + unseen + ": calibrated on others' tokens alone";
    }
    warn(text + ". More text, or --moe-calib all, changes that");
  }

  const CompressionJob& job_;
  QuantizeReport& report_;
  std::optional<CalibrationRun> calibration_;
  std::string layer_;  // for progress
  size_t piece_ = 0;   // number of the next block or expert
};

}  // namespace

size_t compress_model(const CompressionJob& job, QuantizeReport& report) {
  return ModelCompression(job, report).run();
}

}  // namespace pare
