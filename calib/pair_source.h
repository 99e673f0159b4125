// Source and target texts for encoder-decoder models, as token ids.
//
// A .jsonl file with an object a line: "source" and "target" as text or as arrays of ids; or
// "input_ids" with "decoder_input_ids" (what the decoder reads, start token included) or "labels"
// (without it; -100 at the end, which stands for padding, is left out). Texts get the special
// tokens of the model's tokenizer.
//
// The decoder is teacher-forced: it reads the start token and the target, and what is scored is the
// target. Where the model's start token is kLastTargetToken the last token of the target, its
// language, moves to the front.
//
//   TokenPairs pairs = read_pairs("wmt.jsonl", source, graph, {.count = 128, .length = 512});
//   pairs.windows.sources.length(3);   // tokens that the encoder reads for window 3
#pragma once

#include <cstdint>
#include <string>

#include "calib/token_source.h"
#include "formats/weight_source.h"
#include "model/block_graph.h"

namespace pare {

struct PairOptions {
  int64_t count = 0;  ///< Exactly so many pairs; 0: all there are.
  /// What encoder and decoder read is cut to so many tokens, special and start tokens included,
  /// which texts keep; 0: to none.
  int64_t length = 0;
  uint64_t seed = 0;           ///< Order in which pairs are drawn; 0 keeps the file's.
  bool parse_special = false;  ///< As EncodeOptions::parse_special.
};

struct TokenPairs {
  /// A window for each pair, as long as the longest; what the decoder reads of it is `used`, at
  /// least 2 tokens. Behind it the window is padded.
  TokenWindows windows;
  std::string text_sha256;  ///< Of the file.
  int64_t cut = 0;          ///< Pairs that were longer than `length`.
};

/// Throws Error(kInputMissing) or Error(kInputMalformed) naming file and line: no pair, ids outside
/// of the vocabulary, fewer pairs than asked for (with both numbers), text for a model without a
/// tokenizer. REQUIRES: graph.encoder.
TokenPairs read_pairs(const std::string& path, const WeightSource& source, const ModelGraph& graph,
                      const PairOptions& options);

/// The first `count` of windows that read_pairs() made.
TokenWindows first_windows(const TokenWindows& windows, int64_t count);

/// SHA-256 for reports: of each window the source and what the decoder reads, each as its number of
/// tokens and the ids, all in little-endian 32-bit integers.
std::string pairs_sha256(const TokenWindows& windows);

}  // namespace pare
