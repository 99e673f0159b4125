// Options and files that evaluate() refuses: the code, and a message that says what to do.
#include <cmath>
#include <filesystem>
#include <map>

#include "pare/error.h"
#include "tests/eval/eval_fixture.h"
#include "tests/support/tiny_model.h"

namespace pare::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class EvaluateUsageTest : public EvalTest {
 protected:
  EvaluateUsageTest() : base_(make_model("base", 1)) {}

  void expect(const EvaluateOptions& wanted, ErrorCode code,
              const ::testing::Matcher<std::string>& message) {
    const Failure found = failure_of(wanted);
    EXPECT_EQ(found.code, static_cast<int>(code)) << found.message;
    EXPECT_THAT(found.message, message);
  }

  std::string base_;
};

TEST_F(EvaluateUsageTest, OptionsThatMakeNoSense) {
  const EvaluateOptions good = options(base_, {});
  const auto refuse = [&](auto change, const std::string& message) {
    EvaluateOptions wanted = good;
    change(wanted);
    expect(wanted, ErrorCode::kUsage, HasSubstr(message));
  };
  refuse([](EvaluateOptions& o) { o.baseline.clear(); }, "baseline");
  refuse([](EvaluateOptions& o) { o.tasks = {"perplexity", "poetry"}; }, "poetry");
  refuse([](EvaluateOptions& o) { o.tasks = {"poetry"}; }, "known: perplexity");
  refuse([](EvaluateOptions& o) { o.tasks.clear(); }, "known: perplexity");
  refuse([](EvaluateOptions& o) { o.text.clear(); }, "text");
  refuse([](EvaluateOptions& o) { o.ctx = 1; }, "at least 2");
  refuse([](EvaluateOptions& o) { o.ctx = -5; }, "at least 2");
  refuse([](EvaluateOptions& o) { o.limit = -1; }, "limit");
  refuse([](EvaluateOptions& o) { o.limit = 2.5; }, "limit");
  refuse([](EvaluateOptions& o) { o.limit = std::nan(""); }, "limit");
  refuse([](EvaluateOptions& o) { o.threads = -1; }, "threads");
  refuse([](EvaluateOptions& o) { o.max_memory = -1; }, "memory");
  refuse([](EvaluateOptions& o) { o.precision = "fp64"; }, "fp64");
}

TEST_F(EvaluateUsageTest, TooLittleText) {
  EvaluateOptions wanted = options(base_, {});
  wanted.ctx = 400;
  expect(wanted, ErrorCode::kInputMalformed, AllOf(HasSubstr("389"), HasSubstr("400")));
}

TEST_F(EvaluateUsageTest, MissingFiles) {
  EvaluateOptions wanted = options(base_, {path("nothing.h5")});
  expect(wanted, ErrorCode::kInputMissing, HasSubstr("nothing.h5"));
  wanted = options(base_, {});
  wanted.text = path("nothing.txt");
  expect(wanted, ErrorCode::kInputMissing, HasSubstr("nothing.txt"));
}

TEST_F(EvaluateUsageTest, AnIdOutsideTheVocabulary) {
  EvaluateOptions wanted = options(base_, {});
  wanted.text = path("bad.ids");
  std::string ids = "0";
  for (int i = 0; i < 40; ++i) ids += " 7";
  write_file(wanted.text, ids + " 4096");
  wanted.ctx = 42;
  expect(wanted, ErrorCode::kInputMalformed, AllOf(HasSubstr("bad.ids"), HasSubstr("4096")));
}

TEST_F(EvaluateUsageTest, AnotherVocabulary) {
  const std::string other = path("other");
  const auto tensor = [](std::vector<int64_t> shape) {
    Bf16Tensor result{std::move(shape), {}};
    size_t count = 1;
    for (const int64_t length : result.shape) count *= static_cast<size_t>(length);
    result.bits.assign(count, 0x3c00);
    return result;
  };
  std::filesystem::create_directories(other);
  std::map<std::string, Bf16Tensor> tensors = {
      {"model.embed_tokens.weight", tensor({10, 8})},
      {"model.norm.weight", tensor({8})},
      {"model.layers.0.input_layernorm.weight", tensor({8})},
      {"model.layers.0.post_attention_layernorm.weight", tensor({8})},
  };
  for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                           "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}) {
    tensors["model.layers.0." + std::string(name) + ".weight"] = tensor({8, 8});
  }
  write_safetensors(other + "/model.safetensors", tensors);
  write_file(other + "/config.json", R"({"architectures": ["LlamaForCausalLM"],
      "model_type": "llama", "vocab_size": 10, "hidden_size": 8, "intermediate_size": 8,
      "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1,
      "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
      "max_position_embeddings": 64, "tie_word_embeddings": true})");
  expect(options(base_, {other}), ErrorCode::kInputMalformed,
         AllOf(HasSubstr(base_), HasSubstr(other), HasSubstr("4096"), HasSubstr("of 10")));
}

TEST_F(EvaluateUsageTest, InfiniteLogitsNameModelAndWindow) {
  const std::string broken = make_model("broken", 1);
  // The largest bfloat16: finite as stored, infinite in the product.
  fill_tensor(broken + "/model-00002-of-00002.safetensors", "lm_head.weight", 0x7f7f);
  expect(options(base_, {broken}), ErrorCode::kNonFinite,
         AllOf(HasSubstr(broken), HasSubstr("window 0")));
}

TEST_F(EvaluateUsageTest, StopsWhenAsked) {
  int polls = 0;
  Callbacks callbacks;
  callbacks.cancelled = [&] { return ++polls > 4; };
  const Failure found = failure_of(options(base_, {base_}), callbacks);
  EXPECT_EQ(found.code, static_cast<int>(ErrorCode::kInterrupted));
  EXPECT_EQ(polls, 5);
}

}  // namespace
}  // namespace pare::testing
