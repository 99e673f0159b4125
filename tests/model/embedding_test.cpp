// From ids to the first block: positions that a table does not have, ids that the vocabulary does
// not have.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/token_embedding.h"
#include "pare/error.h"
#include "tests/model/every_model.h"

namespace pare {
namespace {

using ::testing::HasSubstr;

class Embedding : public testing::EveryModel {
 protected:
  static std::vector<float> embed(const EmbeddingSpec& spec, const WeightSource& source,
                                  const std::vector<int32_t>& ids, int64_t position) {
    const TokenEmbedding embedding(spec, source, Precision::kF32);
    std::vector<float> hidden(ids.size() * static_cast<size_t>(spec.stem.width(spec.stem.output)));
    embedding.embed(ids, position, hidden.data());
    return hidden;
  }

  std::vector<EmbeddingSpec> specs() const {
    std::vector<EmbeddingSpec> all = {graph_.embedding};
    if (graph_.encoder) all.push_back(graph_.encoder->embedding);
    return all;
  }

  static std::string error_of(const EmbeddingSpec& spec, const WeightSource& source,
                              const std::vector<int32_t>& ids, int64_t position) {
    try {
      embed(spec, source, ids, position);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInputMalformed);
      return error.what();
    }
    return {};
  }
};
INSTANTIATE_TEST_SUITE_P(Models, Embedding, ::testing::ValuesIn(testing::model_configs()),
                         testing::name_of);

TEST_P(Embedding, PositionsBeyondTheTableAreRefusedByItsName) {
  for (const EmbeddingSpec& spec : specs()) {
    const int64_t known = spec.position_rows - spec.position_offset;
    if (spec.position_kind == PositionKind::kLearned) {
      EXPECT_EQ(error_of(spec, source_, {3}, known - 1), "");
      const std::string error = error_of(spec, source_, {3, 4}, known - 1);
      EXPECT_THAT(error, HasSubstr("\"" + spec.positions + "\""));
      EXPECT_THAT(error, HasSubstr("position " + std::to_string(known)));
      EXPECT_THAT(error, HasSubstr(std::to_string(known) + " that"));
    } else {
      EXPECT_EQ(error_of(spec, source_, {3, 4}, 100000), "");
    }
  }
}

TEST_P(Embedding, IdsOutsideOfTheVocabularyAreRefused) {
  for (const EmbeddingSpec& spec : specs()) {
    for (const int64_t id : {int64_t{-1}, spec.vocab_size, int64_t{2147483647}}) {
      const std::string error = error_of(spec, source_, {0, static_cast<int32_t>(id)}, 0);
      EXPECT_THAT(error, HasSubstr(std::to_string(id)));
      EXPECT_THAT(error, HasSubstr(std::to_string(spec.vocab_size)));
    }
  }
}

// A token's row does not depend on where in a batch it stands, but on its position where that is
// learned or computed.
TEST_P(Embedding, IsByTokenAndPosition) {
  for (const EmbeddingSpec& spec : specs()) {
    const auto pair = embed(spec, source_, {5, 7}, 3);
    const auto second = embed(spec, source_, {7}, 4);
    const auto elsewhere = embed(spec, source_, {7}, 9);
    EXPECT_TRUE(std::equal(second.begin(), second.end(), pair.end() - graph_.hidden_size));
    EXPECT_EQ(second == elsewhere, spec.position_kind == PositionKind::kNone);
  }
}

}  // namespace
}  // namespace pare
