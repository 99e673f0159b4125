// OLMo 2 against its equations written out in double precision, for which there are no reference
// logits: what docs/adding-a-model.md asks of an architecture.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/model_configs.h"
#include "tests/support/random_model.h"

namespace pare {
namespace {

using testing::kModelSeed;
using Row = std::vector<double>;
using Rows = std::vector<Row>;

class PlainOlmo {
 public:
  PlainOlmo(const testing::MemorySource& source, const nlohmann::json& config)
      : source_(source), config_(config) {}

  std::vector<float> logits(const std::vector<int32_t>& ids) const {
    Rows x;
    for (const int32_t id : ids) {
      const auto& table = tensor("model.embed_tokens.weight");
      const auto hidden = size("hidden_size");
      x.emplace_back(table.begin() + static_cast<ptrdiff_t>(hidden) * id,
                     table.begin() + static_cast<ptrdiff_t>(hidden) * (id + 1));
    }
    for (size_t layer = 0; layer < size("num_hidden_layers"); ++layer) run_layer(layer, x);
    std::vector<float> all;
    const bool tied = config_.at("tie_word_embeddings").get<bool>();
    for (const Row& row : x) {
      const Row normed = norm(row, "model.norm");
      const Row one = linear(normed, tied ? "model.embed_tokens" : "lm_head");
      all.insert(all.end(), one.begin(), one.end());
    }
    return all;
  }

 private:
  size_t size(const char* key) const { return config_.at(key).get<size_t>(); }
  const std::vector<float>& tensor(const std::string& name) const { return source_.values(name); }

  Row linear(const Row& x, const std::string& name) const {
    const std::vector<float>& weight = tensor(name + ".weight");
    Row y(weight.size() / x.size());
    for (size_t i = 0; i < weight.size(); ++i) {
      y[i / x.size()] += static_cast<double>(weight[i]) * x[i % x.size()];
    }
    if (!source_.contains(name + ".bias")) return y;
    for (size_t i = 0; i < y.size(); ++i) y[i] += static_cast<double>(tensor(name + ".bias")[i]);
    return y;
  }

  Row norm(const Row& x, const std::string& name) const {
    double square = 0;
    for (const double value : x) square += value * value;
    const double mean = square / static_cast<double>(x.size());
    Row y;
    for (size_t i = 0; i < x.size(); ++i) {
      y.push_back(x[i] / std::sqrt(mean + config_.at("rms_norm_eps").get<double>()) *
                  static_cast<double>(tensor(name + ".weight")[i]));
    }
    return y;
  }

  void rotate(Row& x, size_t position) const {
    const size_t head = size("head_dim");
    for (size_t begin = 0; begin < x.size(); begin += head) {
      for (size_t i = 0; i < head / 2; ++i) {
        const double exponent = 2 * static_cast<double>(i) / static_cast<double>(head);
        const double angle = static_cast<double>(position) /
                             std::pow(config_.at("rope_theta").get<double>(), exponent);
        double& a = x[begin + i];
        double& b = x[begin + i + head / 2];
        const double turned = a * std::cos(angle) - b * std::sin(angle);
        b = b * std::cos(angle) + a * std::sin(angle);
        a = turned;
      }
    }
  }

  // What the last of the queries sees of all keys and values up to it.
  Row attention(const Row& q, const Rows& keys, const Rows& values) const {
    const size_t head = size("head_dim");
    const size_t repeat = size("num_attention_heads") / size("num_key_value_heads");
    Row out(q.size());
    for (size_t h = 0; h < size("num_attention_heads"); ++h) {
      double sum = 0;
      for (size_t t = 0; t < keys.size(); ++t) {
        double score = 0;
        for (size_t i = 0; i < head; ++i) score += q[h * head + i] * keys[t][h / repeat * head + i];
        const double weight = std::exp(score / std::sqrt(static_cast<double>(head)));
        sum += weight;
        for (size_t i = 0; i < head; ++i) {
          out[h * head + i] += weight * values[t][h / repeat * head + i];
        }
      }
      for (size_t i = 0; i < head; ++i) out[h * head + i] /= sum;
    }
    return out;
  }

  void run_layer(size_t layer, Rows& x) const {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    const auto add = [](Row& to, const Row& what) {
      for (size_t i = 0; i < to.size(); ++i) to[i] += what[i];
    };
    Rows keys;
    Rows values;
    for (size_t t = 0; t < x.size(); ++t) {
      const std::string name = prefix + "self_attn.";
      Row q = norm(linear(x[t], name + "q_proj"), name + "q_norm");
      keys.push_back(norm(linear(x[t], name + "k_proj"), name + "k_norm"));
      values.push_back(linear(x[t], name + "v_proj"));
      rotate(q, t);
      rotate(keys.back(), t);
      const Row out = linear(attention(q, keys, values), name + "o_proj");
      add(x[t], norm(out, prefix + "post_attention_layernorm"));
    }
    for (Row& row : x) {
      const Row gate = linear(row, prefix + "mlp.gate_proj");
      Row inner = linear(row, prefix + "mlp.up_proj");
      for (size_t i = 0; i < inner.size(); ++i) inner[i] *= gate[i] / (1 + std::exp(-gate[i]));
      add(row,
          norm(linear(inner, prefix + "mlp.down_proj"), prefix + "post_feedforward_layernorm"));
    }
  }

  const testing::MemorySource& source_;
  const nlohmann::json& config_;
};

TEST(OlmoTwo, FollowsItsEquations) {
  for (const char* name : {"OlmoTwo", "OlmoTwoBiased"}) {
    const auto config = nlohmann::json::parse(testing::model_config(name).json);
    const testing::MemorySource source = testing::random_model(config, kModelSeed);
    const ModelGraph graph = testing::graph_of(config);
    const auto sequences = testing::random_sequences(graph, {21}, kModelSeed);
    const auto logits = testing::run_sequences(graph, source, sequences, Precision::kF32);
    EXPECT_LT(
        testing::relative_error(logits[0], PlainOlmo(source, config).logits(sequences[0].ids)),
        1e-5)
        << name << ", seed " << kModelSeed;
  }
}

}  // namespace
}  // namespace pare
