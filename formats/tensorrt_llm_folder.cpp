// Which files a TensorRT-LLM checkpoint consists of.
#include "formats/input_paths.h"
#include "formats/json_check.h"
#include "formats/mapped_file.h"
#include "formats/tensorrt_llm_source.h"
#include "pare/error.h"

namespace pare {
namespace {

using Json = nlohmann::ordered_json;

// What hf_config.json says; empty where it is not there.
std::string read_source_config(const std::string& folder) {
  constexpr size_t kMostBytes = size_t{64} << 20;
  const std::string path = folder + "/" + kSourceConfig;
  if (!input_file_exists(path)) return "";
  std::string text = read_text_file(path, kMostBytes);
  check_json(text, path);
  return text;
}

int64_t model_kv_heads(const std::string& config_json) {
  if (config_json.empty()) return 0;
  const Json json = Json::parse(config_json);
  const auto found = json.find("num_key_value_heads");
  if (found == json.end() || !found->is_number_unsigned()) return 0;
  const auto heads = found->get<uint64_t>();
  return heads >= 1 && heads <= 65536 ? static_cast<int64_t>(heads) : 0;
}

void open_part(const std::string& label, TrtFolder& folder) {
  TrtPart part;
  part.label = label;
  part.config = read_trt_config(folder.path + "/" + label + "config.json",
                                model_kv_heads(folder.source_config));
  const TrtSizes& sizes = part.config.sizes;
  const int64_t world = sizes.tp_size * sizes.pp_size;
  for (int64_t rank = 0; rank < world; ++rank) {
    const std::string name = label + "rank" + std::to_string(rank);
    const std::string file = folder.path + "/" + name + ".safetensors";
    if (!input_file_exists(file)) {
      throw Error(ErrorCode::kInputMissing, file + " is not there; " + part.config.path +
                                                " says world_size " + std::to_string(world));
    }
    part.files.push_back(folder.files.size());
    folder.files.push_back({name, SafetensorsFile::open(file)});
  }
  part.layout = make_trt_layout(*part.config.family, sizes);
  folder.parts.push_back(std::move(part));
}

}  // namespace

int64_t trt_model_kv_heads(const std::string& folder) {
  return model_kv_heads(read_source_config(folder));
}

TrtFolder open_trt_folder(const std::string& path) {
  TrtFolder folder;
  folder.path = path;
  folder.source_config = read_source_config(path);
  if (input_file_exists(path + "/config.json")) {
    open_part("", folder);
  } else {
    open_part("encoder/", folder);
    open_part("decoder/", folder);
  }
  const TrtFamily* first = folder.parts[0].config.family;
  const TrtFamily* last = folder.parts.back().config.family;
  const bool halves = folder.parts.size() == 2;
  const bool fit = halves ? first == find_trt_encoder(first->architecture) &&
                                last == find_trt_decoder(first->architecture)
                          : is_trt_decoder(*first);
  if (!fit) {
    throw Error(ErrorCode::kInputMalformed,
                folder.parts[0].config.path + ": architecture \"" + first->target + "\" is " +
                    (halves ? "not the encoder of the decoder beside it"
                            : "half a model; give the folder that has encoder/ and decoder/"));
  }
  return folder;
}

}  // namespace pare
