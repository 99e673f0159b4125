// Damaged configurations of every architecture: each key gone, or of a value that makes no sense.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <functional>

#include "model/architectures.h"
#include "model/block_parameters.h"
#include "model/input_groups.h"
#include "pare/error.h"
#include "tests/model/every_model.h"

namespace pare {
namespace {

using nlohmann::json;

int64_t peak_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<int64_t>(usage.ru_maxrss) * 1024;
}

// A number of parameters that is small enough to go through the wiring, too.
bool is_small(const ModelGraph& graph) {
  int64_t widths = 0;
  for (const BlockGraph& block : graph.blocks) {
    for (const int64_t width : block.widths) {
      if (width < 0 || width > 100000) return false;
      widths += width;
    }
  }
  return widths < 1000000;
}

class HostileConfig : public ::testing::TestWithParam<testing::NamedConfig> {
 protected:
  // Describes a configuration, which may fail in one way only.
  void try_to_describe(const json& config, const std::string& what) {
    const auto begin = std::chrono::steady_clock::now();
    try {
      const ModelGraph graph = describe_model(config.dump(), "folder/config.json");
      ++accepted_;
      if (is_small(graph)) {
        outer_parameters(graph);
        for (const BlockGraph& block : graph.blocks) {
          block_parameters(block);
          input_groups(block);
        }
      }
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInputMalformed) << what << ": " << error.what();
      EXPECT_EQ(std::string(error.what()).rfind("folder/config.json", 0), 0U)
          << what << ": " << error.what();
      ++refused_;
    } catch (const std::exception& error) {
      ADD_FAILURE() << what << ": " << error.what();
    }
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5)) << what;
  }

  // Every key of the object at `place` of the configuration, and of what is inside of it.
  void damage(json& config, const json::json_pointer& place) {
    const json whole = config.at(place);
    for (const auto& [key, value] : whole.items()) {
      const json::json_pointer child = place / key;
      config.at(place).erase(key);
      try_to_describe(config, "without " + child.to_string());
      for (const json& bad :
           {json(0), json(-1), json(1e9), json(1000000000), json(-1e30), json(0.5), json("x"),
            json(nullptr), json::array(), json::object(), json(true)}) {
        config.at(place)[key] = bad;
        try_to_describe(config, child.to_string() + " = " + bad.dump());
      }
      config.at(place) = whole;
      if (value.is_object()) damage(config, child);
    }
  }

  int accepted_ = 0;
  int refused_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Models, HostileConfig, ::testing::ValuesIn(testing::model_configs()),
                         testing::name_of);

TEST_P(HostileConfig, IsRefusedOrDescribed) {
  json config = json::parse(GetParam().json);
  const int64_t before = peak_bytes();
  try_to_describe(config, "as it is");
  ASSERT_EQ(accepted_, 1);
  damage(config, json::json_pointer());
  EXPECT_GT(refused_, 20);
  constexpr int64_t kMost = int64_t{1} << 29;
  EXPECT_LT(peak_bytes() - before, kMost);
}

}  // namespace
}  // namespace pare
