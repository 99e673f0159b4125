#include "formats/awq_source.h"

#include <algorithm>
#include <utility>

#include "formats/config_fields.h"
#include "formats/engine_source.h"
#include "formats/grouped_weight.h"
#include "kernels/engine_layouts.h"

namespace pare {
namespace {

constexpr std::string_view kCodes = ".qweight";
constexpr int64_t kNibbles = 8;  // of a word

class AwqSource final : public EngineSource {
 public:
  explicit AwqSource(std::shared_ptr<const WeightSource> source) : EngineSource(std::move(source)) {
    for (const std::string& name : base().names()) {
      if (name.ends_with(kCodes)) add(name.substr(0, name.size() - kCodes.size()));
    }
    expect_linears(kCodes);
    show_names();
  }

 protected:
  CompressedWeight read_linear(const std::string& module) const override {
    const Shape shape = this->shape(module + ".weight");
    GroupedCodes grouped;
    grouped.out_features = shape[0];
    grouped.in_features = shape[1];
    const int64_t out = grouped.out_features;
    const int64_t in = grouped.in_features;
    const int64_t groups = matrix_shape(module + ".scales")[0];
    if (groups > in || in % groups != 0) {
      malformed(module + ".scales", "has " + std::to_string(groups) +
                                        " rows, which do not divide " + std::to_string(in) +
                                        " input channels");
    }
    grouped.group_size = in / groups;
    const auto words =
        values_of<uint32_t>(part(module + std::string(kCodes), DType::kI32, {in, out / kNibbles}));
    const auto zeros =
        values_of<uint32_t>(part(module + ".qzeros", DType::kI32, {groups, out / kNibbles}));
    grouped.codes.resize(static_cast<size_t>(out * in));
    unpack_awq(words, {out, in}, grouped.codes);
    grouped.zeros.resize(static_cast<size_t>(out * groups));
    unpack_awq(zeros, {out, groups}, grouped.zeros);
    grouped.scales = scales(module + ".scales", groups * out);
    return grouped_weight(grouped, module);
  }

 private:
  void add(const std::string& module) {
    const Shape packed = matrix_shape(module + std::string(kCodes));
    std::vector<std::string> parts = {module + std::string(kCodes)};
    for (const char* suffix : {".qzeros", ".scales"}) {
      if (base().contains(module + suffix)) parts.push_back(module + suffix);
    }
    add_linear(module, {packed[1] * kNibbles, packed[0]}, std::move(parts));
  }
};

}  // namespace

std::unique_ptr<WeightSource> make_awq_source(std::shared_ptr<const WeightSource> base,
                                              const nlohmann::ordered_json& config) {
  const ConfigFields fields(base->path() + ": config.json: quantization_config");
  constexpr int64_t kWidth = 4;
  const char* bits = config.contains("w_bit") ? "w_bit" : "bits";
  if (fields.number(config, bits, kWidth, 1, 32) != kWidth) {
    fields.refuse(bits, "is " + config.at(bits).dump() + "; AWQ is read with 4 bits");
  }
  std::string version = fields.text(config, "version", {}, "gemm");
  std::transform(version.begin(), version.end(), version.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (version != "gemm") {
    fields.refuse("version", "is \"" + version + "\"; read is \"gemm\"");
  }
  return std::make_unique<AwqSource>(std::move(base));
}

}  // namespace pare
