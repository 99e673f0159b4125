#include "formats/lora_adapter.h"

#include <array>
#include <cmath>
#include <filesystem>
#include <string_view>
#include <utility>

#include "core/sha256.h"
#include "formats/input_paths.h"
#include "formats/resolve_names.h"
#include "pare/error.h"

namespace pare {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "base_model.model.";

[[noreturn]] void malformed(const std::string& file, const std::string& tensor,
                            const std::string& what) {
  throw Error(ErrorCode::kInputMalformed, file + ": tensor \"" + tensor + "\": " + what);
}

/// "model.h.lora_A.default.weight" is module "model.h", part "lora_A".
struct Spelling {
  std::string module;
  std::string part;
};

/// Nothing for a tensor that is no factor. Behind the part may follow an adapter's name and
/// ".weight"; "bias" is what is left of lora_B.bias, which is refused with its config.
std::optional<Spelling> parse_factor(const std::string& name) {
  constexpr std::array<std::string_view, 5> kParts{"lora_A", "lora_B", "lora_embedding_A",
                                                   "lora_embedding_B", "lora_magnitude_vector"};
  for (const std::string_view part : kParts) {
    const size_t at = name.rfind("." + std::string(part));
    if (at == std::string::npos) continue;
    std::string rest = name.substr(at + 1 + part.size());
    if (rest.ends_with(".weight")) rest.resize(rest.size() - std::string_view(".weight").size());
    const bool adapter_name =
        rest.size() > 1 && rest[0] == '.' && rest.find('.', 1) == std::string::npos;
    if (rest.empty() || (adapter_name && rest != ".bias")) {
      return Spelling{name.substr(0, at), std::string(part)};
    }
  }
  return std::nullopt;
}

void erase_all(std::string& text, std::string_view part) {
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part)) {
    text.erase(at, part.size());
  }
}

/// The model's name of a whole tensor that an adapter holds.
std::string replaced_name(std::string name) {
  erase_all(name, ".modules_to_save.default");
  erase_all(name, ".modules_to_save");
  erase_all(name, ".base_layer");
  return name;
}

SafetensorsFile open_tensors(const fs::path& folder) {
  const fs::path file = folder / "adapter_model.safetensors";
  if (input_file_exists(file.string())) return SafetensorsFile::open(file.string());
  const fs::path pickled = folder / "adapter_model.bin";
  if (input_file_exists(pickled.string())) {
    throw Error(ErrorCode::kInputMalformed,
                pickled.string() +
                    ": adapters are read from safetensors only; load it with PEFT and save it "
                    "again (save_pretrained with safe_serialization)");
  }
  throw Error(ErrorCode::kInputMissing, file.string() + ": is not there");
}

}  // namespace

LoraAdapter LoraAdapter::open(const std::string& folder) {
  const fs::path config = fs::path(folder) / "adapter_config.json";
  if (!input_file_exists(config.string())) {
    throw Error(ErrorCode::kInputMissing,
                folder + ": adapter_config.json is not there (not an adapter in PEFT's form?)");
  }
  return {read_lora_config(config.string()), open_tensors(folder)};
}

LoraAdapter::LoraAdapter(LoraConfig config, SafetensorsFile tensors)
    : config_(std::move(config)), tensors_(std::move(tensors)) {
  for (const std::string& name : tensors_.names()) {
    check_finite(name);
    add(name);
  }
  if (tensors_.names().empty()) {
    throw Error(ErrorCode::kInputMalformed, file() + ": the adapter holds no tensors");
  }
  for (const auto& [name, module] : by_name_) {
    check(name, module);
    modules_.push_back(name);
  }
}

void LoraAdapter::add(const std::string& name) {
  const std::string plain = name.starts_with(kPrefix) ? name.substr(kPrefix.size()) : name;
  const std::optional<Spelling> spelling = parse_factor(plain);
  if (!spelling) {
    if (plain.find(".lora_") != std::string::npos) {
      malformed(file(), name,
                "is of no kind that is known: expected lora_A, lora_B, "
                "lora_embedding_A, lora_embedding_B or lora_magnitude_vector");
    }
    const std::string replaced = replaced_name(plain);
    const auto [place, fresh] = replaced_by_.emplace(replaced, name);
    if (!fresh) malformed(file(), name, "stands for the same as \"" + place->second + "\"");
    replacements_.emplace(replaced, tensors_.get(name));
    return;
  }
  Module& module = by_name_[spelling->module];
  const bool is_a = spelling->part.ends_with("_A");
  std::string& place = is_a                             ? module.a
                       : spelling->part.ends_with("_B") ? module.b
                                                        : module.magnitude;
  if (!place.empty()) malformed(file(), name, "stands for the same as \"" + place + "\"");
  place = name;
  if (spelling->part.find("embedding") != std::string::npos) module.embedding = true;
}

void LoraAdapter::check_finite(const std::string& name) const {
  for (const float value : to_f32(tensors_.get(name), file() + ": " + name)) {
    if (!std::isfinite(value)) {
      throw Error(ErrorCode::kNonFinite,
                  file() + ": tensor \"" + name + "\" holds NaN or infinity");
    }
  }
}

void LoraAdapter::check(const std::string& name, const Module& module) const {
  if (module.a.empty() || module.b.empty()) {
    const std::string& there = !module.a.empty()   ? module.a
                               : !module.b.empty() ? module.b
                                                   : module.magnitude;
    malformed(file(), there,
              std::string("its partner lora_") + (module.a.empty() ? "A" : "B") + " is missing");
  }
  const Shape& a = tensors_.get(module.a).shape;
  const Shape& b = tensors_.get(module.b).shape;
  if (a.size() != 2 || b.size() != 2 || element_count(a) == 0 || element_count(b) == 0) {
    malformed(file(), a.size() != 2 || element_count(a) == 0 ? module.a : module.b,
              "shapes " + shape_text(a) + " and " + shape_text(b) +
                  ", expected [rank, in] and [out, rank]");
  }
  const int64_t rank = config_.rank_of(name);
  if (a[0] != rank || b[1] != rank) {
    malformed(file(), a[0] != rank ? module.a : module.b,
              "shapes " + shape_text(a) + " and " + shape_text(b) + " have ranks " +
                  std::to_string(a[0]) + " and " + std::to_string(b[1]) + ", " + config_.file +
                  " says " + std::to_string(rank));
  }
  if (config_.dora == module.magnitude.empty()) {
    malformed(file(), module.magnitude.empty() ? module.a : module.magnitude,
              std::string("lora_magnitude_vector is ") +
                  (module.magnitude.empty() ? "missing" : "there") + ", but use_dora is " +
                  (config_.dora ? "true" : "false"));
  }
  if (config_.dora && element_count(tensors_.get(module.magnitude).shape) != b[0]) {
    malformed(file(), module.magnitude,
              "shape " + shape_text(tensors_.get(module.magnitude).shape) + ", expected [" +
                  std::to_string(b[0]) + "]");
  }
}

LoraFactors LoraAdapter::load(const std::string& name, const Module& module) const {
  const TensorView& a = tensors_.get(module.a);
  const TensorView& b = tensors_.get(module.b);
  LoraFactors factors;
  factors.rank = a.shape[0];
  factors.in_features = a.shape[1];
  factors.out_features = b.shape[0];
  factors.a = to_f32(a, module.a);
  factors.b = to_f32(b, module.b);
  factors.scale = config_.scale_of(name);
  if (!module.magnitude.empty()) {
    factors.magnitude = to_f32(tensors_.get(module.magnitude), module.magnitude);
  }
  factors.embedding = module.embedding;
  return factors;
}

std::optional<LoraFactors> LoraAdapter::find(const std::string& module) const {
  auto found = by_name_.find(module);
  if (found == by_name_.end()) {
    const std::vector<std::string> wanted{module};
    const auto other = match_names(wanted, modules_, file());
    if (other.empty()) return std::nullopt;
    found = by_name_.find(other.at(module));
  }
  return load(found->first, found->second);
}

std::string LoraAdapter::tensor_of(const std::string& module) const {
  const auto found = by_name_.find(module);
  if (found != by_name_.end()) return found->second.a;
  const auto replaced = replaced_by_.find(module);
  return replaced == replaced_by_.end() ? module : replaced->second;
}

std::string LoraAdapter::sha256() const {
  return sha256_hex("config " + sha256_hex(config_.text) + "\ntensors " + sha256_file(file()) +
                    "\n");
}

}  // namespace pare
