// Rotating the residual stream changes nothing that a model computes, for every architecture whose
// stream can be rotated; the others are refused with the reason.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "core/dtype.h"
#include "formats/beside_source.h"
#include "model/block_parameters.h"
#include "model/block_runner.h"
#include "model/rotate_model.h"
#include "model/rotation_plan.h"
#include "model/token_embedding.h"
#include "pare/error.h"
#include "tests/model/every_model.h"

namespace pare::testing {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

// Why the stream of an architecture cannot be rotated; empty: it can.
std::string refusal(const std::string& config) {
  const std::string mean = "takes off the mean";
  const std::map<std::string, std::string> by_begin = {
      {"Falcon", mean},
      {"RefinedWeb", mean},
      {"GptTwo", mean},
      {"BigCode", mean},
      {"NeoX", mean},
      {"StarCoder", mean},
      {"Mpt", mean},
      {"Bloom", mean},
      {"Opt", mean},
      {"Nemotron", mean},
      {"Gemma", "stands behind"},
      {"GlmFour", "stands behind"},
      {"OlmoTwo", "stands behind"},
      {"TFive", "encoder"},
      {"MTFive", "encoder"},
      {"Bart", "encoder"},
      {"MBart", "encoder"},
      {"Fsmt", "encoder"},
      {"FalconMamba", ""},
  };
  std::string best;
  std::string reason;
  for (const auto& [begin, why] : by_begin) {
    if (!config.starts_with(begin) || begin.size() < best.size()) continue;
    best = begin;
    reason = why;
  }
  return reason;
}

ModelFiles bind(const MemorySource& source) {
  return bind_model(std::make_shared<const MemorySource>(source));
}

std::vector<float> logits_of(const ModelFiles& model) {
  std::vector<float> all;
  const auto sequences = random_sequences(model.graph, {23, 9}, kModelSeed + 1);
  for (const auto& one : run_sequences(model.graph, *model.source, sequences, Precision::kF32)) {
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

// In FP32 everywhere.
RotatedModel rotate(const ModelFiles& model, bool heads, uint64_t seed = 3) {
  return rotate_model(model, {.heads = heads, .seed = seed}, {});
}

double difference(const ModelFiles& model, const RotatedModel& rotated) {
  return relative_error(logits_of(rotated.model), logits_of(model));
}

std::vector<float> values_of(const WeightSource& source, const std::string& name) {
  return to_f32(source.dense(name), name);
}

std::string failure_of_rotating(const ModelFiles& model, ErrorCode code = ErrorCode::kUsage) {
  try {
    rotate(model, true);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    return error.what();
  }
  ADD_FAILURE() << "rotate_model() did not fail";
  return "";
}

class RotationEvery : public EveryModel {
 protected:
  // The model with one tensor for embedding and head, or with two.
  ModelFiles model(bool tied) const {
    Json config = config_;
    config["tie_word_embeddings"] = tied;
    return bind(random_model(config, kModelSeed));
  }
};
INSTANTIATE_TEST_SUITE_P(Models, RotationEvery, ::testing::ValuesIn(model_configs()), name_of);

std::vector<NamedConfig> rotatable_configs() {
  std::vector<NamedConfig> configs = model_configs();
  std::erase_if(configs, [](const NamedConfig& one) { return !refusal(one.name).empty(); });
  return configs;
}

class RotatedEvery : public RotationEvery {};
INSTANTIATE_TEST_SUITE_P(Models, RotatedEvery, ::testing::ValuesIn(rotatable_configs()), name_of);

TEST_P(RotationEvery, KeepsTheLogitsOrIsRefused) {
  SCOPED_TRACE("seed " + std::to_string(kModelSeed));
  const std::string why = refusal(GetParam().name);
  if (!why.empty()) {
    const std::string message = failure_of_rotating(bind(source_));
    EXPECT_THAT(message, HasSubstr(why));
    EXPECT_THAT(message, HasSubstr(graph_.architecture));
    return;
  }
  for (const bool tied : {false, true}) {
    SCOPED_TRACE(tied ? "tied" : "untied");
    const ModelFiles original = model(tied);
    for (const bool heads : {false, true}) {
      SCOPED_TRACE(heads ? "with heads" : "without heads");
      const RotatedModel rotated = rotate(original, heads);
      EXPECT_LT(difference(original, rotated), 1e-4);
      EXPECT_TRUE(rotated.model.unused.empty());
      EXPECT_EQ(rotated.untied_bytes > 0, tied);
      EXPECT_NE(rotated.model.graph.head.matrix, rotated.model.graph.embedding.tokens);
    }
  }
}

// Every tensor that the stream touches is another one; norms on it are ones.
TEST_P(RotatedEvery, ChangesWhatTheStreamTouches) {
  const ModelFiles original = model(false);
  const RotatedModel rotated = rotate(original, false);
  const WeightSource& source = *rotated.model.source;
  int changed = 0;
  const auto check = [&](const BlockGraph& block) {
    for (const Op& op : block.ops) {
      const bool from_stream = op.inputs[0] == 0;
      if (op.kind == OpKind::kNorm && op.norm.weight && from_stream) {
        const std::vector<float> ones = values_of(source, block.full_name(op) + ".weight");
        EXPECT_THAT(ones, ::testing::Each(1 - op.norm.weight_offset));
        ++changed;
      }
    }
  };
  for (const BlockGraph& block : rotated.model.graph.blocks) check(block);
  check(rotated.model.graph.head.tail);
  EXPECT_GT(changed, 1);
  for (const std::string& name : {graph_.embedding.tokens, original.graph.head.matrix}) {
    EXPECT_NE(values_of(source, name), values_of(*original.source, name));
    EXPECT_EQ(source.shape(name), original.source->shape(name));
  }
}

// The bytes of a tensor do not depend on how it is read.
TEST_P(RotatedEvery, TensorsAreTheSameInParts) {
  const RotatedModel rotated = rotate(model(true), true);
  const WeightSource& source = *rotated.model.source;
  for (const std::string& name : source.names()) {
    const std::vector<float> whole = values_of(source, name);
    const auto count = static_cast<int64_t>(whole.size());
    std::vector<float> read(whole.size());
    const int64_t step = count / 3 + 1;
    for (int64_t first = 0; first < count; first += step) {
      const int64_t size = std::min(step, count - first);
      const auto part =
          std::span(read).subspan(static_cast<size_t>(first), static_cast<size_t>(size));
      source.read(name, first, std::as_writable_bytes(part));
      const TensorView view = source.dense_part(name, first, size);
      EXPECT_EQ(std::memcmp(view.bytes.data(), part.data(), part.size_bytes()), 0) << name;
    }
    EXPECT_EQ(read, whole) << name;
    EXPECT_EQ(source.stored_bytes(name), count * 4);
    source.release({name});
  }
  EXPECT_TRUE(std::is_sorted(source.names().begin(), source.names().end()));
}

class RotationOfLlama : public ::testing::Test {
 protected:
  RotationOfLlama() { config_["tie_word_embeddings"] = false; }

  Json config_ = small_llama_config();
  MemorySource source_ = random_model(config_, kModelSeed);
};

TEST_F(RotationOfLlama, HeadsOfAllAttentionsAreRotated) {
  for (const char* name : {"LlamaBiased", "Phi", "DeepSeek", "GptOss", "QwenThree", "Jamba"}) {
    SCOPED_TRACE(name);
    const ModelFiles model = bind(random_model(Json::parse(model_config(name).json), kModelSeed));
    const RotatedModel plain = rotate(model, false);
    const RotatedModel heads = rotate(model, true);
    EXPECT_EQ(plain.attentions, 0);
    EXPECT_GT(heads.attentions, 0);
    EXPECT_EQ(heads.rotated_attentions, heads.attentions);
    int changed = 0;
    for (const std::string& tensor : heads.model.source->names()) {
      changed += values_of(*plain.model.source, tensor) != values_of(*heads.model.source, tensor);
    }
    EXPECT_GE(changed, 2 * heads.attentions);
  }
}

TEST_F(RotationOfLlama, KeepsLengths) {
  const ModelFiles model = bind(source_);
  const RotatedModel rotated = rotate(model, false);
  const std::string name = "model.embed_tokens.weight";
  const std::vector<float> before = source_.values(name);
  const std::vector<float> after = values_of(*rotated.model.source, name);
  const size_t width = 48;
  for (size_t row = 0; row < before.size(); row += width) {
    double one = 0;
    double other = 0;
    for (size_t i = row; i < row + width; ++i) {
      one += static_cast<double>(before[i]) * static_cast<double>(before[i]);
      other += static_cast<double>(after[i]) * static_cast<double>(after[i]);
    }
    EXPECT_NEAR(other / one, 1, 1e-6);
  }
}

TEST_F(RotationOfLlama, OtherSeedsGiveOtherTensors) {
  const ModelFiles model = bind(source_);
  const RotatedModel one = rotate(model, false, 1);
  const RotatedModel other = rotate(model, false, 2);
  EXPECT_NE(values_of(*one.model.source, "lm_head.weight"),
            values_of(*other.model.source, "lm_head.weight"));
  EXPECT_NE(one.model.source->sha256(), other.model.source->sha256());
  EXPECT_EQ(one.model.source->sha256(), rotate(model, false, 1).model.source->sha256());
  EXPECT_NE(one.model.source->sha256(), rotate(model, true, 1).model.source->sha256());
}

// A head of its own that a tied model stores is not what it uses.
TEST_F(RotationOfLlama, OfATiedModelComesFromTheEmbedding) {
  config_["tie_word_embeddings"] = true;
  source_ = random_model(config_, kModelSeed);
  const ModelFiles model = bind(source_);
  source_.set("lm_head.weight", {{100, 48}, std::vector<float>(4800, 0.5F)});
  const ModelFiles with_stale = bind(source_);
  EXPECT_EQ(with_stale.unused, std::vector<std::string>{"lm_head.weight"});
  const RotatedModel rotated = rotate(with_stale, true);
  EXPECT_TRUE(rotated.model.unused.empty());
  EXPECT_LT(relative_error(logits_of(rotated.model), logits_of(model)), 1e-4);
  const Json config = Json::parse(rotated.model.source->config_json());
  EXPECT_EQ(config.at("tie_word_embeddings"), false);
  EXPECT_EQ(rotated.untied_bytes, 4800 * 4);
  // What opens the checkpoint describes it as the quantizer did.
  EXPECT_EQ(graph_of(config).head.matrix, rotated.model.graph.head.matrix);
}

TEST_F(RotationOfLlama, AdaptersBesideLinearsFollow) {
  std::mt19937 random(kModelSeed);
  std::normal_distribution<float> normal;
  const ModelGraph graph = graph_of(config_);
  constexpr int64_t kRank = 3;
  for (const BlockGraph& block : graph.blocks) {
    for (const Op& op : block.ops) {
      if (op.kind != OpKind::kLinear) continue;
      MemoryTensor a{{kRank, block.in_features(op)}, {}};
      MemoryTensor b{{block.out_features(op), kRank}, {}};
      for (MemoryTensor* factor : {&a, &b}) {
        factor->values.resize(static_cast<size_t>(element_count(factor->shape)));
        for (float& value : factor->values) value = 0.3F * normal(random);
      }
      source_.set(block.full_name(op) + kLoraASuffix, std::move(a));
      source_.set(block.full_name(op) + kLoraBSuffix, std::move(b));
    }
  }
  const ModelFiles model = bind(source_);
  EXPECT_TRUE(model.unused.empty());
  EXPECT_LT(difference(model, rotate(model, true)), 1e-4);
}

// Largest magnitude over the root of the mean square, of the stream at each block's input; the
// mean over tokens and blocks.
double peak_of_stream(const ModelFiles& model) {
  const TokenEmbedding embedding(model.graph.embedding, *model.source, Precision::kF32);
  const std::vector<int32_t> ids = random_ids(model.graph, 24, kModelSeed);
  const auto width = static_cast<size_t>(model.graph.hidden_size);
  std::vector<float> hidden(ids.size() * width);
  embedding.embed(ids, 0, hidden.data());
  PositionTables positions(64);
  double sum = 0;
  double rows = 0;
  for (const BlockGraph& block : model.graph.blocks) {
    const BlockWeights weights = load_block(block, *model.source, Precision::kF32);
    const BlockRunner runner(block, weights, positions, Precision::kF32);
    BlockWorkspace workspace(block, {.length = 24}, Precision::kF32);
    runner.run(hidden.data(), 24, workspace, {});
    for (size_t row = 0; row < hidden.size(); row += width) {
      double square = 0;
      float most = 0;
      for (size_t i = row; i < row + width; ++i) {
        square += static_cast<double>(hidden[i]) * static_cast<double>(hidden[i]);
        most = std::max(most, std::abs(hidden[i]));
      }
      sum += static_cast<double>(most) / std::sqrt(square / static_cast<double>(width));
      rows += 1;
    }
  }
  return sum / rows;
}

TEST_F(RotationOfLlama, TakesOutliersOffTheStream) {
  // Two channels of forty-eight that everything writes to thirty times as much.
  for (const std::string& name : source_.names()) {
    const bool writer = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
    if (!writer && name != "model.embed_tokens.weight") continue;
    std::vector<float>& values = source_.values(name);
    const auto width = static_cast<size_t>(source_.shape(name)[1]);
    for (size_t i = 0; i < values.size(); ++i) {
      const size_t channel = writer ? i / width : i % width;
      if (channel == 5 || channel == 30) values[i] *= 30;
    }
  }
  const ModelFiles model = bind(source_);
  const RotatedModel rotated = rotate(model, false);
  const double before = peak_of_stream(model);
  const double after = peak_of_stream(rotated.model);
  EXPECT_GT(before, 4.5);  // one channel alone would give 6.9
  EXPECT_LT(after, 2.5);
  EXPECT_LT(difference(model, rotated), 1e-4);
}

TEST_F(RotationOfLlama, WhatIsNotFiniteIsNamed) {
  source_.values("model.norm.weight")[3] = std::numeric_limits<float>::infinity();
  EXPECT_THAT(failure_of_rotating(bind(source_), ErrorCode::kNonFinite),
              HasSubstr("model.norm.weight"));
  source_.values("model.norm.weight")[3] = 1;
  std::vector<float>& head = source_.values("lm_head.weight");
  std::fill(head.begin(), head.end(), 3e38F);
  const RotatedModel rotated = rotate(bind(source_), false);
  try {
    rotated.model.source->dense("lm_head.weight");
    ADD_FAILURE() << "an overflow was not seen";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNonFinite);
    EXPECT_THAT(error.what(), HasSubstr("lm_head.weight"));
  }
}

TEST_F(RotationOfLlama, WidthsWithoutARotationAreRefused) {
  config_["hidden_size"] = 2 * 4099;
  config_["head_dim"] = 8;
  const std::string head = "lm_head.weight";
  try {
    plan_rotation(graph_of(config_), head, false, "model");
    ADD_FAILURE() << "the width was not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    EXPECT_THAT(error.what(), HasSubstr("8198"));
  }
}

TEST_F(RotationOfLlama, PositionsAndStemsAreRefused) {
  ModelFiles model = bind(source_);
  model.graph.embedding.position_kind = PositionKind::kLearned;
  EXPECT_THAT(failure_of_rotating(model), HasSubstr("positions"));
  model = bind(source_);
  model.graph.embedding.stem = model.graph.head.tail;
  EXPECT_THAT(failure_of_rotating(model), HasSubstr("between the embedding"));
}

}  // namespace
}  // namespace pare::testing
