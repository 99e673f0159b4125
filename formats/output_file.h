// Output that appears under its final name complete, or not at all.
//
// While it is written, output `x` lives beside its place as `x.pare-tmp`, locked against a second
// writer. commit() syncs it, renames it and syncs the folder. Destruction without commit() removes
// it. A killed process leaves the temporary behind; the next writer of the same output clears it.
// Not thread-safe.
//
//   OutputFile file("model.safetensors", /*force=*/false);
//   file.append(header);
//   file.commit();
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace pare {

/// Throws Error(kWriteFailed) for `path`: the system's reason for `error_number`, and how much room
/// there is.
[[noreturn]] void fail_write(const std::string& path, const std::string& what, int error_number);

/// `path` without slashes at its end, and `suffix`: a name beside an output, be it file or folder.
std::string path_beside(std::string path, const std::string& suffix);

/// Throws where OutputFile, or with `folder` OutputFolder, would. Writes nothing.
void check_output_place(const std::string& path, bool folder, bool force);

/// Owns an open file descriptor.
class Descriptor {
 public:
  explicit Descriptor(int number = -1) noexcept : number_(number) {}
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept;
  Descriptor& operator=(Descriptor&& other) noexcept;
  int get() const noexcept { return number_; }

 private:
  int number_;
};

/// One file that grows; also used without a lock for the files inside an OutputFolder.
class GrowingFile {
 public:
  /// Creates or empties `path`. `shown` is the path for messages.
  GrowingFile(const std::string& path, const std::string& shown);
  /// Takes over a descriptor that is open for writing.
  GrowingFile(Descriptor descriptor, const std::string& shown);

  int descriptor() const noexcept { return descriptor_.get(); }

  /// Makes sure that the first `bytes` bytes of the file can be written, so that a full disk or a
  /// file size limit is met here and not in the middle. The file does not get longer.
  void reserve(int64_t bytes);

  void write_at(int64_t offset, std::span<const std::byte> bytes);
  void append(std::span<const std::byte> bytes);

  /// Gives back what was reserved and not used, and waits until the content is on disk.
  void sync();

  int64_t size() const;

 private:
  Descriptor descriptor_;
  std::string shown_;
  int64_t end_ = 0;
};

class OutputFile {
 public:
  /// Throws Error(kWriteFailed) when `path` exists and `force` is false, when another writer is at
  /// work on it, or when its folder is missing or not writable.
  OutputFile(const std::string& path, bool force);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  const std::string& temporary_path() const noexcept { return temporary_; }
  GrowingFile& file() noexcept { return file_; }
  void append(std::span<const std::byte> bytes) { file_.append(bytes); }
  void commit();

 private:
  std::string path_;
  std::string temporary_;
  bool force_;
  GrowingFile file_;
  bool committed_ = false;
};

class OutputFolder {
 public:
  /// As OutputFile. An existing folder is replaced only when it is empty, or with `force` when it
  /// holds an index of shards and nothing but what that names. Throws Error(kUsage) when the name
  /// of the folder cannot begin those of shards: not UTF-8, too long, or none ("..").
  OutputFolder(const std::string& path, bool force);
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  /// Where the files go until commit().
  const std::string& temporary_path() const noexcept { return temporary_; }
  void commit();

 private:
  std::string path_;
  std::string temporary_;
  bool force_;
  Descriptor lock_;
  bool committed_ = false;
};

}  // namespace pare
