#include "formats/gptq_source.h"

#include <algorithm>
#include <array>
#include <utility>

#include "formats/config_fields.h"
#include "formats/engine_source.h"
#include "formats/grouped_weight.h"
#include "kernels/engine_layouts.h"

namespace pare {
namespace {

constexpr std::string_view kCodes = ".qweight";
constexpr int64_t kWordBits = 32;
constexpr std::array<int64_t, 4> kWidths = {2, 3, 4, 8};

class GptqSource final : public EngineSource {
 public:
  GptqSource(std::shared_ptr<const WeightSource> source, int zero_offset, int64_t bits)
      : EngineSource(std::move(source)), zero_offset_(zero_offset), bits_(bits) {
    for (const std::string& name : base().names()) {
      if (name.ends_with(kCodes)) add(name.substr(0, name.size() - kCodes.size()));
    }
    expect_linears(kCodes);
    show_names();
  }

 protected:
  CompressedWeight read_linear(const std::string& module) const override {
    const Shape shape = this->shape(module + ".weight");
    const int64_t out = shape[0];
    const int64_t in = shape[1];
    const std::string codes_name = module + std::string(kCodes);
    const int64_t rows = base().shape(codes_name)[0];
    const auto bits = static_cast<int>(rows * kWordBits / in);
    const int64_t groups = matrix_shape(module + ".scales")[0];
    GroupedCodes grouped;
    grouped.out_features = out;
    grouped.in_features = in;
    grouped.bits = bits;
    grouped.codes.resize(static_cast<size_t>(out * in));
    unpack_gptq(values_of<uint32_t>(part(codes_name, DType::kI32, {rows, out})), {out, in}, bits,
                grouped.codes);
    grouped.zeros = read_zeros(module, out, groups, bits);
    grouped.scales = scales(module + ".scales", groups * out);
    group_channels(module, groups, grouped);
    return grouped_weight(grouped, module);
  }

 private:
  void add(const std::string& module) {
    const Shape packed = matrix_shape(module + std::string(kCodes));
    std::vector<std::string> parts = {module + std::string(kCodes)};
    for (const char* suffix : {".qzeros", ".scales"}) {
      if (base().contains(module + suffix)) parts.push_back(module + suffix);
    }
    int64_t in = packed[0] * kWordBits / bits_;
    if (const std::string order = module + ".g_idx"; base().contains(order)) {
      in = element_count(base().shape(order));
      parts.push_back(order);
    }
    const int64_t total = packed[0] * kWordBits;
    if (in < 1 || total % in != 0 ||
        std::find(kWidths.begin(), kWidths.end(), total / in) == kWidths.end()) {
      malformed(module + std::string(kCodes), "has shape " + shape_text(packed) +
                                                  ", which is not 2, 3, 4 or 8 bits for " +
                                                  std::to_string(in) + " input channels");
    }
    if (packed[1] * (total / in) % kWordBits != 0) {
      malformed(module + std::string(kCodes),
                "has " + std::to_string(packed[1]) + " columns, whose zero points fill no words");
    }
    add_linear(module, {packed[1], in}, std::move(parts));
  }

  std::vector<uint8_t> read_zeros(const std::string& module, int64_t out, int64_t groups,
                                  int bits) const {
    const std::string name = module + ".qzeros";
    const auto words =
        values_of<uint32_t>(part(name, DType::kI32, {groups, out * bits / kWordBits}));
    std::vector<uint8_t> zeros(static_cast<size_t>(out * groups));
    unpack_gptq_zeros(words, {out, groups}, bits, zero_offset_, zeros);
    if (zero_offset_ > 0 && std::find(zeros.begin(), zeros.end(), 0) != zeros.end()) {
      const std::string most = std::to_string((1 << bits) - 1);
      malformed(name, "holds " + most +
                          ", which stands for the zero point 0 with some readers of "
                          "version 1 and for " +
                          std::to_string(1 << bits) + " with others");
    }
    return zeros;
  }

  // Groups are runs of channels, or, after act order, whatever g_idx says: then each channel
  // becomes a group of its own.
  void group_channels(const std::string& module, int64_t groups, GroupedCodes& grouped) const {
    const int64_t in = grouped.in_features;
    grouped.group_size = (in + groups - 1) / groups;
    const std::string name = module + ".g_idx";
    if (!base().contains(name)) {
      if (in % groups != 0) {
        malformed(module + ".scales", "has " + std::to_string(groups) +
                                          " rows, which do not divide " + std::to_string(in) +
                                          " input channels");
      }
      return;
    }
    const auto group_of = values_of<int32_t>(part(name, DType::kI32, {in}));
    bool in_order = true;
    for (int64_t i = 0; i < in; ++i) {
      const int32_t group = group_of[static_cast<size_t>(i)];
      if (group < 0 || group >= groups) {
        malformed(name, "names group " + std::to_string(group) + " of " + std::to_string(groups));
      }
      in_order = in_order && group == i / grouped.group_size;
    }
    if (in_order) return;
    const int64_t out = grouped.out_features;
    std::vector<uint8_t> zeros(static_cast<size_t>(out * in));
    std::vector<float> scales(static_cast<size_t>(in * out));
    for (int64_t i = 0; i < in; ++i) {
      const int64_t group = group_of[static_cast<size_t>(i)];
      for (int64_t row = 0; row < out; ++row) {
        zeros[static_cast<size_t>(row * in + i)] =
            grouped.zeros[static_cast<size_t>(row * groups + group)];
        scales[static_cast<size_t>(i * out + row)] =
            grouped.scales[static_cast<size_t>(group * out + row)];
      }
    }
    grouped.zeros = std::move(zeros);
    grouped.scales = std::move(scales);
    grouped.group_size = 1;
  }

  int zero_offset_;
  int64_t bits_;
};

}  // namespace

std::unique_ptr<WeightSource> make_gptq_source(std::shared_ptr<const WeightSource> base,
                                               const nlohmann::ordered_json& config) {
  const ConfigFields fields(base->path() + ": config.json: quantization_config");
  const int64_t bits = fields.number(config, "bits", 4, 1, 32);
  if (std::find(kWidths.begin(), kWidths.end(), bits) == kWidths.end()) {
    fields.refuse("bits", "is " + std::to_string(bits) + "; read are 2, 3, 4 and 8");
  }
  const std::string version = fields.text(config, "checkpoint_format", {}, "gptq");
  if (version != "gptq" && version != "gptq_v2") {
    fields.refuse("checkpoint_format", "is \"" + version + "\"; read are \"gptq\" and \"gptq_v2\"");
  }
  return std::make_unique<GptqSource>(std::move(base), version == "gptq" ? 1 : 0, bits);
}

}  // namespace pare
