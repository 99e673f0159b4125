// Memory follows the largest expert, not their number, and stays under what the plan says.
#include <filesystem>

#include "tests/pipeline/architecture_fixture.h"
#include "tests/pipeline/peak_memory.h"
#include "tests/support/model_configs.h"

namespace pare::testing {
namespace {

class MixtureMemory : public ArchitectureTest {
 protected:
  // In a child, so that this process stays small.
  void write_mixture(int64_t experts) {
    peak_of([&] {
      nlohmann::json config = nlohmann::json::parse(model_config("Mixtral").json);
      config.update({{"num_local_experts", experts},
                     {"num_hidden_layers", 2},
                     {"hidden_size", 192},
                     {"intermediate_size", 320}});
      write_folder(path("model"), random_model(config, kModelSeed));
      write_ids(8, 128, 101);
    });
    graph_ = open_model_files(path("model")).graph;
    windows_ = 8;
    length_ = 128;
  }

  int64_t planned(QuantizeOptions options) const {
    options.dry_run = true;
    return quantize(options, {}).planned_memory_bytes;
  }
};

TEST_F(MixtureMemory, GrowsWithTheLargestExpertAlone) {
  // Of each dataset HDF5 keeps some; an expert has three, with their scales. Its weights are twice
  // as large.
  constexpr double kBytesAnExpert = 3 * (64 << 10);
  double peak[2] = {};
  for (const int64_t experts : {8, 64}) {
    write_mixture(experts);
    QuantizeOptions options = job_of("out.h5", "int8_sq");
    options.smooth_strength = 0.5;
    options.force = true;
    options.threads = 1;  // The allocator keeps a heap for each thread: noise at this size.
    const int64_t found = peak_of([&] { quantize(options, {}); });
    EXPECT_GE(planned(options), found) << experts << " experts";
    peak[experts / 64] = static_cast<double>(found);
    std::filesystem::remove_all(path("model"));
  }
  EXPECT_LT(peak[1], 1.1 * peak[0] + 2 * (64 - 8) * kBytesAnExpert)
      << peak[0] << " and " << peak[1] << " bytes";
}

TEST_F(MixtureMemory, ThePlanCoversThreadsAndPruning) {
  write_mixture(32);
  QuantizeOptions options = job_of("out.h5", "int4_awq", "sparsegpt");
  options.force = true;
  options.threads = 3;
  const int64_t found = peak_of([&] { quantize(options, {}); });
  EXPECT_GE(planned(options), found);
}

}  // namespace
}  // namespace pare::testing
