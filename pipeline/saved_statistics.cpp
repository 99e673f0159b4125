#include "pipeline/saved_statistics.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "core/tensor_view.h"
#include "formats/checkpoint_reader.h"
#include "pare/error.h"

namespace pare {
namespace {

using Json = nlohmann::json;

constexpr const char* kSchema = "pare.statistics/1";
constexpr const char* kGram = ".input_gram";
constexpr const char* kAmax = ".input_amax";
constexpr const char* kMeanAbs = ".input_mean_abs";
constexpr const char* kSquareSum = ".input_square_sum";
constexpr const char* kSample = ".input_sample";
constexpr const char* kTokens = ".input_tokens";  // all, chosen and added ones of an expert

std::string origin_json(const StatisticsOrigin& origin) {
  return Json{{"schema", kSchema},
              {"source_sha256", origin.source_sha256},
              {"rotate", origin.rotate},
              {"rotate_seed", origin.rotate_seed},
              {"moe_calib", origin.moe_calib},
              {"ids_sha256", origin.ids_sha256},
              {"text_sha256", origin.text_sha256},
              {"calib_size", origin.calibration_size},
              {"calib_seqlen", origin.calibration_seqlen},
              {"seed", origin.seed},
              {"tokens", origin.tokens}}
      .dump();
}

StatisticsOrigin read_origin(const std::string& path, const std::string& text) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("schema") || json["schema"] != kSchema) {
    throw Error(ErrorCode::kInputMalformed,
                path + ": holds a model, not statistics; quantize --save-stats writes those");
  }
  StatisticsOrigin origin;
  try {
    origin.source_sha256 = json.at("source_sha256").get<std::string>();
    origin.rotate = json.at("rotate").get<std::string>();
    origin.rotate_seed = json.at("rotate_seed").get<uint64_t>();
    origin.moe_calib = json.at("moe_calib").get<std::string>();
    origin.ids_sha256 = json.at("ids_sha256").get<std::string>();
    origin.text_sha256 = json.at("text_sha256").get<std::string>();
    origin.calibration_size = json.at("calib_size").get<int64_t>();
    origin.calibration_seqlen = json.at("calib_seqlen").get<int64_t>();
    origin.seed = json.at("seed").get<uint64_t>();
    origin.tokens = json.at("tokens").get<int64_t>();
  } catch (const Json::exception& error) {
    throw Error(ErrorCode::kInputMalformed,
                path + ": what its statistics are of cannot be read: " + error.what());
  }
  return origin;
}

size_t triangle(int64_t columns) { return static_cast<size_t>(columns * (columns + 1) / 2); }

template <typename Element>
std::vector<Element> elements(const TensorView& view) {
  std::vector<Element> values(view.bytes.size() / sizeof(Element));
  if (!values.empty()) std::memcpy(values.data(), view.bytes.data(), view.bytes.size());
  return values;
}

}  // namespace

void round_as_saved(InputStatistics& statistics) {
  for (double& value : statistics.gram) value = static_cast<double>(static_cast<float>(value));
}

StatisticsWriter::StatisticsWriter(const std::string& path, CheckpointHeader header,
                                   const StatisticsOrigin& origin, bool force)
    : writer_(
          path,
          [&] {
            header.recipe_json = origin_json(origin);
            header.text_files.clear();
            return header;
          }(),
          force) {}

void StatisticsWriter::write(const std::string& linear, const InputStatistics& statistics,
                             const ExpertTokens& tokens) {
  const int64_t in = statistics.in_features;
  const auto add = [&](const char* suffix, DType dtype, Shape shape, const auto& values) {
    writer_.write_dense(linear + suffix,
                        {dtype, std::move(shape), std::as_bytes(std::span(values))});
  };
  std::vector<float> gram;
  gram.reserve(triangle(in));
  for (int64_t row = 0; row < in; ++row) {
    for (int64_t i = row; i < in; ++i) {
      gram.push_back(static_cast<float>(statistics.gram[static_cast<size_t>(row * in + i)]));
    }
  }
  add(kGram, DType::kF32, {static_cast<int64_t>(gram.size())}, gram);
  add(kAmax, DType::kF32, {in}, statistics.amax);
  add(kMeanAbs, DType::kF32, {in}, statistics.mean_abs);
  add(kSquareSum, DType::kF64, {in}, statistics.square_sum);
  add(kSample, DType::kBf16, {statistics.sample_tokens, in}, statistics.sample);
  const std::vector<int64_t> counts = {statistics.tokens, tokens.routed, tokens.added};
  add(kTokens, DType::kI64, {3}, counts);
}

SavedStatistics::SavedStatistics(const std::string& path)
    : path_(path),
      source_(open_checkpoint(path)),
      origin_(read_origin(path, source_->recipe_json())) {}

void SavedStatistics::check_model(const std::string& model, const StatisticsOrigin& wanted) const {
  const auto require = [&](const char* what, const std::string& found,
                           const std::string& expected) {
    if (found == expected) return;
    throw Error(ErrorCode::kInputMalformed, path_ + ": its statistics are of another " + what +
                                                ": found " + found + ", expected " + expected +
                                                " of " + model + "; save them anew");
  };
  require("model", origin_.source_sha256, wanted.source_sha256);
  const auto rotation = [](const StatisticsOrigin& origin) {
    return origin.rotate == "none" ? origin.rotate
                                   : origin.rotate + ", seed " + std::to_string(origin.rotate_seed);
  };
  require("rotation", rotation(origin_), rotation(wanted));
  require("moe_calib", origin_.moe_calib, wanted.moe_calib);
  if (!wanted.ids_sha256.empty()) {
    require("calibration text", origin_.ids_sha256, wanted.ids_sha256);
  }
}

TensorView SavedStatistics::view(const std::string& name) const {
  if (!source_->contains(name)) {
    throw Error(ErrorCode::kInputMalformed,
                path_ + ": has no \"" + name + "\": its statistics do not cover this linear");
  }
  return source_->dense(name);
}

InputStatistics SavedStatistics::read(const std::string& linear, int64_t in_features) const {
  const auto columns = static_cast<size_t>(in_features);
  const auto fail = [&](const char* part) {
    throw Error(ErrorCode::kInputMalformed,
                path_ + ": \"" + linear + part +
                    "\" does not have the size or type of statistics of " +
                    std::to_string(in_features) + " channels");
  };
  const auto get = [&]<typename Element>(const char* part, DType dtype, size_t count, Element) {
    const TensorView found = view(linear + part);
    if (found.dtype != dtype || found.bytes.size() != count * sizeof(Element)) fail(part);
    return elements<Element>(found);
  };
  InputStatistics statistics;
  statistics.in_features = in_features;
  const std::vector<int64_t> counts = get(kTokens, DType::kI64, 3, int64_t{});
  statistics.tokens = counts[0];
  statistics.amax = get(kAmax, DType::kF32, columns, float{});
  statistics.mean_abs = get(kMeanAbs, DType::kF32, columns, float{});
  statistics.square_sum = get(kSquareSum, DType::kF64, columns, double{});
  const Shape sample = source_->shape(linear + kSample);
  if (sample.size() != 2 || sample[0] < 0 || sample[1] != in_features) fail(kSample);
  statistics.sample_tokens = sample[0];
  statistics.sample =
      get(kSample, DType::kBf16, static_cast<size_t>(sample[0]) * columns, uint16_t{});
  const std::vector<float> gram = get(kGram, DType::kF32, triangle(in_features), float{});
  statistics.gram.resize(columns * columns);
  const float* next = gram.data();
  for (size_t row = 0; row < columns; ++row) {
    for (size_t i = row; i < columns; ++i) {
      const auto value = static_cast<double>(*next++);
      statistics.gram[row * columns + i] = value;
      statistics.gram[i * columns + row] = value;
    }
  }
  const bool finite =
      std::all_of(gram.begin(), gram.end(), [](float v) { return std::isfinite(v); });
  if (statistics.tokens <= 0 || !finite) fail(kGram);
  for (const char* part : {kGram, kAmax, kMeanAbs, kSquareSum, kSample, kTokens}) {
    source_->release({linear + part});
  }
  return statistics;
}

ExpertTokens SavedStatistics::expert_tokens(const std::string& linear) const {
  const std::vector<int64_t> counts = elements<int64_t>(view(linear + kTokens));
  if (counts.size() != 3) return {};
  return {counts[1], counts[2]};
}

}  // namespace pare
