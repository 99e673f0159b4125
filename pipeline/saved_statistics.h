// Statistics of a model's inputs in a file: calibrated once, they serve every format.
//
// The file is a checkpoint (docs/checkpoint.md) whose tensors are statistics and whose recipe says
// of what: `NAME.input_gram` and so on for the first linear NAME of those that share the input.
// They are those of the uncompressed model, so a job that uses them equals one with
// --uncompressed-inputs, byte for byte.
//
//   StatisticsWriter writer("stats.h5", header, origin, /*force=*/false);
//   writer.write("model.layers.0.self_attn.q_proj", statistics, {});
//   writer.finish();
//   SavedStatistics saved("stats.h5");
//   InputStatistics statistics = saved.read("model.layers.0.self_attn.q_proj", 640);
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "calib/statistics.h"
#include "formats/checkpoint_writer.h"
#include "formats/weight_source.h"
#include "pipeline/calibration_run.h"

namespace pare {

/// What statistics are of. Two jobs may share them when these agree.
struct StatisticsOrigin {
  std::string source_sha256;  ///< Of the model that was given.
  std::string rotate;
  uint64_t rotate_seed = 0;
  std::string moe_calib;
  std::string ids_sha256;   ///< Of the calibration's token ids.
  std::string text_sha256;  ///< Of the text that they are from; empty when it was ids.
  int64_t calibration_size = 0;
  int64_t calibration_seqlen = 0;
  uint64_t seed = 0;
  int64_t tokens = 0;
};

/// Keeps what a saved Gram matrix keeps of it: floats. A job on the uncompressed model's inputs
/// computes with these whether or not it saves them.
void round_as_saved(InputStatistics& statistics);

class StatisticsWriter {
 public:
  /// Throws as CheckpointWriter. `header` gives architecture, configuration and hashes.
  StatisticsWriter(const std::string& path, CheckpointHeader header, const StatisticsOrigin& origin,
                   bool force);

  /// The input of `linear`, which must have a Gram matrix. `tokens` only for experts.
  void write(const std::string& linear, const InputStatistics& statistics,
             const ExpertTokens& tokens);

  CheckpointFile finish() { return writer_.finish(); }

 private:
  CheckpointWriter writer_;
};

class SavedStatistics {
 public:
  /// Throws Error(kInputMissing) or Error(kInputMalformed) when `path` is not such a file.
  explicit SavedStatistics(const std::string& path);

  const StatisticsOrigin& origin() const { return origin_; }

  /// Throws Error(kInputMalformed), naming the file and what differs, unless they are of this model
  /// in this rotation.
  void check_model(const std::string& model, const StatisticsOrigin& wanted) const;

  /// Throws Error(kInputMalformed) when the file has none for this linear, or of another width.
  InputStatistics read(const std::string& linear, int64_t in_features) const;

  /// What the expert that `linear` belongs to was calibrated on.
  ExpertTokens expert_tokens(const std::string& linear) const;

 private:
  TensorView view(const std::string& name) const;

  std::string path_;
  std::unique_ptr<WeightSource> source_;
  StatisticsOrigin origin_;
};

}  // namespace pare
