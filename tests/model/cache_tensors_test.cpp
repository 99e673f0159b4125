// The tensors of a quantized cache: where they belong, what they do, and what is refused.
#include "model/cache_tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "formats/forwarding_source.h"
#include "model/block_runner.h"
#include "model/model_files.h"
#include "pare/error.h"
#include "tests/support/model_configs.h"
#include "tests/support/random_model.h"

namespace pare {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::kModelSeed;

struct Stored {
  DType dtype = DType::kF32;
  Shape shape;
  std::vector<std::byte> bytes;
};

Stored text(const std::string& word) {
  Stored stored{DType::kU8, {static_cast<int64_t>(word.size())}, {}};
  for (const char c : word) stored.bytes.push_back(static_cast<std::byte>(c));
  return stored;
}

Stored numbers(const Shape& shape, const std::vector<float>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {DType::kF32, shape, {bytes.begin(), bytes.end()}};
}

// A model in memory with more tensors, of any type.
class WithTensors final : public ForwardingSource {
 public:
  WithTensors(std::shared_ptr<const WeightSource> model, std::map<std::string, Stored> more)
      : ForwardingSource(std::move(model)), more_(std::move(more)) {
    std::vector<std::string> all = names();
    for (const auto& [name, stored] : more_) all.push_back(name);
    std::sort(all.begin(), all.end());
    set_names(std::move(all));
  }
  bool contains(const std::string& name) const override {
    return more_.contains(name) || base().contains(name);
  }
  TensorView dense(const std::string& name) const override {
    const auto found = more_.find(name);
    if (found == more_.end()) return base().dense(name);
    return {found->second.dtype, found->second.shape, found->second.bytes};
  }
  DType dtype(const std::string& name) const override { return dense(name).dtype; }
  Shape shape(const std::string& name) const override { return dense(name).shape; }
  std::string file_of(const std::string& name) const override {
    return more_.contains(name) ? "cache.h5" : base().file_of(name);
  }

 private:
  std::map<std::string, Stored> more_;
};

// Two layers, two key heads of eight channels.
class CacheTensors : public ::testing::Test {
 protected:
  static std::string name(const std::string& end, int layer = 0) {
    return "model.layers." + std::to_string(layer) + ".self_attn." + end;
  }

  // Both layers with a cache of this kind.
  static std::map<std::string, Stored> tensors(const std::string& format, float scale,
                                               bool affine = false) {
    std::map<std::string, Stored> all;
    for (int layer = 0; layer < 2; ++layer) {
      all[name("kv_cache_dtype", layer)] = text(format);
      all[name("k_scale", layer)] = numbers({2, 1, 1}, {scale, scale / 2});
      all[name("v_scale", layer)] = numbers({2, 1, 1}, {scale, scale});
      if (!affine) continue;
      all[name("k_bias", layer)] = numbers({2, 1, 8}, std::vector<float>(16, 0.1F));
      all[name("v_bias", layer)] = numbers({2, 1, 8}, std::vector<float>(16, -0.2F));
    }
    return all;
  }

  ModelFiles bind(std::map<std::string, Stored> more) const {
    return bind_model(std::make_shared<WithTensors>(model_, std::move(more)));
  }

  std::vector<float> logits(const ModelFiles& files, Precision precision,
                            const testing::SequenceRunOptions& options = {}) const {
    const auto sequences = testing::random_sequences(files.graph, {40, 7, 23}, kModelSeed);
    std::vector<float> all;
    for (const auto& of_one :
         testing::run_sequences(files.graph, *files.source, sequences, precision, options)) {
      all.insert(all.end(), of_one.begin(), of_one.end());
    }
    return all;
  }

  void expect_refused(const std::function<void(std::map<std::string, Stored>&)>& damage,
                      const std::string& tensor, const std::string& word) const {
    std::map<std::string, Stored> damaged = tensors("int8", 0.05F, true);
    damage(damaged);
    try {
      bind(damaged);
      ADD_FAILURE() << tensor << ": accepted, expected " << word;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInputMalformed);
      EXPECT_THAT(error.what(), AllOf(HasSubstr(tensor), HasSubstr(word)));
    }
  }

  std::shared_ptr<const WeightSource> model_ = std::make_shared<testing::MemorySource>(
      testing::random_model(testing::small_llama_config(), kModelSeed));
};

TEST_F(CacheTensors, BelongToTheAttention) {
  EXPECT_EQ(cache_label(bind({}).graph), "none");
  for (const auto& [format, label] :
       {std::pair("int8", "int8"), std::pair("float8_e4m3fn", "fp8")}) {
    const ModelFiles files = bind(tensors(format, 0.05F, true));
    EXPECT_EQ(cache_label(files.graph), label);
    EXPECT_THAT(files.unused, IsEmpty());
    for (const BlockGraph& block : files.graph.blocks) {
      EXPECT_TRUE(block.attentions[0].cache.per_head);
      EXPECT_TRUE(block.attentions[0].cache.affine);
    }
  }
  auto one_layer = tensors("int8", 0.05F);
  for (const char* end : {"kv_cache_dtype", "k_scale", "v_scale"}) one_layer.erase(name(end, 1));
  const ModelFiles files = bind(one_layer);
  EXPECT_EQ(files.graph.blocks[0].attentions[0].cache.format, CacheFormat::kInt8);
  EXPECT_EQ(files.graph.blocks[1].attentions[0].cache.format, CacheFormat::kNone);
}

TEST_F(CacheTensors, WithoutTheTextScalesOfOtherToolsAreNotUsed) {
  const ModelFiles files = bind({{name("k_scale"), numbers({1}, {0.5F})}});
  EXPECT_EQ(cache_label(files.graph), "none");
  EXPECT_THAT(files.unused, ::testing::ElementsAre(name("k_scale")));
}

TEST_F(CacheTensors, RoundWhatAttentionReads) {
  for (const Precision precision : {Precision::kBf16, Precision::kBf16Pairs, Precision::kF32}) {
    const std::vector<float> plain = logits(bind({}), precision);
    const double coarse =
        testing::relative_error(logits(bind(tensors("int8", 0.8F)), precision), plain);
    const double fine =
        testing::relative_error(logits(bind(tensors("int8", 0.1F)), precision), plain);
    EXPECT_GT(fine, 0);
    EXPECT_LT(fine, coarse / 2) << "seed " << kModelSeed;
    EXPECT_LT(coarse, 0.5);
  }
}

TEST_F(CacheTensors, ThreadsAndBatchesChangeNothing) {
  const ModelFiles files = bind(tensors("float8_e4m3fn", 0.01F, true));
  for (const Precision precision : {Precision::kBf16, Precision::kF32}) {
    EXPECT_EQ(logits(files, precision, {.threads = 3}), logits(files, precision));
    // By itself, the first sequence gives what it gives among others.
    const auto all = testing::random_sequences(files.graph, {40, 7, 23}, kModelSeed);
    const std::span<const testing::Sequence> one(all.data(), 1);
    const auto alone = testing::run_sequences(files.graph, *files.source, one, precision);
    const auto together = testing::run_sequences(files.graph, *files.source, all, precision);
    EXPECT_EQ(alone[0], together[0]);
  }
}

// As a prompt and the tokens decoded one by one behind it.
TEST_F(CacheTensors, SegmentsGiveTheSameAsTheWhole) {
  const ModelFiles files = bind(tensors("int8", 0.05F, true));
  const BlockGraph& block = files.graph.blocks[0];
  const BlockWeights weights = load_block(block, *files.source, Precision::kBf16);
  PositionTables positions(64);
  const BlockRunner runner(block, weights, positions, Precision::kBf16);
  std::mt19937 random(kModelSeed);
  std::normal_distribution<float> normal;
  std::vector<float> input(static_cast<size_t>(40 * files.graph.hidden_size));
  for (float& value : input) value = normal(random);
  const auto run = [&](const std::vector<Segment>& segments) {
    BlockWorkspace workspace(block, {.length = 40}, Precision::kBf16);
    std::vector<float> hidden = input;
    float* at = hidden.data();
    for (const Segment& segment : segments) {
      runner.run({.hidden = at, .segments = {&segment, 1}}, workspace, {});
      at += segment.rows * files.graph.hidden_size;
    }
    return hidden;
  };
  const std::vector<float> whole = run({{40, 0}});
  EXPECT_EQ(run({{13, 0}, {27, 13}}), whole);
  std::vector<Segment> decoded = {{30, 0}};
  for (int64_t position = 30; position < 40; ++position) decoded.push_back({1, position});
  EXPECT_EQ(run(decoded), whole);
}

TEST_F(CacheTensors, HostileOnesAreRefusedByName) {
  const auto set = [](const std::string& tensor, const Stored& stored) {
    return [=](std::map<std::string, Stored>& all) { all[tensor] = stored; };
  };
  const auto erase = [](const std::string& tensor) {
    return [=](std::map<std::string, Stored>& all) { all.erase(tensor); };
  };
  for (const float bad : {0.0F, -0.1F, 1e-42F, static_cast<float>(NAN), INFINITY}) {
    expect_refused(set(name("k_scale", 1), numbers({2, 1, 1}, {0.1F, bad})), name("k_scale", 1),
                   "expected positive finite");
    expect_refused(set(name("v_scale"), numbers({2, 1, 1}, {bad, 0.1F})), name("v_scale"),
                   "expected positive finite");
  }
  for (const float bad : {static_cast<float>(NAN), -INFINITY}) {
    std::vector<float> values(16, 0.0F);
    values[9] = bad;
    expect_refused(set(name("k_bias"), numbers({2, 1, 8}, values)), name("k_bias"), "finite");
    expect_refused(set(name("v_bias"), numbers({2, 1, 8}, values)), name("v_bias"), "finite");
  }
  expect_refused(set(name("k_scale"), numbers({3, 1, 1}, {1, 1, 1})), name("k_scale"), "[2, 1, 1]");
  expect_refused(set(name("v_scale"), numbers({1}, {1})), name("v_scale"), "[2, 1, 1]");
  expect_refused(set(name("k_bias"), numbers({16}, std::vector<float>(16))), name("k_bias"),
                 "[2, 1, 8]");
  Stored half{DType::kBf16, {2, 1, 1}, std::vector<std::byte>(4)};
  expect_refused(set(name("k_scale"), half), name("k_scale"), "expected float32");
  for (const char* end : {"k_scale", "v_scale", "k_bias", "v_bias"}) {
    expect_refused(erase(name(end)), name(end), "missing");
  }
  expect_refused(set(name("kv_cache_dtype"), text("int9")), name("kv_cache_dtype"), "\"int9\"");
  expect_refused(set(name("kv_cache_dtype"), text("")), name("kv_cache_dtype"), "int8");
  expect_refused(set(name("kv_cache_dtype"), numbers({1}, {8})), name("kv_cache_dtype"),
                 "expected the bytes");
}

// Names differ, and so do paths from the linear to the keys: all of them have to be found.
TEST(CacheKinds, EveryArchitectureHasAnAnswer) {
  int latent = 0;
  int cached = 0;
  for (const testing::NamedConfig& config : testing::model_configs()) {
    const ModelGraph graph = testing::graph_of(nlohmann::json::parse(config.json));
    for (const BlockGraph& block : graph.blocks) {
      std::set<std::string> names;
      for (const Op& op : block.ops) {
        if (op.kind != OpKind::kAttention) continue;
        const std::string name = attention_name(block, op);
        EXPECT_TRUE(names.insert(name).second) << config.name << ": " << name << " is there twice";
        EXPECT_TRUE(name.starts_with(block.prefix)) << config.name << ": " << name;
        const CacheKind kind = cache_kind(block, op);
        EXPECT_EQ(kind == CacheKind::kLatent, config.json.find("kv_lora_rank") != std::string::npos)
            << config.name;
        latent += kind == CacheKind::kLatent ? 1 : 0;
        cached += kind == CacheKind::kKeysAndValues ? 1 : 0;
      }
    }
    if (!graph.encoder) continue;
    for (const BlockGraph& block : graph.encoder->blocks) {
      for (const Op& op : block.ops) {
        if (op.kind != OpKind::kAttention) continue;
        EXPECT_EQ(cache_kind(block, op), CacheKind::kNone) << config.name;
      }
    }
  }
  EXPECT_GT(latent, 0);
  EXPECT_GT(cached, 20);
}

}  // namespace
}  // namespace pare
