#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "model/architectures.h"
#include "model/block_weights.h"
#include "pare/error.h"
#include "tests/model/every_model.h"

namespace pare {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::graph_of;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::kModelSeed;
using testing::MemorySource;
using testing::random_model;
using testing::small_llama_config;

template <typename Call>
std::string message_of(ErrorCode code, Call call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

class CheckTensors : public ::testing::Test {
 protected:
  const ModelGraph graph_ = graph_of(small_llama_config());
  MemorySource source_ = random_model(small_llama_config(), kModelSeed);
};

TEST_F(CheckTensors, AcceptsWhatFits) { EXPECT_THAT(check_tensors(graph_, source_), IsEmpty()); }

TEST_F(CheckTensors, ReturnsWhatIsNotUsed) {
  source_.set("model.layers.0.self_attn.rotary_emb.inv_freq", {{4}, {1, 2, 3, 4}});
  EXPECT_THAT(check_tensors(graph_, source_),
              ElementsAre("model.layers.0.self_attn.rotary_emb.inv_freq"));
}

TEST_F(CheckTensors, EveryMissingTensorIsNamedWithItsShape) {
  for (const std::string& name : std::vector<std::string>(source_.names())) {
    MemorySource damaged = source_;
    damaged.erase(name);
    EXPECT_THAT(message_of(ErrorCode::kInputMalformed, [&] { check_tensors(graph_, damaged); }),
                AllOf(HasSubstr("\"" + name + "\""), HasSubstr("missing"),
                      HasSubstr(shape_text(source_.shape(name)))));
  }
}

TEST_F(CheckTensors, EveryWrongShapeIsNamedWithBothShapes) {
  for (const std::string& name : std::vector<std::string>(source_.names())) {
    MemorySource damaged = source_;
    Shape shape = source_.shape(name);
    shape.back() += 1;
    damaged.set(name, {shape, std::vector<float>(static_cast<size_t>(element_count(shape)))});
    EXPECT_THAT(message_of(ErrorCode::kInputMalformed, [&] { check_tensors(graph_, damaged); }),
                AllOf(HasSubstr("\"" + name + "\""), HasSubstr(shape_text(shape)),
                      HasSubstr(shape_text(source_.shape(name)))));
  }
}

TEST_F(CheckTensors, NonFiniteNormsAndBiasesAreNamed) {
  const std::string name = "model.layers.1.input_layernorm.weight";
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    source_.values(name)[7] = bad;
    EXPECT_THAT(message_of(ErrorCode::kNonFinite,
                           [&] { load_block(graph_.blocks[1], source_, Precision::kF32); }),
                HasSubstr(name));
  }
}

class CheckAllTensors : public testing::EveryModel {};
INSTANTIATE_TEST_SUITE_P(Models, CheckAllTensors, ::testing::ValuesIn(testing::model_configs()),
                         testing::name_of);

// In every architecture: encoders, experts, routers, scans, position tables and heads included.
TEST_P(CheckAllTensors, MissingAndMisshapenOnesAreNamed) {
  EXPECT_THAT(check_tensors(graph_, source_), IsEmpty());
  for (const std::string& name : source_.names()) {
    MemorySource damaged = source_;
    damaged.erase(name);
    EXPECT_THAT(message_of(ErrorCode::kInputMalformed, [&] { check_tensors(graph_, damaged); }),
                AllOf(HasSubstr("\"" + name + "\""), HasSubstr("missing")));
    Shape shape = source_.shape(name);
    shape.push_back(1);
    damaged.set(name, {shape, source_.values(name)});
    EXPECT_THAT(message_of(ErrorCode::kInputMalformed, [&] { check_tensors(graph_, damaged); }),
                AllOf(HasSubstr("\"" + name + "\""), HasSubstr(shape_text(shape))));
  }
}

}  // namespace
}  // namespace pare
