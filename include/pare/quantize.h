// Compresses a trained model after training.
//
//   pare::QuantizeOptions options;
//   options.model = "models/llama";
//   options.output = "llama-int4.h5";
//   options.qformat = "int4_awq";
//   options.calibration = "c4_sample.jsonl";
//   pare::QuantizeReport report = pare::quantize(options, {});
//
// The model is worked on layer by layer, so memory does not grow with its depth. The same model,
// options and seed give the same output bytes for any number of threads.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pare/export.h"
#include "pare/progress.h"

namespace pare {

/// Everything that decides the result. docs/cli.md has the flag for each.
struct QuantizeOptions {
  std::string model;   ///< Hugging Face folder.
  std::string output;  ///< "NAME.h5" makes one file, any other name a folder of shards.

  std::string qformat = "fp8";    ///< See qformats().
  std::string sparsity = "none";  ///< none | magnitude | wanda | ria | sparsegpt | admm (2:4).

  /// Which method chooses the numbers: auto, the best stack of published ones that was measured for
  /// the format; or one by itself, rtn; clip, awq or gptq for INT4 and FP4; gptq for FP8; gptq,
  /// clip or smoothquant for INT8.
  std::string algo = "auto";

  /// Before anything else the residual stream is rotated by a randomized Hadamard matrix, which
  /// spreads its outliers over all channels: none; residual; residual+heads, the values of
  /// attention head by head as well (QuaRot's part that is folded into the weights).
  std::string rotate = "none";
  uint64_t rotate_seed = 0;        ///< Of the matrix's signs.
  std::string kv_cache = "none";   ///< none | fp8 | int8: how keys and values are cached.
  std::string kv_scales = "head";  ///< One static scale for all heads ("tensor"), or each ("head").
  bool kv_affine = false;          ///< With an offset for each channel, for large key biases.

  std::string calibration;           ///< .txt, .jsonl with "text" or "input_ids", or token ids.
  int64_t calibration_size = 128;    ///< Windows.
  int64_t calibration_seqlen = 512;  ///< Tokens a window.
  uint64_t seed = 0;                 ///< Order in which documents are drawn; 0 keeps file order.

  int64_t awq_block_size = 128;  ///< INT4 group along in_features; 0 = per output channel.
  bool symmetric = true;         ///< INT4: symmetric, or with zero points.
  bool clip = true;              ///< INT4, FP4: search the clipping range of each group.
  double smooth_strength =
      -1;              ///< INT8 SmoothQuant: 0 … 1 fixes the strength; negative searches it.
  bool smooth = true;  ///< INT8 SmoothQuant: false leaves activations as they are.
  bool dynamic_activations =
      false;  ///< INT8: one activation scale a token instead of a static one.
  /// AWQ, SmoothQuant: scales of an input that no norm or linear before it can absorb are stored
  /// with the linear; false: such an input is not scaled, as most engines want it.
  bool pre_quant_scale = true;
  /// Share of GPTAQ's correction: how far weights make up for what compression did to their input;
  /// negative: the best that was measured for the method.
  double gptaq_alpha = -1;
  double sparsegpt_damping = 0.01;  ///< Share of the mean Gram diagonal added to it.
  /// 2:4: whether input channels change places so that pruning loses less, where the wiring makes
  /// that free: on; off; auto, where it lowers the error at the layer's output on calibration text.
  std::string permute_channels = "auto";
  bool uncompressed_inputs = false;  ///< Calibrate each layer on the original model's activations.
  std::string save_stats;  ///< File (or folder of shards) that keeps what calibration found, for
                           ///< any other format; implies uncompressed_inputs.
  std::string stats;       ///< Such a file, instead of calibrating; implies uncompressed_inputs.
  std::string moe_calib = "routed";  ///< Experts are calibrated on the tokens that chose them, or
                                     ///< on "all" of their layer.
  bool parse_special = false;        ///< Special tokens that the text spells are special, not text.
  std::string lora;                  ///< Folder of a LoRA adapter (PEFT).
  std::string lora_mode = "merge";   ///< It is merged into the weights before anything else; or it
                                     ///< stays "beside" the compressed ones, as it is.

  std::vector<std::string>
      sparsity_skip;                 ///< Regular expressions over linear names that stay dense.
  std::vector<std::string> exclude;  ///< Regular expressions over linear names, kept in BF16.
  std::vector<std::pair<std::string, std::string>> overrides;  ///< Regular expression → qformat.
  std::string recipe;  ///< JSON file with any of the above; options that differ from their default
                       ///< win, and so do those named here:
  std::vector<std::string> explicit_options;  ///< Keys of the recipe that it must not set.

  int threads = 0;         ///< 0: all processors.
  int64_t max_memory = 0;  ///< Bytes; 0: no limit.
  std::string work_dir;    ///< Keeps finished layers, for resume.
  bool resume = false;
  bool force = false;    ///< Replace existing output.
  bool dry_run = false;  ///< Plan and check only.
};

/// What happened to one linear layer.
struct LayerReport {
  std::string name;  ///< "model.layers.0.mlp.up_proj"
  std::vector<int64_t> shape;
  std::string qformat;    ///< "bf16" when it was left alone.
  std::string detail;     ///< For example "strength 0.85" or "ratio 0.5, clip 0.93".
  std::string algorithm;  ///< What chose its numbers: "AWQ scales, clip search, GPTQ".
  std::string fallback;   ///< What was asked for and could not be had; empty: nothing.
  /// Signal-to-noise ratio of the layer's output on the calibration tokens; empty where there is no
  /// noise, as in a layer that was left alone.
  std::optional<double> sqnr_db;
  std::optional<double> rtn_sqnr_db;  ///< The same of rounding to nearest (2:4: by magnitude).
  /// Weights that lie more than half a step outside the range of their scale, because clipping
  /// them loses less.
  int64_t clipped_weights = 0;
  double sparsity = 0;  ///< Share of zero weights.
  double seconds = 0;
  int64_t bytes = 0;  ///< Stored, scales included.
};

/// What one expert of a mixture was calibrated on.
struct ExpertReport {
  std::string name;    ///< "model.layers.3.mlp.experts.7"
  int64_t tokens = 0;  ///< Calibration tokens that chose it.
  int64_t added = 0;   ///< Others of its layer, because those were too few, or all were asked for.
};

/// What a rotation is and costs.
struct RotationReport {
  std::string kind = "none";  ///< QuantizeOptions::rotate
  std::string matrix;         ///< "width 640 as 32 x 20, Paley"
  /// Of the head that was the embedding before and is a tensor of its own now, as stored; they are
  /// among QuantizeReport::bytes, its parameters among those that bits_per_weight divides by.
  int64_t untied_head_bytes = 0;
};

/// Keys or values of one attention over the calibration tokens.
struct CacheFigures {
  double minimum = 0;
  double maximum = 0;
  double beyond_e4m3 = 0;  ///< Share above 448 in magnitude: what a cache without scales clips.
  /// Signal-to-noise ratio of what the cache gives back; the signal is what differs between tokens.
  std::optional<double> sqnr_db;
};

/// The quantized cache of one attention.
struct CacheReport {
  std::string name;    ///< "model.layers.0.self_attn"
  std::string format;  ///< "fp8", "int8"
  std::string scales;  ///< "tensor", "head"
  bool affine = false;
  int64_t kv_heads = 0;
  CacheFigures keys;  ///< As they are cached, after the rotary embedding.
  CacheFigures values;
};

struct QuantizeReport {
  std::string output;
  std::string sha256;
  int64_t bytes = 0;           ///< Of the model's tensors as stored, scales and masks included.
  int64_t file_bytes = 0;      ///< Of the file or files, metadata and texts included.
  double bits_per_weight = 0;  ///< 8 × bytes over parameters, embeddings and norms included.
  double seconds = 0;
  int64_t peak_rss_bytes = 0;
  int64_t planned_memory_bytes = 0;  ///< What the options and the largest layer need.
  int64_t calibration_tokens = 0;
  std::string calibration_sha256;
  RotationReport rotation;
  std::vector<LayerReport> layers;
  std::vector<ExpertReport> experts;
  std::vector<CacheReport> caches;  ///< Of attentions with a quantized cache, in order.
  std::vector<std::string> warnings;
  std::vector<std::pair<std::string, double>> phase_seconds;
};

/// Name and one line about each value of QuantizeOptions::qformat.
PARE_EXPORT std::vector<std::pair<std::string, std::string>> qformats();

/// Throws pare::Error. Nothing appears under options.output unless the call succeeds.
PARE_EXPORT QuantizeReport quantize(const QuantizeOptions& options, const Callbacks& callbacks);

/// One of the outputs of quantize_each().
struct FormatOutput {
  std::string qformat;
  std::string output;
};

/// The same model in several formats, calibrated once (with a quantized KV cache once for each):
/// options.qformat and options.output are those of each of `outputs`, whatever a recipe says. Equal
/// to quantize() with uncompressed_inputs for each, byte for byte. What calibration found goes to
/// options.save_stats, or to a file beside the first output that is removed at the end. Throws as
/// quantize(); outputs that were finished before stay.
PARE_EXPORT std::vector<QuantizeReport> quantize_each(const QuantizeOptions& options,
                                                      const std::vector<FormatOutput>& outputs,
                                                      const Callbacks& callbacks);

/// The report as JSON, schema "pare.quantize/1".
PARE_EXPORT std::string to_json(const QuantizeReport& report);

}  // namespace pare
