#include "model/architectures/experts.h"

#include "model/block_builder.h"

namespace pare {
namespace {

constexpr int64_t kMostExperts = 65536;

}  // namespace

void read_experts(const ConfigReader& config, const char* count_key, int64_t count,
                  const char* chosen_key, int64_t chosen, ExpertsSpec& experts) {
  experts.count = config.positive(count_key, count);
  experts.chosen = config.positive(chosen_key, chosen);
  if (experts.chosen > experts.count || experts.count > kMostExperts) {
    config.fail("a token chooses " + std::to_string(experts.chosen) + " of " +
                std::to_string(experts.count) + " experts (\"" + chosen_key + "\", \"" + count_key +
                "\"); expected at most all, and at most " + std::to_string(kMostExperts));
  }
}

std::shared_ptr<const BlockGraph> gated_expert(int64_t hidden, int64_t intermediate,
                                               Activation activation,
                                               const std::array<const char*, 3>& names) {
  BlockBuilder b("", hidden);
  const Value gate = b.linear(b.input(), names[0], intermediate);
  const Value up = b.linear(b.input(), names[1], intermediate);
  const Value down = b.linear(b.gated(activation, gate, up), names[2], hidden);
  return std::make_shared<const BlockGraph>(b.finish(down));
}

std::shared_ptr<const BlockGraph> clamped_swiglu_expert(int64_t hidden, int64_t intermediate) {
  BlockBuilder b("", hidden);
  const LinearSpec stored{.bias = true, .transposed = true};
  const Value both = b.linear(b.input(), "gate_up_proj", 2 * intermediate, stored);
  const Value gate = b.slice_runs(both, {.begin = 0, .count = 1, .stride = 2});
  const Value up = b.slice_runs(both, {.begin = 1, .count = 1, .stride = 2});
  const Value inner = b.gated(Activation::kClampedSwiglu, gate, up);
  return std::make_shared<const BlockGraph>(b.finish(b.linear(inner, "down_proj", hidden, stored)));
}

std::vector<FusedExperts> fused_gated_experts(const std::string& prefix,
                                              const std::array<const char*, 3>& names) {
  const std::string weight = ".weight";
  return {{names[0] + weight, prefix + "gate_up_proj", 0, 2},
          {names[1] + weight, prefix + "gate_up_proj", 1, 2},
          {names[2] + weight, prefix + "down_proj"}};
}

}  // namespace pare
