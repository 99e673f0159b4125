#include "formats/safetensors_writer.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <vector>

#include "formats/output_file.h"
#include "formats/safetensors.h"
#include "pare/error.h"

namespace pare {

void write_safetensors(const std::string& path, const std::map<std::string, TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata, bool force) {
  std::vector<std::pair<const std::string*, const TensorView*>> order;
  for (const auto& [name, view] : tensors) order.emplace_back(&name, &view);
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return dtype_size(a.second->dtype) > dtype_size(b.second->dtype);
  });
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  size_t end = 0;
  for (const auto& [name, view] : order) {
    const size_t begin = end;
    end += view->bytes.size();
    if (view->bytes.size() !=
        static_cast<size_t>(element_count(view->shape)) * dtype_size(view->dtype)) {
      throw Error(ErrorCode::kInternal, path + ": tensor \"" + *name +
                                            "\": " + std::to_string(view->bytes.size()) +
                                            " bytes do not hold shape " + shape_text(view->shape));
    }
    header[*name] = {{"dtype", safetensors_dtype_name(view->dtype)},
                     {"shape", view->shape},
                     {"data_offsets", {begin, end}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::array<std::byte, 8> length{};
  for (size_t i = 0; i < length.size(); ++i) {
    length[i] = static_cast<std::byte>((text.size() >> (8 * i)) & 0xffU);
  }
  OutputFile file(path, force);
  file.append(length);
  file.append(std::as_bytes(std::span(text)));
  for (const auto& [name, view] : order) file.append(view->bytes);
  file.commit();
}

}  // namespace pare
