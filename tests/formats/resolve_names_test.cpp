// Finding tensors under the names that files give them.
#include "formats/resolve_names.h"

#include <gtest/gtest.h>

#include "tests/formats/test_files.h"

namespace pare::test {
namespace {

using Names = std::vector<std::string>;
using Map = std::map<std::string, std::string>;

TEST(ResolveNames, WhatIsThereIsLeftAlone) {
  EXPECT_EQ(match_names(Names{"a", "model.b"}, Names{"a", "model.a", "model.b", "b"}, "m"), Map{});
  EXPECT_EQ(match_names(Names{"x.weight"}, Names{"y.weight"}, "m"), Map{});
  EXPECT_EQ(match_names(Names{}, Names{"y"}, "m"), Map{});
}

TEST(ResolveNames, EveryPrefixRule) {
  const auto stored = [](const std::string& wanted, const std::string& available) {
    const Map found = match_names(Names{wanted}, Names{available, "other"}, "m");
    return found.contains(wanted) && found.at(wanted) == available;
  };
  for (const char* outer : {"model.", "transformer."}) {
    EXPECT_TRUE(stored(std::string(outer) + "layers.0.w", "layers.0.w")) << outer;
    EXPECT_TRUE(stored("layers.0.w", std::string(outer) + "layers.0.w")) << outer;
  }
  for (const char* name : {"language_model.model.layers.0.w", "model.language_model.layers.0.w",
                           "base_model.model.model.layers.0.w", "layers.0.w",
                           "base_model.model.model.language_model.layers.0.w"}) {
    EXPECT_TRUE(stored("model.layers.0.w", name)) << name;
  }
  EXPECT_TRUE(stored("lm_head.weight", "language_model.lm_head.weight"));
  EXPECT_TRUE(stored("lm_head.weight", "base_model.model.lm_head.weight"));
  EXPECT_TRUE(stored("norm.weight", "norm.gamma"));
  EXPECT_TRUE(stored("norm.bias", "norm.beta"));
  EXPECT_TRUE(stored("transformer.ln_f.weight", "ln_f.gamma"));
  EXPECT_FALSE(stored("model.layers.0.w", "encoder.layers.0.w"));
  EXPECT_FALSE(stored("model.layers.0.w", "layers.0.v"));
  EXPECT_FALSE(stored("norm.gamma", "norm.weight"));
}

TEST(ResolveNames, OneRuleForTheWholeModelWhereItCan) {
  // The vision part's layers would do for one name; the language part has them all.
  EXPECT_EQ(
      match_names(Names{"model.layers.0.w", "model.layers.1.w", "model.norm.weight"},
                  Names{"layers.0.w", "language_model.model.layers.0.w",
                        "language_model.model.layers.1.w", "language_model.model.norm.weight"},
                  "m"),
      (Map{{"model.layers.0.w", "language_model.model.layers.0.w"},
           {"model.layers.1.w", "language_model.model.layers.1.w"},
           {"model.norm.weight", "language_model.model.norm.weight"}}));
  // What no single rule finds is found by the next.
  EXPECT_EQ(match_names(Names{"model.a", "model.b", "lm_head.weight"},
                        Names{"a", "b", "model.lm_head.weight"}, "m"),
            (Map{{"model.a", "a"}, {"model.b", "b"}, {"lm_head.weight", "model.lm_head.weight"}}));
}

TEST(ResolveNames, AmbiguityNamesBoth) {
  const auto refused = [](const Names& wanted, const Names& available, const Names& parts) {
    expect_error([&] { match_names(wanted, available, "the file"); }, ErrorCode::kInputMalformed,
                 parts);
  };
  refused({"model.w"}, {"w", "language_model.model.w"},
          {"the file", "\"model.w\"", "\"w\"", "\"language_model.model.w\""});
  refused({"model.n.weight"}, {"n.weight", "n.gamma"}, {"\"n.weight\"", "\"n.gamma\""});
  refused({"model.w", "transformer.w"}, {"w"}, {"\"w\"", "\"model.w\"", "\"transformer.w\""});
  // A wanted name that is there stands for itself alone.
  EXPECT_EQ(match_names(Names{"w", "model.w"}, Names{"w"}, "m"), Map{});
  EXPECT_EQ(match_names(Names{"model.w", "model.w"}, Names{"w"}, "m"), (Map{{"model.w", "w"}}));
}

TEST(ResolveNames, GivesWhatANamedSourceTakes) {
  const TempFolder folder;
  std::mt19937 random(3);
  write_model(folder, "{}",
              {{"h.0.ln.gamma", normal_tensor(random, DType::kF32, {4})},
               {"h.0.w.weight", normal_tensor(random, DType::kF32, {4, 2})},
               {"vision.w", normal_tensor(random, DType::kF32, {2})}});
  const std::shared_ptr<const WeightSource> base = open_weight_source(folder.path());
  const auto map = resolve_names(
      {"transformer.h.0.ln.weight", "transformer.h.0.w.weight", "transformer.h.0.w.bias"}, *base);
  ASSERT_EQ(map.size(), 2U);
  EXPECT_EQ(map.at("transformer.h.0.w.weight").shape, (Shape{4, 2}));
  const auto source = make_named_source(base, map);
  EXPECT_EQ(source->names(),
            (Names{"transformer.h.0.ln.weight", "transformer.h.0.w.weight", "vision.w"}));
}

}  // namespace
}  // namespace pare::test
