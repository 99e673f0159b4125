#include "eval/evaluation_cache.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/sha256.h"
#include "formats/output_file.h"
#include "pare/error.h"

namespace pare {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

// "pare" and the layout's number; then the header's size as 64 bits, the header, the arrays.
constexpr std::array<char, 8> kMagic = {'p', 'a', 'r', 'e', 'c', 'a', 'c', '1'};
constexpr uint64_t kMostHeaderBytes = uint64_t{1} << 20;
constexpr size_t kBlockBytes = size_t{4} << 20;
// Writing takes at most this share of the time.
constexpr double kWritingShare = 0.05;

bool read_exactly(std::ifstream& file, void* to, size_t bytes) {
  file.read(static_cast<char*>(to), static_cast<std::streamsize>(bytes));
  return static_cast<size_t>(file.gcount()) == bytes;
}

// Of an entry whose arrays are all there and are what was written.
struct Header {
  std::vector<uint64_t> sizes;
  std::streamoff data = 0;
};

std::optional<Header> check_entry(std::ifstream& file, const std::string& description) {
  std::array<char, 8> magic{};
  uint64_t bytes = 0;
  if (!read_exactly(file, magic.data(), magic.size()) || magic != kMagic ||
      !read_exactly(file, &bytes, sizeof bytes) || bytes > kMostHeaderBytes) {
    return std::nullopt;
  }
  std::string text(bytes, '\0');
  if (!read_exactly(file, text.data(), text.size())) return std::nullopt;
  Header header;
  std::string digest;
  try {
    const Json json = Json::parse(text);
    if (json.at("description").get_ref<const std::string&>() != description) return std::nullopt;
    json.at("sizes").get_to(header.sizes);
    json.at("sha256").get_to(digest);
  } catch (const Json::exception&) {
    return std::nullopt;
  }
  header.data = static_cast<std::streamoff>(magic.size() + sizeof bytes + text.size());
  // Of the file that is open: another process may have put one in its place, or removed it.
  file.seekg(0, std::ios::end);
  const std::streamoff size = file.tellg();
  if (size < header.data) return std::nullopt;
  uint64_t left = static_cast<uint64_t>(size - header.data);
  file.seekg(header.data);
  for (const uint64_t array : header.sizes) {
    if (array > left) return std::nullopt;
    left -= array;
  }
  if (left != 0) return std::nullopt;
  Sha256 hash;
  std::vector<std::byte> block(kBlockBytes);
  while (file) {
    file.read(reinterpret_cast<char*>(block.data()), static_cast<std::streamsize>(block.size()));
    hash.update(std::span(block).first(static_cast<size_t>(file.gcount())));
  }
  if (hash.finish() != digest) return std::nullopt;
  file.clear();
  return header;
}

}  // namespace

EvaluationCache::EvaluationCache(std::string folder) : folder_(std::move(folder)) {
  if (folder_.empty()) return;
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error || !fs::is_directory(folder_)) {
    throw Error(ErrorCode::kWriteFailed,
                folder_ + ": cannot be made a folder for the cache" +
                    (error ? ": " + error.message() : ", a file of this name is there"));
  }
}

std::string EvaluationCache::path_of(const std::string& description) const {
  return folder_ + "/" + sha256_hex(description).substr(0, 40) + ".pare-cache";
}

bool EvaluationCache::load(const std::string& description, const StateView& state) {
  if (!enabled()) return false;
  const std::string path = path_of(description);
  std::ifstream file(path, std::ios::binary);
  if (!file) return false;
  const std::optional<Header> header = check_entry(file, description);
  const auto fits = [&] {
    if (header->sizes.size() != state.arrays_.size()) return false;
    for (size_t i = 0; i < header->sizes.size(); ++i) {
      const StateView::Array& array = state.arrays_[i];
      if (header->sizes[i] % array.element != 0) return false;
      if (array.bytes_expected.value_or(header->sizes[i]) != header->sizes[i]) return false;
    }
    return true;
  };
  if (!header || !fits()) {
    warnings_.push_back("W-CACHE: " + path + ": is damaged; what it held is computed again");
    return false;
  }
  file.seekg(header->data);
  for (size_t i = 0; i < header->sizes.size(); ++i) {
    const std::span<std::byte> to = state.arrays_[i].resized(header->sizes[i]);
    if (read_exactly(file, to.data(), to.size())) continue;
    throw Error(ErrorCode::kInputMissing, path + ": reading failed; empty the cache");
  }
  return true;
}

void EvaluationCache::store(const std::string& description, const StateView& state) {
  if (!enabled() || !writable_) return;
  Sha256 hash;
  Json sizes = Json::array();
  for (const StateView::Array& array : state.arrays_) {
    const std::span<const std::byte> bytes = array.bytes();
    sizes.push_back(bytes.size());
    hash.update(bytes);
  }
  const std::string header =
      Json{{"description", description}, {"sizes", sizes}, {"sha256", hash.finish()}}.dump();
  const uint64_t header_bytes = header.size();
  try {
    OutputFile file(path_of(description), /*force=*/true);
    file.append(std::as_bytes(std::span(kMagic)));
    file.append(std::as_bytes(std::span(&header_bytes, 1)));
    file.append(std::as_bytes(std::span(header)));
    for (const StateView::Array& array : state.arrays_) file.append(array.bytes());
    file.commit();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kWriteFailed) throw;
    // One may be in the way of another process; a disk that is full stays so.
    constexpr int kMostFailures = 3;
    warnings_.push_back(std::string("W-CACHE: ") + error.what() + "; this part is not kept");
    if (++failures_ >= kMostFailures) writable_ = false;
  }
}

void EvaluationCache::remove(const std::string& description) {
  if (!enabled()) return;
  std::error_code ignored;
  fs::remove(path_of(description), ignored);
}

void Checkpointer::save_if_due(const StateView& state) {
  if (!cache_.enabled()) return;
  const auto seconds_since = [](Clock::time_point time) {
    return std::chrono::duration<double>(Clock::now() - time).count();
  };
  if (seconds_since(last_) < std::max(seconds_, last_cost_ / kWritingShare)) return;
  const Clock::time_point start = Clock::now();
  cache_.store(description_, state);
  last_cost_ = seconds_ > 0 ? seconds_since(start) : 0;
  last_ = Clock::now();
}

void Checkpointer::finish() { cache_.remove(description_); }

}  // namespace pare
