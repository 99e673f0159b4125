// What layer_errors() refuses, how it stops, and what it reports on the way.
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "eval/layer_error.h"
#include "pare/error.h"
#include "tests/eval_layers/layer_fixture.h"

namespace pare {
namespace {

using testing::int8_weight;
using testing::kModelSeed;
using testing::linear_weights;
using testing::MemorySource;
using testing::MixedSource;
using testing::model_of;
using testing::random_model;
using testing::random_windows;
using testing::small_llama_config;
using testing::tensor_of;

constexpr int64_t kEnough = int64_t{1} << 30;

struct Outcome {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
};

Outcome outcome_of(const EvaluatedModel& baseline, const EvaluatedModel& candidate,
                   int64_t bytes = kEnough, const Callbacks& callbacks = {}) {
  ThreadPool pool(2);
  ProgressMeter meter(callbacks, 0);
  try {
    layer_errors(baseline, candidate, random_windows(baseline.graph),
                 {.precision = Precision::kBf16, .hidden_bytes = bytes}, pool, meter);
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  ADD_FAILURE() << "layer_errors() did not fail";
  return {};
}

MixedSource rounded(const MemorySource& source, ActivationFormat activation) {
  MixedSource candidate(source);
  for (const std::string& name : linear_weights(testing::graph_of(small_llama_config()))) {
    CompressedWeight weight = int8_weight(tensor_of(source, name));
    weight.activation = activation;
    candidate.compress(name, weight);
  }
  return candidate;
}

TEST(LayerFailure, TooLittleMemoryIsRefusedWithWhatWouldDo) {
  const MemorySource source = random_model(small_llama_config(), kModelSeed);
  const EvaluatedModel baseline = model_of("base", source);
  const EvaluatedModel candidate =
      model_of("int8", rounded(source, ActivationFormat::kInt8Dynamic));
  const int64_t least = least_hidden_bytes(baseline, random_windows(baseline.graph));
  const Outcome outcome = outcome_of(baseline, candidate, least - 1);
  EXPECT_EQ(outcome.code, ErrorCode::kLimitExceeded);
  EXPECT_NE(outcome.message.find(std::to_string(least)), std::string::npos) << outcome.message;
}

TEST(LayerFailure, OtherLayersAreRefused) {
  const auto config = small_llama_config();
  const EvaluatedModel baseline = model_of("base", random_model(config, kModelSeed));
  for (const auto& [key, value] : std::map<std::string, int>{
           {"num_hidden_layers", 3}, {"intermediate_size", 64}, {"num_key_value_heads", 3}}) {
    nlohmann::json other = config;
    other[key] = value;
    const Outcome outcome =
        outcome_of(baseline, model_of("other", random_model(other, kModelSeed)));
    EXPECT_EQ(outcome.code, ErrorCode::kInputMalformed) << key;
    EXPECT_NE(outcome.message.find("made from the baseline"), std::string::npos) << outcome.message;
  }
}

// A finite weight whose product is not: only the linear that holds it is named.
TEST(LayerFailure, InfinityNamesTheLinear) {
  const MemorySource source = random_model(small_llama_config(), kModelSeed);
  const EvaluatedModel baseline = model_of("base", source);
  const std::string name = linear_weights(baseline.graph)[8];
  MixedSource candidate = rounded(source, ActivationFormat::kBf16);
  CompressedWeight weight = int8_weight(tensor_of(source, name));
  for (float& scale : weight.scale) scale = 1e38F;
  candidate.compress(name, weight);
  const Outcome outcome = outcome_of(baseline, model_of("int8", candidate));
  EXPECT_EQ(outcome.code, ErrorCode::kNonFinite);
  EXPECT_NE(outcome.message.find(name.substr(0, name.size() - 7)), std::string::npos)
      << outcome.message;
}

TEST(LayerFailure, StopsWhenAskedTo) {
  const MemorySource source = random_model(small_llama_config(), kModelSeed);
  const EvaluatedModel baseline = model_of("base", source);
  const EvaluatedModel candidate =
      model_of("int8", rounded(source, ActivationFormat::kInt8Dynamic));
  int calls = 0;
  Callbacks callbacks;
  callbacks.cancelled = [&] { return ++calls > 12; };
  EXPECT_EQ(outcome_of(baseline, candidate, kEnough, callbacks).code, ErrorCode::kInterrupted);
  EXPECT_EQ(calls, 13);
}

TEST(LayerFailure, ProgressGoesToTheEnd) {
  const MemorySource source = random_model(small_llama_config(), kModelSeed);
  const EvaluatedModel baseline = model_of("base", source);
  const EvaluatedModel candidate =
      model_of("int8", rounded(source, ActivationFormat::kInt8Dynamic));
  const TokenWindows windows = random_windows(baseline.graph);
  for (const int64_t bytes : {kEnough, least_hidden_bytes(baseline, windows)}) {
    double done = 0;
    Callbacks callbacks;
    callbacks.on_progress = [&](const Progress& progress) {
      EXPECT_GE(progress.done, done);
      done = progress.done;
    };
    ThreadPool pool(1);
    ProgressMeter meter(callbacks, 0);
    layer_errors(baseline, candidate, windows,
                 {.precision = Precision::kBf16, .hidden_bytes = bytes}, pool, meter);
    meter.phase("done", "");  // a new phase is reported at once
    EXPECT_NEAR(done, 1, 1e-9);
  }
}

}  // namespace
}  // namespace pare
