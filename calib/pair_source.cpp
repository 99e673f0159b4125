#include "calib/pair_source.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <utility>

#include "calib/text_input.h"
#include "calib/token_check.h"
#include "core/sha256.h"
#include "core/text.h"
#include "pare/error.h"
#include "tokenizer/tokenizer.h"

namespace pare {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<int32_t>;

constexpr const char* kForms =
    "expected \"source\" and \"target\", each a text or an array of token ids, or arrays "
    "\"input_ids\" and \"decoder_input_ids\" or \"labels\"";

// What encoder and decoder read for one pair.
struct Pair {
  Ids source;
  Ids decoder;
};

bool cut_to(Ids& ids, int64_t length) {
  if (length <= 0 || static_cast<int64_t>(ids.size()) <= length) return false;
  ids.resize(static_cast<size_t>(length));
  return true;
}

// The tokens of a text, whose special tokens stay where they are when the text is cut.
class TextEncoder {
 public:
  TextEncoder(const WeightSource& source, const ModelGraph& graph, bool parse_special)
      : source_(source), graph_(graph), parse_special_(parse_special) {}

  // At most `length` tokens, 0: all. Sets `was_cut` where there were more.
  Ids encode(std::string_view text, int64_t length, const std::string& where, bool& was_cut) {
    if (!tokenizer_) open(where);
    Ids ids = tokenizer_->encode(text, {true, parse_special_});
    const auto wanted = static_cast<size_t>(length);
    if (length <= 0 || ids.size() <= wanted) return ids;
    was_cut = true;
    const Ids bare = tokenizer_->encode(text, {false, parse_special_});
    const auto at = std::search(ids.begin(), ids.end(), bare.begin(), bare.end());
    const size_t specials = ids.size() - std::min(ids.size(), bare.size());
    if (at == ids.end() || specials == 0 || specials >= wanted) {
      ids.resize(wanted);
      return ids;
    }
    const auto too_many = static_cast<ptrdiff_t>(ids.size() - wanted);
    const auto end = at + static_cast<ptrdiff_t>(bare.size());
    ids.erase(end - too_many, end);
    return ids;
  }

 private:
  void open(const std::string& where) {
    const int64_t sources = graph_.encoder->embedding.vocab_size;
    const int64_t targets = graph_.embedding.vocab_size;
    if (sources != targets) {
      fail_input(where, source_.path() + " reads sources in a vocabulary of " +
                            std::to_string(sources) + " tokens and targets in one of " +
                            std::to_string(targets) + ", which no single tokenizer writes; " +
                            instead());
    }
    try {
      tokenizer_ = load_tokenizer(source_);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kInputMissing) throw;
      throw Error(error.code(), std::string(error.what()) + "; " + instead());
    }
  }

  static std::string instead() {
    return "give token ids: arrays \"input_ids\" and \"labels\" (FSMT's vocab-src.json and "
           "vocab-tgt.json are not read)";
  }

  const WeightSource& source_;
  const ModelGraph& graph_;
  bool parse_special_;
  std::optional<Tokenizer> tokenizer_;
};

const Json* array_at(const Json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_array() ? &*found : nullptr;
}

// transformers' labels end in −100 where there is padding, which no loss counts.
Json without_padding(Json labels) {
  constexpr int64_t kIgnored = -100;
  while (!labels.empty() && labels.back().is_number_integer() &&
         labels.back().get<int64_t>() == kIgnored) {
    labels.erase(labels.size() - 1);
  }
  return labels;
}

class PairReader {
 public:
  PairReader(const std::string& path, const WeightSource& source, const ModelGraph& graph,
             const PairOptions& options)
      : path_(path),
        source_(source),
        graph_(graph),
        options_(options),
        encoder_(source, graph, options.parse_special) {}

  TokenPairs read() {
    check();
    const InputText input(path_);
    TokenPairs result;
    result.text_sha256 = check_is_text(input, path_);
    std::vector<Pair> pairs;
    visit_lines(input, options_.seed, [&](std::string_view line, size_t number) {
      if (is_blank_line(line)) return true;
      bool was_cut = false;
      pairs.push_back(read_line(line, path_ + ", line " + std::to_string(number + 1), was_cut));
      result.cut += was_cut ? 1 : 0;
      return options_.count <= 0 || static_cast<int64_t>(pairs.size()) < options_.count;
    });
    if (pairs.empty()) fail_input(path_, std::string("holds no pair; ") + kForms);
    if (static_cast<int64_t>(pairs.size()) < options_.count) {
      fail_input(path_, "holds " + std::to_string(pairs.size()) + " pairs, " +
                            std::to_string(options_.count) + " are needed: give more, or take " +
                            "fewer");
    }
    result.windows = windows_of(pairs);
    return result;
  }

 private:
  void check() const {
    if (!graph_.encoder) {
      throw Error(ErrorCode::kInternal, source_.path() + ": has no encoder to read sources");
    }
    if (options_.length == 1 || options_.length < 0) {
      throw Error(ErrorCode::kUsage, "pairs are cut to " + std::to_string(options_.length) +
                                         " tokens; a target and its start token need at least 2");
    }
    if (lower_ascii(std::filesystem::path(path_).extension().string()) != ".jsonl") {
      fail_input(path_, source_.path() +
                            " has an encoder and a decoder, which read pairs: give a .jsonl file "
                            "with an object a line, " +
                            kForms);
    }
  }

  Pair read_line(std::string_view line, const std::string& where, bool& was_cut) {
    const Json json = parse_object_line(line, where);
    Pair pair;
    const Json* sources = array_at(json, "input_ids");
    const Json* decoder = array_at(json, "decoder_input_ids");
    const Json* labels = array_at(json, "labels");
    if (sources != nullptr && (decoder != nullptr || labels != nullptr)) {
      pair.source = ids_from_json(*sources, where);
      pair.decoder = decoder != nullptr
                         ? ids_from_json(*decoder, where)
                         : with_start(ids_from_json(without_padding(*labels), where), where);
    } else if (json.contains("source") && json.contains("target")) {
      pair.source = ids_of(json["source"], options_.length, where, was_cut);
      const int64_t room = options_.length > 0 ? options_.length - start_tokens() : 0;
      pair.decoder = with_start(ids_of(json["target"], room, where, was_cut), where);
    } else {
      fail_input(where, std::string("holds no pair; ") + kForms);
    }
    was_cut = cut_to(pair.source, options_.length) || was_cut;
    was_cut = cut_to(pair.decoder, options_.length) || was_cut;
    if (pair.source.empty()) fail_input(where, "the source has no token");
    if (pair.decoder.size() < 2) {
      fail_input(where,
                 "the target has no token behind its first one, so that there is nothing to "
                 "predict");
    }
    check_token_ids(pair.source, graph_.encoder->embedding.vocab_size, where + ", source",
                    source_.path());
    check_token_ids(pair.decoder, std::min(graph_.embedding.vocab_size, graph_.vocab_size),
                    where + ", target", source_.path());
    return pair;
  }

  Ids ids_of(const Json& side, int64_t length, const std::string& where, bool& was_cut) {
    if (side.is_array()) return ids_from_json(side, where);
    if (!side.is_string()) fail_input(where, kForms);
    return encoder_.encode(side.get_ref<const std::string&>(), length, where, was_cut);
  }

  // Tokens that with_start() adds.
  int64_t start_tokens() const { return graph_.decoder_start == kLastTargetToken ? 0 : 1; }

  // Teacher forcing: the target one position later.
  Ids with_start(Ids target, const std::string& where) const {
    if (target.empty()) fail_input(where, "the target has no token");
    if (graph_.decoder_start == kLastTargetToken) {
      std::rotate(target.begin(), target.end() - 1, target.end());
    } else {
      target.insert(target.begin(), graph_.decoder_start);
    }
    return target;
  }

  TokenWindows windows_of(const std::vector<Pair>& pairs) const {
    TokenWindows windows;
    windows.count = static_cast<int64_t>(pairs.size());
    windows.sources.begin.push_back(0);
    for (const Pair& pair : pairs) {
      windows.length = std::max(windows.length, static_cast<int64_t>(pair.decoder.size()));
    }
    for (const Pair& pair : pairs) {
      Ids& ids = windows.ids;
      ids.insert(ids.end(), pair.decoder.begin(), pair.decoder.end());
      // Any token that exists will do: nothing reads what follows the target.
      ids.resize(ids.size() + static_cast<size_t>(windows.length) - pair.decoder.size(),
                 pairs[0].decoder[0]);
      windows.used.push_back(static_cast<int64_t>(pair.decoder.size()));
      SourceTokens& sources = windows.sources;
      sources.ids.insert(sources.ids.end(), pair.source.begin(), pair.source.end());
      sources.begin.push_back(static_cast<int64_t>(sources.ids.size()));
    }
    windows.ids_sha256 = pairs_sha256(windows);
    return windows;
  }

  const std::string& path_;
  const WeightSource& source_;
  const ModelGraph& graph_;
  const PairOptions& options_;
  TextEncoder encoder_;
};

}  // namespace

TokenPairs read_pairs(const std::string& path, const WeightSource& source, const ModelGraph& graph,
                      const PairOptions& options) {
  return PairReader(path, source, graph, options).read();
}

TokenWindows first_windows(const TokenWindows& windows, int64_t count) {
  TokenWindows first = windows;
  first.count = count;
  first.ids.resize(static_cast<size_t>(count * windows.length));
  if (!windows.used.empty()) first.used.resize(static_cast<size_t>(count));
  if (!windows.sources.empty()) {
    first.sources.begin.resize(static_cast<size_t>(count) + 1);
    first.sources.ids.resize(static_cast<size_t>(first.sources.begin.back()));
  }
  first.ids_sha256 = pairs_sha256(first);
  return first;
}

std::string pairs_sha256(const TokenWindows& windows) {
  static_assert(std::endian::native == std::endian::little);
  Sha256 hash;
  const auto add = [&](std::span<const int32_t> ids) {
    const auto count = static_cast<int32_t>(ids.size());
    hash.update(std::as_bytes(std::span(&count, 1)));
    hash.update(std::as_bytes(ids));
  };
  const std::span<const int32_t> sources(windows.sources.ids);
  const std::span<const int32_t> targets(windows.ids);
  for (int64_t window = 0; window < windows.count; ++window) {
    const auto begin = static_cast<size_t>(windows.sources.begin[static_cast<size_t>(window)]);
    add(sources.subspan(begin, static_cast<size_t>(windows.sources.length(window))));
    add(targets.subspan(static_cast<size_t>(window * windows.length),
                        static_cast<size_t>(windows.tokens_of(window))));
  }
  return hash.finish();
}

}  // namespace pare
