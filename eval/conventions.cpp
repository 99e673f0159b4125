#include "eval/conventions.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <span>
#include <string_view>

#include "calib/pair_source.h"
#include "calib/token_check.h"
#include "core/sha256.h"
#include "eval/limit.h"
#include "eval/model_limits.h"
#include "pare/error.h"

namespace pare {
namespace {

enum class Cut { kWindows, kLlamaCpp, kStrided };

struct Convention {
  std::string_view name;
  std::string_view summary;
  Cut cut = Cut::kWindows;
  TextLayout layout = TextLayout::kAsIs;
  int64_t ctx = 512;
};

constexpr Convention kConventions[] = {
    {"perplexity", "of a text in windows that do not overlap; KL divergence, agreement"},
    {"perplexity_gptq", "as GPTQ and AWQ publish it for WikiText-2: rows joined, windows of 2048",
     Cut::kWindows, TextLayout::kRowsJoined, 2048},
    {"perplexity_llama", "as llama.cpp prints it: the second half of each window", Cut::kLlamaCpp},
    {"perplexity_strided", "overlapping windows, in each of which the new tokens are scored",
     Cut::kStrided},
};

const Convention& convention_named(const std::string& name) {
  for (const Convention& convention : kConventions) {
    if (convention.name == name) return convention;
  }
  throw Error(ErrorCode::kInternal, "no convention is called " + name);
}

using Ids = std::span<const int32_t>;

bool is_one_of(int32_t id, Ids ids) { return std::find(ids.begin(), ids.end(), id) != ids.end(); }

// What the ids say about the beginning of the text.
std::string describe_bos(Ids ids, Ids bos) {
  if (bos.empty()) return "no BOS token";
  if (!is_one_of(ids[0], bos)) return "no BOS at the start";
  const auto count =
      std::count_if(ids.begin(), ids.end(), [&](int32_t id) { return is_one_of(id, bos); });
  return count == 1 ? "BOS once" : "BOS " + std::to_string(count) + " times";
}

std::string hash_of(Ids ids) {
  static_assert(std::endian::native == std::endian::little);
  return sha256_hex(std::as_bytes(ids));
}

// One reading of a text; the steps fill `text`.
class TextCutter {
 public:
  TextCutter(const Convention& convention, const EvaluateOptions& options,
             const EvaluatedModel& model)
      : convention_(convention), options_(options), bos_(bos_tokens(model)) {
    documents_ =
        read_documents(options.text, *model.source, 0, 0,
                       {.layout = convention.layout, .parse_special = options.parse_special});
    text_.sha256 = documents_.text_sha256;
    for (const auto& document : documents_.documents) {
      text_.text_tokens += static_cast<int64_t>(document.size());
    }
    text_.ctx = options.ctx > 0 ? options.ctx : convention.ctx;
    text_.stride = text_.ctx;
  }

  PerplexityText cut() && {
    switch (convention_.cut) {
      case Cut::kWindows:
        windows();
        break;
      case Cut::kLlamaCpp:
        llama_cpp();
        break;
      case Cut::kStrided:
        strided();
        break;
    }
    return std::move(text_);
  }

 private:
  TokenWindows whole_windows() const {
    const int64_t available = text_.text_tokens / text_.ctx;
    const int64_t count = available == 0 ? 0 : limited_count(options_.limit, available);
    return make_windows(documents_, count, text_.ctx, options_.text);
  }

  void score_alike(TokenWindows windows, int64_t begin) {
    const std::vector<ScoredRange> ranges(static_cast<size_t>(windows.count),
                                          ScoredRange{begin, windows.length});
    text_.scored = scored_windows(std::move(windows), ranges);
  }

  std::string sizes() const {
    return "ctx " + std::to_string(text_.ctx) + ", stride " + std::to_string(text_.stride);
  }

  void windows() {
    score_alike(whole_windows(), 1);
    const bool joined = convention_.layout == TextLayout::kRowsJoined;
    text_.method = std::string(joined ? "GPTQ's and AWQ's windows, rows joined by two line ends: "
                                      : "wikitext-style windows: ") +
                   sizes() + ", tail dropped, " + describe_bos(text_.scored.windows.ids, bos_) +
                   ", positions 1…" + std::to_string(text_.ctx - 1) + " scored";
  }

  // A chunk's first token gives way to BOS where the tokenizer begins texts with it, and the
  // prediction of position i is scored from i = ctx / 2 on, that of the token at i + 1.
  void llama_cpp() {
    TokenWindows windows = whole_windows();
    const bool replaced = is_one_of(windows.ids[0], bos_);
    const int32_t bos = windows.ids[0];
    for (int64_t window = 0; replaced && window < windows.count; ++window) {
      windows.ids[static_cast<size_t>(window * windows.length)] = bos;
    }
    windows.ids_sha256 = hash_of(windows.ids);
    const int64_t begin = text_.ctx / 2 + 1;
    if (begin >= text_.ctx) {
      throw Error(ErrorCode::kUsage, "ctx is " + std::to_string(text_.ctx) +
                                         "; perplexity_llama scores the second half of a window, "
                                         "which needs at least 3 tokens");
    }
    score_alike(std::move(windows), begin);
    text_.method = "llama.cpp's chunks: " + sizes() + ", tail dropped, " +
                   (replaced ? "each chunk's first token replaced by BOS" : "no BOS") +
                   ", positions " + std::to_string(begin) + "…" + std::to_string(text_.ctx - 1) +
                   " scored";
  }

  // Windows begin at multiples of the stride until one reaches the end of the text.
  void strided() {
    const int64_t ctx = text_.ctx;
    text_.stride = options_.stride > 0 ? options_.stride : std::max<int64_t>(1, ctx / 2);
    if (text_.stride > ctx) {
      throw Error(ErrorCode::kUsage, "a stride of " + std::to_string(text_.stride) +
                                         " leaves tokens between windows of " +
                                         std::to_string(ctx) + " unscored; give at most ctx");
    }
    make_windows(documents_, text_.text_tokens < ctx ? 1 : 0, ctx, options_.text);  // long enough?
    const int64_t stride = text_.stride;
    const int64_t available = 1 + (text_.text_tokens - ctx + stride - 1) / stride;
    const int64_t count = limited_count(options_.limit, available);
    std::vector<int32_t> ids;
    for (const auto& document : documents_.documents) {
      ids.insert(ids.end(), document.begin(), document.end());
    }
    TokenWindows windows;
    windows.length = ctx;
    std::vector<ScoredRange> ranges;
    int64_t scored = 1;
    for (int64_t window = 0; window < count; ++window) {
      const int64_t begin = window * stride;
      const int64_t end = std::min(begin + ctx, text_.text_tokens);
      scored = std::max(scored, begin + 1);  // a window's first token has nothing before it
      if (scored == end) break;
      ++windows.count;
      windows.ids.insert(windows.ids.end(), ids.begin() + begin, ids.begin() + end);
      windows.ids.resize(static_cast<size_t>((window + 1) * ctx), ids[0]);
      ranges.push_back({scored - begin, end - begin});
      scored = end;
    }
    windows.ids_sha256 = hash_of(windows.ids);
    text_.scored = scored_windows(std::move(windows), std::move(ranges));
    text_.scored.windows_per_cluster = (ctx + stride - 1) / stride;
    text_.method = "strided windows: " + sizes() + ", the last one shorter, " +
                   describe_bos(Ids(ids).first(static_cast<size_t>(scored)), bos_) +
                   ", the tokens that are new in each scored";
  }

  const Convention& convention_;
  const EvaluateOptions& options_;
  std::vector<int32_t> bos_;
  TokenDocuments documents_;
  PerplexityText text_;
};

// Where the decoder's first token comes from, in words.
std::string describe_start(const ModelGraph& graph) {
  if (graph.decoder_start == kLastTargetToken) return "a target's last token moved to the front";
  return "token " + std::to_string(graph.decoder_start) + " before each target";
}

PerplexityText read_pair_text(int64_t ctx, const EvaluateOptions& options,
                              const EvaluatedModel& model) {
  TokenPairs pairs = read_pairs(options.text, *model.source, model.graph,
                                {.length = ctx, .seed = 0, .parse_special = options.parse_special});
  PerplexityText text;
  text.sha256 = pairs.text_sha256;
  text.ctx = text.stride = ctx;
  for (const int64_t used : pairs.windows.used) text.text_tokens += used;
  text.text_tokens += static_cast<int64_t>(pairs.windows.sources.ids.size());
  text.method = "pairs of source and target, teacher-forced: both cut to " + std::to_string(ctx) +
                " tokens (" + std::to_string(pairs.cut) + " of " +
                std::to_string(pairs.windows.count) + " pairs were longer), " +
                describe_start(model.graph) + ", all tokens of the targets scored";
  const int64_t count = limited_count(options.limit, pairs.windows.count);
  TokenWindows windows = first_windows(pairs.windows, count);
  std::vector<ScoredRange> ranges;
  for (const int64_t used : windows.used) ranges.push_back({1, used});
  text.scored = scored_windows(std::move(windows), std::move(ranges));
  return text;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> perplexity_tasks() {
  std::vector<std::pair<std::string, std::string>> tasks;
  for (const Convention& convention : kConventions) {
    tasks.emplace_back(convention.name, convention.summary);
  }
  return tasks;
}

bool is_perplexity_task(const std::string& name) {
  return std::any_of(std::begin(kConventions), std::end(kConventions),
                     [&](const Convention& convention) { return convention.name == name; });
}

int64_t usual_ctx(const std::string& task) { return convention_named(task).ctx; }

int64_t perplexity_ctx(const std::string& task, const EvaluateOptions& options,
                       std::span<const EvaluatedModel> models) {
  const Convention& convention = convention_named(task);
  if (&convention != &kConventions[0]) require_no_encoder(models, "task " + task);
  const int64_t limit = position_limit(models);
  if (options.ctx == 0) return limit > 0 ? std::min(limit, convention.ctx) : convention.ctx;
  require_positions(models, options.ctx, "ctx");
  return options.ctx;
}

PerplexityText read_perplexity_text(const std::string& task, const EvaluateOptions& options,
                                    const EvaluatedModel& model) {
  if (model.graph.encoder) {
    const int64_t ctx = perplexity_ctx(task, options, {&model, 1});
    return read_pair_text(ctx, options, model);
  }
  PerplexityText text = TextCutter(convention_named(task), options, model).cut();
  check_token_ids(text.scored.windows.ids, model.graph.vocab_size, options.text,
                  model.source->path());
  return text;
}

}  // namespace pare
