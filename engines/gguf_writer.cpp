#include "engines/gguf_writer.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "formats/output_file.h"
#include "pare/error.h"

namespace pare {
namespace {

constexpr uint32_t kVersion = 3;
constexpr int64_t kAlignment = 32;  // what holds without general.alignment

// Numbers of value types.
constexpr uint32_t kU32 = 4;
constexpr uint32_t kI32 = 5;
constexpr uint32_t kF32 = 6;
constexpr uint32_t kBool = 7;
constexpr uint32_t kString = 8;
constexpr uint32_t kArray = 9;

int64_t aligned(int64_t offset) { return (offset + kAlignment - 1) / kAlignment * kAlignment; }

template <typename Number>
void append(Number number, std::string& out) {
  out.append(reinterpret_cast<const char*>(&number), sizeof(Number));
}

std::string header_of(const GgufMetadata& metadata, std::span<const GgufPiece> pieces,
                      const std::vector<int64_t>& offsets) {
  std::string header = "GGUF";
  append(kVersion, header);
  append(static_cast<uint64_t>(pieces.size()), header);
  append(metadata.count(), header);
  header += metadata.bytes();
  for (size_t i = 0; i < pieces.size(); ++i) {
    const GgufPiece& piece = pieces[i];
    append(static_cast<uint64_t>(piece.name.size()), header);
    header += piece.name;
    append(static_cast<uint32_t>(piece.shape.size()), header);
    for (auto size = piece.shape.rbegin(); size != piece.shape.rend(); ++size) {
      append(static_cast<uint64_t>(*size), header);
    }
    append(piece.type->id, header);
    append(static_cast<uint64_t>(offsets[i]), header);
  }
  header.resize(static_cast<size_t>(aligned(static_cast<int64_t>(header.size()))), '\0');
  return header;
}

// A part of a piece, and where it goes.
struct Part {
  const GgufPiece* piece = nullptr;
  size_t number = 0;
  int64_t offset = 0;
  int64_t bytes = 0;
};

}  // namespace

void GgufMetadata::begin(std::string_view key, uint32_t type) {
  put_text(key);
  put(type);
  ++count_;
}

template <typename Number>
void GgufMetadata::put(Number number) {
  append(number, bytes_);
}

void GgufMetadata::put_text(std::string_view text) {
  put(static_cast<uint64_t>(text.size()));
  bytes_ += text;
}

void GgufMetadata::add(std::string_view key, std::string_view text) {
  begin(key, kString);
  put_text(text);
}

void GgufMetadata::add(std::string_view key, bool value) {
  begin(key, kBool);
  put(static_cast<uint8_t>(value ? 1 : 0));
}

void GgufMetadata::add(std::string_view key, float value) {
  begin(key, kF32);
  put(value);
}

void GgufMetadata::add(std::string_view key, int64_t value) {
  if (value < 0 || value > std::numeric_limits<uint32_t>::max()) {
    throw Error(
        ErrorCode::kInputMalformed,
        std::string(key) + " would be " + std::to_string(value) + ", which GGUF has no room for");
  }
  begin(key, kU32);
  put(static_cast<uint32_t>(value));
}

void GgufMetadata::add(std::string_view key, std::span<const std::string> texts) {
  begin(key, kArray);
  put(kString);
  put(static_cast<uint64_t>(texts.size()));
  for (const std::string& text : texts) put_text(text);
}

void GgufMetadata::add(std::string_view key, std::span<const int32_t> values) {
  begin(key, kArray);
  put(kI32);
  put(static_cast<uint64_t>(values.size()));
  for (const int32_t value : values) put(value);
}

void GgufMetadata::add(std::string_view key, std::span<const float> values) {
  begin(key, kArray);
  put(kF32);
  put(static_cast<uint64_t>(values.size()));
  for (const float value : values) put(value);
}

void write_gguf(const std::string& path, const GgufMetadata& metadata,
                std::span<const GgufPiece> pieces, ThreadPool& pool, ProgressMeter& meter) {
  std::vector<int64_t> offsets;
  std::vector<Part> parts;
  int64_t end = 0;
  for (const GgufPiece& piece : pieces) {
    const int64_t bytes = piece.bytes() / static_cast<int64_t>(piece.parts.size());
    offsets.push_back(end);
    for (size_t i = 0; i < piece.parts.size(); ++i) {
      parts.push_back({&piece, i, end + static_cast<int64_t>(i) * bytes, bytes});
    }
    end = aligned(end + piece.bytes());
  }
  const std::string header = header_of(metadata, pieces, offsets);
  const auto begin = static_cast<int64_t>(header.size());
  GrowingFile file(path, path);
  file.reserve(begin + end);
  file.write_at(0, std::as_bytes(std::span(header)));
  for (size_t first = 0; first < parts.size(); first += pool.size()) {
    const size_t count = std::min(pool.size(), parts.size() - first);
    std::vector<std::vector<std::byte>> made(count);
    pool.parallel_for(count, [&](size_t i, size_t) {
      const Part& part = parts[first + i];
      made[i] = part.piece->parts[part.number]();
    });
    for (size_t i = 0; i < count; ++i) {
      const Part& part = parts[first + i];
      if (static_cast<int64_t>(made[i].size()) != part.bytes) {
        throw Error(ErrorCode::kInternal,
                    path + ": tensor \"" + part.piece->name + "\" has other bytes than said");
      }
      // The last one too: readers map whole alignments.
      if (part.number + 1 == part.piece->parts.size()) {
        const int64_t used = part.offset + part.bytes;
        made[i].resize(made[i].size() + static_cast<size_t>(aligned(used) - used));
      }
      file.write_at(begin + part.offset, made[i]);
      meter.advance(static_cast<double>(part.bytes));
    }
    meter.check_cancelled();
  }
  file.sync();
}

}  // namespace pare
