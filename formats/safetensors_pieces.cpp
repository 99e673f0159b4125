#include "formats/safetensors_pieces.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "formats/output_file.h"
#include "formats/safetensors.h"
#include "pare/error.h"

namespace pare {
namespace {

/// Where a tensor of a piece goes.
struct Place {
  size_t piece = 0;
  size_t tensor = 0;
  int64_t offset = 0;
};

/// By falling element size, so that each tensor is aligned to its element.
std::vector<Place> lay_out(std::span<const TensorPiece> pieces) {
  std::vector<Place> places;
  for (size_t i = 0; i < pieces.size(); ++i) {
    for (size_t j = 0; j < pieces[i].tensors.size(); ++j) places.push_back({i, j, 0});
  }
  const auto spec = [&](const Place& place) -> const TensorSpec& {
    return pieces[place.piece].tensors[place.tensor];
  };
  std::stable_sort(places.begin(), places.end(), [&](const Place& a, const Place& b) {
    return dtype_size(spec(a).dtype) > dtype_size(spec(b).dtype);
  });
  int64_t end = 0;
  for (Place& place : places) {
    place.offset = end;
    end += spec(place).bytes();
  }
  return places;
}

std::string header_text(std::span<const TensorPiece> pieces, const std::vector<Place>& places,
                        const std::map<std::string, std::string>& metadata,
                        const std::string& path) {
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  for (const Place& place : places) {
    const TensorSpec& spec = pieces[place.piece].tensors[place.tensor];
    if (header.contains(spec.name)) {
      throw Error(ErrorCode::kInternal, path + ": tensor \"" + spec.name + "\" is there twice");
    }
    header[spec.name] = {{"dtype", safetensors_dtype_name(spec.dtype)},
                         {"shape", spec.shape},
                         {"data_offsets", {place.offset, place.offset + spec.bytes()}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string length(8, '\0');
  for (size_t i = 0; i < length.size(); ++i) {
    length[i] = static_cast<char>((text.size() >> (8 * i)) & 0xffU);
  }
  return length + text;
}

std::string shard_name(size_t number, size_t count) {
  const auto digits = [](size_t value) {
    const std::string text = std::to_string(value);
    return std::string(text.size() < 5 ? 5 - text.size() : 0, '0') + text;
  };
  return "model-" + digits(number) + "-of-" + digits(count) + ".safetensors";
}

}  // namespace

int64_t TensorPiece::bytes() const {
  return std::accumulate(
      tensors.begin(), tensors.end(), int64_t{0},
      [](int64_t total, const TensorSpec& spec) { return total + spec.bytes(); });
}

void write_pieces(const std::string& path, std::span<const TensorPiece> pieces,
                  const std::map<std::string, std::string>& metadata, ThreadPool& pool,
                  ProgressMeter& meter) {
  const std::vector<Place> places = lay_out(pieces);
  std::vector<std::vector<int64_t>> offset(pieces.size());
  for (size_t i = 0; i < pieces.size(); ++i) offset[i].resize(pieces[i].tensors.size());
  for (const Place& place : places) offset[place.piece][place.tensor] = place.offset;

  const std::string header = header_text(pieces, places, metadata, path);
  const auto begin = static_cast<int64_t>(header.size());
  int64_t total = begin;
  for (const TensorPiece& piece : pieces) total += piece.bytes();
  GrowingFile file(path, path);
  file.reserve(total);
  file.write_at(0, std::as_bytes(std::span(header)));
  for (size_t first = 0; first < pieces.size(); first += pool.size()) {
    const size_t count = std::min(pool.size(), pieces.size() - first);
    std::vector<std::vector<std::vector<std::byte>>> made(count);
    pool.parallel_for(count, [&](size_t i, size_t) { made[i] = pieces[first + i].make(); });
    for (size_t i = 0; i < count; ++i) {
      const TensorPiece& piece = pieces[first + i];
      for (size_t j = 0; j < piece.tensors.size(); ++j) {
        if (made[i].size() != piece.tensors.size() ||
            static_cast<int64_t>(made[i][j].size()) != piece.tensors[j].bytes()) {
          throw Error(ErrorCode::kInternal, path + ": tensor \"" + piece.tensors[j].name +
                                                "\" has other bytes than said");
        }
        file.write_at(begin + offset[first + i][j], made[i][j]);
      }
      meter.advance(static_cast<double>(piece.bytes()));
    }
    meter.check_cancelled();
  }
  file.sync();
}

std::vector<std::string> write_shards(const std::string& folder,
                                      std::span<const TensorPiece> pieces, int64_t shard_bytes,
                                      ThreadPool& pool, ProgressMeter& meter) {
  std::vector<std::span<const TensorPiece>> shards;
  int64_t total = 0;
  for (size_t begin = 0; begin < pieces.size();) {
    size_t end = begin;
    int64_t bytes = 0;
    do {
      bytes += pieces[end++].bytes();
    } while (end < pieces.size() && bytes + pieces[end].bytes() <= shard_bytes);
    shards.push_back(pieces.subspan(begin, end - begin));
    total += bytes;
    begin = end;
  }
  const std::map<std::string, std::string> metadata = {{"format", "pt"}};
  if (shards.size() == 1) {
    write_pieces(folder + "/model.safetensors", pieces, metadata, pool, meter);
    return {"model.safetensors"};
  }
  std::vector<std::string> names;
  nlohmann::json map = nlohmann::json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    names.push_back(shard_name(i + 1, shards.size()));
    for (const TensorPiece& piece : shards[i]) {
      for (const TensorSpec& spec : piece.tensors) map[spec.name] = names.back();
    }
    write_pieces(folder + "/" + names.back(), shards[i], metadata, pool, meter);
  }
  const nlohmann::json index = {{"metadata", {{"total_size", total}}}, {"weight_map", map}};
  const std::string text = index.dump(2) + "\n";
  names.emplace_back("model.safetensors.index.json");
  GrowingFile file(folder + "/" + names.back(), folder + "/" + names.back());
  file.append(std::as_bytes(std::span(text)));
  file.sync();
  return names;
}

}  // namespace pare
