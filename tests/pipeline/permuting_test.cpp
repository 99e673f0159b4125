// Channels that pruning puts in another order: what is stored is the same model in that order.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <random>
#include <set>

#include "formats/safetensors_writer.h"
#include "formats/weight_source.h"
#include "kernels/codec.h"
#include "tests/pipeline/architecture_fixture.h"
#include "tests/support/model_configs.h"

namespace pare::testing {
namespace {

using ::testing::HasSubstr;

constexpr const char* kUp = "model.layers.0.mlp.up_proj";
constexpr const char* kGate = "model.layers.0.mlp.gate_proj";
constexpr const char* kDown = "model.layers.0.mlp.down_proj";
constexpr const char* kValue = "model.layers.0.self_attn.v_proj";
constexpr const char* kContext = "model.layers.0.self_attn.o_proj";

class Permuting : public ArchitectureTest {
 protected:
  Permuting() { use_model(small_llama_config()); }

  void use_model(const nlohmann::json& config) {
    std::filesystem::remove_all(path("model"));
    model_ = random_model(config, kModelSeed);
    // Channels of very different sizes, next to one another: there is something to gain.
    std::mt19937 random(kModelSeed);
    for (const std::string& name : model_.names()) {
      if (name.find("up_proj.weight") == std::string::npos &&
          name.find("v_proj.weight") == std::string::npos) {
        continue;
      }
      const auto width = static_cast<size_t>(model_.shape(name)[1]);
      std::vector<float>& values = model_.values(name);
      for (size_t row = 0; row < values.size() / width; ++row) {
        const float size = std::exp2(static_cast<float>(random() % 5)) / 4;
        for (size_t i = 0; i < width; ++i) values[row * width + i] *= size;
      }
    }
    for (const std::string& name : model_.names()) {
      for (float& value : model_.values(name)) value = round_to_bf16(value);
    }
    use(model_, 16, 24);
  }

  QuantizeOptions permuted(const std::string& output, const std::string& sparsity,
                           const std::string& when = "on",
                           const std::string& qformat = "full_prec") const {
    QuantizeOptions options = job_of(output, qformat);
    options.sparsity = sparsity;
    options.permute_channels = when;
    return options;
  }

  std::vector<float> original(const std::string& linear) const {
    return model_.values(linear + ".weight");
  }

  static std::vector<float> stored(const WeightSource& source, const std::string& linear) {
    const std::string name = linear + ".weight";
    if (!source.is_compressed(name)) return to_f32(source.dense(name), name);
    const CompressedWeight weight = source.compressed(name);
    std::vector<float> values(static_cast<size_t>(weight.out_features * weight.in_features));
    dequantize_rows(weight, 0, weight.out_features, values);
    return values;
  }

  // Of the rows of a linear that was left as it was. Each row is found once.
  std::vector<size_t> order_of_rows(const WeightSource& source, const std::string& linear) const {
    const auto width = static_cast<size_t>(model_.shape(linear + ".weight")[1]);
    const std::vector<float> before = original(linear);
    const std::vector<float> after = stored(source, linear);
    std::vector<size_t> order;
    for (size_t row = 0; row < after.size() / width; ++row) {
      size_t from = 0;
      const auto equal = [&](size_t other) {
        return std::equal(after.begin() + static_cast<ptrdiff_t>(row * width),
                          after.begin() + static_cast<ptrdiff_t>((row + 1) * width),
                          before.begin() + static_cast<ptrdiff_t>(other * width));
      };
      while (from < before.size() / width && !equal(from)) ++from;
      order.push_back(from);
    }
    EXPECT_EQ(std::set<size_t>(order.begin(), order.end()).size(), before.size() / width);
    return order;
  }

  // Each weight of a pruned linear is 0, or that of the channel that came there.
  void expect_columns(const WeightSource& source, const std::string& linear,
                      const std::vector<size_t>& order) const {
    const std::vector<float> before = original(linear);
    const std::vector<float> after = stored(source, linear);
    size_t kept = 0;
    for (size_t i = 0; i < after.size(); ++i) {
      if (after[i] == 0) continue;
      const size_t column = i % order.size();
      ASSERT_EQ(after[i], before[i - column + order[column]]) << linear << " " << i;
      ++kept;
    }
    EXPECT_GT(kept, after.size() * 2 / 5);
  }

  static bool moved(const std::vector<size_t>& order) {
    return !std::is_sorted(order.begin(), order.end());
  }

  MemorySource model_{""};
};

TEST_F(Permuting, RowsOfTheGateAndTheUpProjectionFollow) {
  for (const char* sparsity : {"ria", "wanda", "magnitude"}) {
    SCOPED_TRACE(sparsity);
    QuantizeOptions options = permuted(std::string(sparsity) + ".h5", sparsity);
    options.exclude = {"up_proj$", "gate_proj$", "v_proj$"};
    const auto found = open_weight_source(quantize(options, {}).output);
    const std::vector<size_t> order = order_of_rows(*found, kUp);
    EXPECT_TRUE(moved(order));
    EXPECT_EQ(order_of_rows(*found, kGate), order);
    expect_columns(*found, kDown, order);
    // Heads 0 … 2 read the first head of values, 3 … 5 the second.
    const std::vector<size_t> rows = order_of_rows(*found, kValue);
    EXPECT_TRUE(moved(rows));
    std::vector<size_t> context;
    for (size_t head = 0; head < 6; ++head) {
      for (size_t i = 0; i < 8; ++i) {
        const size_t row = rows[head / 3 * 8 + i];
        ASSERT_EQ(row / 8, head / 3) << "a channel left its head";
        context.push_back(head * 8 + row % 8);
      }
    }
    expect_columns(*found, kContext, context);
  }
}

TEST_F(Permuting, OffLeavesThePlaces) {
  QuantizeOptions options = permuted("off.h5", "ria", "off");
  options.exclude = {"up_proj$", "gate_proj$", "v_proj$"};
  const auto found = open_weight_source(quantize(options, {}).output);
  EXPECT_FALSE(moved(order_of_rows(*found, kUp)));
  EXPECT_FALSE(moved(order_of_rows(*found, kValue)));
}

// Nothing that is pruned reads what these make.
TEST_F(Permuting, AReaderThatIsNotPrunedKeepsItsPlaces) {
  QuantizeOptions options = permuted("out.h5", "ria");
  options.exclude = {"up_proj$", "gate_proj$", "v_proj$", "down_proj$", "o_proj$"};
  const auto found = open_weight_source(quantize(options, {}).output);
  for (const char* name : {kUp, kGate, kDown, kValue, kContext}) {
    EXPECT_EQ(stored(*found, name), original(name)) << name;
  }
}

TEST_F(Permuting, ReportsSay) {
  const QuantizeReport report = quantize(permuted("out.h5", "ria"), {});
  for (const LayerReport& layer : report.layers) {
    const bool reads = layer.name.ends_with("down_proj") || layer.name.ends_with("o_proj");
    EXPECT_EQ(layer.detail, reads ? "channels permuted" : "") << layer.name;
  }
}

// Where the layer's input is the same in both, its error is never larger than without.
TEST_F(Permuting, AutomaticallyOnlyWhereItPays) {
  for (const char* sparsity : {"magnitude", "wanda", "ria"}) {
    SCOPED_TRACE(sparsity);
    const QuantizeReport off = quantize(permuted("off.h5", sparsity, "off"), {});
    QuantizeOptions options = permuted("auto.h5", sparsity, "auto");
    const QuantizeReport automatic = quantize(options, {});
    double gain = 0;
    for (size_t i = 0; i < off.layers.size(); ++i) {
      if (off.layers[i].name != kContext && off.layers[i].name != kDown) continue;
      EXPECT_GT(*automatic.layers[i].sqnr_db, *off.layers[i].sqnr_db - 0.02) << off.layers[i].name;
      gain += *automatic.layers[i].sqnr_db - *off.layers[i].sqnr_db;
    }
    EXPECT_GT(gain, 0.5);
    std::filesystem::remove(path("off.h5"));
    std::filesystem::remove(path("auto.h5"));
  }
}

TEST_F(Permuting, MagnitudeNeedsNoText) {
  QuantizeOptions options = permuted("out.h5", "magnitude", "auto");
  options.calibration.clear();
  options.exclude = {"up_proj$", "gate_proj$"};
  const auto found = open_weight_source(quantize(options, {}).output);
  const std::vector<size_t> order = order_of_rows(*found, kUp);
  EXPECT_TRUE(moved(order));
  expect_columns(*found, kDown, order);
}

// Gram matrices, mismatches, scales and groups are those of the channels in their new places: with
// one of them in the old order, the error would be many times larger.
TEST_F(Permuting, GoesWithEveryFormatAndMethod) {
  for (const char* qformat : {"fp8", "int8_sq", "int4_awq", "int4_wo"}) {
    for (const char* sparsity : {"ria", "sparsegpt", "admm"}) {
      SCOPED_TRACE(std::string(qformat) + " " + sparsity);
      const QuantizeReport off = quantize(permuted("off.h5", sparsity, "off", qformat), {});
      const QuantizeReport on = quantize(permuted("on.h5", sparsity, "on", qformat), {});
      for (size_t i = 0; i < off.layers.size(); ++i) {
        EXPECT_GT(*on.layers[i].sqnr_db, *off.layers[i].sqnr_db - 2) << off.layers[i].name;
      }
      const std::vector<std::vector<float>> dense =
          logits_of(bind_model(std::make_shared<MemorySource>(model_)), Precision::kF32);
      const double with = distance(logits_of(on.output, Precision::kF32), dense);
      const double without = distance(logits_of(off.output, Precision::kF32), dense);
      EXPECT_LT(with, 1.15 * without);
      std::filesystem::remove(path("off.h5"));
      std::filesystem::remove(path("on.h5"));
    }
  }
}

// Squares of such weights, or sums of them, are beyond the range of float.
TEST_F(Permuting, WeightsNearTheEndsOfTheRange) {
  for (const float size : {1e30F, 1e-30F, 0.0F}) {
    for (float& value : model_.values(std::string(kDown) + ".weight")) {
      value = size * (value > 0 ? 1.0F : 2.0F);
    }
    std::filesystem::remove_all(path("model"));
    use(model_, 2, 24);
    for (const char* sparsity : {"magnitude", "wanda", "ria"}) {
      SCOPED_TRACE(std::string(sparsity) + " " + std::to_string(size));
      QuantizeOptions options = permuted("out.h5", sparsity, "auto");
      options.exclude = {"layers.1", "self_attn", "up_proj$", "gate_proj$"};
      options.force = true;
      EXPECT_NO_THROW(quantize(options, {}));
    }
  }
}

TEST_F(Permuting, IsTheSameForAnyThreadsAndAfterAStop) {
  const std::string whole = quantize(permuted("a.h5", "ria", "on", "int4_awq"), {}).sha256;
  QuantizeOptions options = permuted("b.h5", "ria", "on", "int4_awq");
  options.threads = 1;
  options.work_dir = path("work");
  Callbacks callbacks;
  callbacks.cancelled = [&] { return std::filesystem::exists(path("work/layer-00000.json")); };
  EXPECT_EQ(failure_of(options, callbacks).code, ErrorCode::kInterrupted);
  options.resume = true;
  EXPECT_EQ(quantize(options, {}).sha256, whole);
  // Another choice is another job.
  options.permute_channels = "off";
  options.output = path("c.h5");
  EXPECT_THROW(quantize(options, {}), Error);
}

TEST_F(Permuting, AnAdapterFollows) {
  constexpr int64_t kRank = 3;
  std::mt19937 random(5);
  std::map<std::string, std::vector<float>> factors;
  std::map<std::string, TensorView> views;
  std::filesystem::create_directories(path("lora"));
  for (const char* layer : {"model.layers.0.", "model.layers.1."}) {
    for (const char* kind : {"mlp.up_proj", "mlp.down_proj"}) {
      const std::string name = std::string(layer) + kind;
      const Shape shape = model_.shape(name + ".weight");
      for (const auto& [suffix, size] :
           {std::pair<std::string, Shape>{".lora_A.weight", {kRank, shape[1]}},
            {".lora_B.weight", {shape[0], kRank}}}) {
        std::vector<float>& values = factors[name + suffix];
        values.resize(static_cast<size_t>(size[0] * size[1]));
        for (float& value : values) value = static_cast<float>(random() % 1000) / 2000;
        views["base_model.model." + name + suffix] = {DType::kF32, size,
                                                      std::as_bytes(std::span(values))};
      }
    }
  }
  write_file(path("lora/adapter_config.json"), R"({"peft_type": "LORA", "r": 3, "lora_alpha": 3})");
  write_safetensors(path("lora/adapter_model.safetensors"), views, {}, /*force=*/true);
  QuantizeOptions options = permuted("out.h5", "ria");
  options.lora = path("lora");
  options.lora_mode = "beside";
  options.exclude = {"up_proj$", "gate_proj$"};
  const auto found = open_weight_source(quantize(options, {}).output);
  const std::vector<size_t> order = order_of_rows(*found, kUp);
  EXPECT_TRUE(moved(order));
  const auto values = [&](const std::string& name) { return to_f32(found->dense(name), name); };
  const std::string up = std::string(kUp) + ".lora_B.weight";
  const std::string down = std::string(kDown) + ".lora_A.weight";
  for (size_t i = 0; i < order.size(); ++i) {
    for (size_t k = 0; k < kRank; ++k) {
      ASSERT_EQ(values(up)[i * kRank + k], factors[up][order[i] * kRank + k]);
      ASSERT_EQ(values(down)[k * order.size() + i], factors[down][k * order.size() + order[i]]);
    }
  }
}

TEST_F(Permuting, WidthsThatFourDoesNotDivideAreRefused) {
  nlohmann::json config = small_llama_config();
  config["intermediate_size"] = 70;
  use_model(config);
  for (const char* when : {"on", "auto", "off"}) {
    const Failure failure = failure_of(permuted("out.h5", "ria", when), {});
    EXPECT_EQ(failure.code, ErrorCode::kInputMalformed);
    EXPECT_THAT(failure.message, HasSubstr("down_proj"));
  }
  QuantizeOptions options = permuted("out.h5", "ria");
  options.exclude = {"down_proj$"};
  EXPECT_NO_THROW(quantize(options, {}));
}

TEST_F(Permuting, AnUnknownWordIsRefused) {
  const Failure failure = failure_of(permuted("out.h5", "ria", "always"), {});
  EXPECT_EQ(failure.code, ErrorCode::kUsage);
  EXPECT_THAT(failure.message, HasSubstr("always"));
}

TEST_F(Permuting, WithoutPruningItHasNoEffect) {
  QuantizeOptions options = job_of("out.h5", "fp8");
  options.permute_channels = "on";
  const QuantizeReport report = quantize(options, {});
  EXPECT_THAT(report.warnings, ::testing::Contains(HasSubstr("permute_channels has no effect")));
  options.permute_channels = "auto";
  options.force = true;
  EXPECT_THAT(quantize(options, {}).warnings,
              ::testing::Not(::testing::Contains(HasSubstr("permute_channels"))));
}

}  // namespace
}  // namespace pare::testing
