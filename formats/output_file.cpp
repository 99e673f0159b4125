#include "formats/output_file.h"
#include "formats/export_manifest.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include "formats/input_paths.h"
#include "formats/shard_index.h"
#include "pare/error.h"

namespace pare {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTemporarySuffix = ".pare-tmp";

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw Error(ErrorCode::kWriteFailed, path + ": " + what);
}

[[noreturn]] void fail_locked(const std::string& path) {
  fail(path, "another process is writing it now; wait for it or choose another output");
}

std::string folder_of(const std::string& path) {
  const fs::path folder = fs::path(path).parent_path();
  return folder.empty() ? "." : folder.string();
}

std::string without_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

void check_place(const std::string& path) {
  const std::string folder = folder_of(without_slash(path));
  std::error_code error;
  const fs::file_status status = fs::status(folder, error);
  if (status.type() == fs::file_type::none) {
    fail(path, "its folder " + folder + " cannot be reached: " + error.message());
  }
  if (!fs::is_directory(status)) {
    fail(path, "its folder " + folder + " does not exist; create it first");
  }
}

/// Whether `path` still names what the descriptor has open: between opening and locking another
/// writer may have renamed it away.
bool same_file(int descriptor, const std::string& path) {
  struct stat opened = {};
  struct stat named = {};
  return ::fstat(descriptor, &opened) == 0 && ::stat(path.c_str(), &named) == 0 &&
         opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

void check_free(const std::string& path, bool force) {
  struct stat status = {};
  if (::lstat(path.c_str(), &status) != 0) return;
  if (S_ISDIR(status.st_mode)) fail(path, "is a folder; a file is to be written there");
  if (!force) fail(path, "exists already; use --force to replace it");
}

Descriptor claim_file(const std::string& path, const std::string& temporary, bool force) {
  check_place(path);
  while (true) {
    Descriptor file(::open(temporary.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666));
    if (file.get() < 0) fail_write(path, "creating " + temporary, errno);
    // A lock of the open file description: unlike flock it does not meet the locks that the HDF5
    // library may take, and unlike a plain POSIX lock it survives the library closing the file.
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    if (::fcntl(file.get(), F_OFD_SETLK, &lock) != 0) {
      if (errno == EAGAIN || errno == EACCES) fail_locked(path);
      fail_write(path, "locking " + temporary, errno);
    }
    if (!same_file(file.get(), temporary)) continue;
    try {
      // Only now: the writer that held the lock until here may just have made the output.
      check_free(path, force);
      if (::ftruncate(file.get(), 0) != 0) fail_write(path, "emptying " + temporary, errno);
    } catch (...) {
      ::unlink(temporary.c_str());
      throw;
    }
    return file;
  }
}

void sync_folder(const std::string& path) {
  const Descriptor folder(::open(folder_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some file systems cannot sync folders and say EINVAL: then renaming is all there is.
  if (folder.get() < 0 || (::fsync(folder.get()) != 0 && errno != EINVAL)) {
    fail_write(path, "syncing its folder", errno);
  }
}

void check_folder_name(const std::string& path) {
  const std::string fault = shard_folder_fault(path);
  if (!fault.empty()) throw Error(ErrorCode::kUsage, path + ": " + fault);
}

/// Names of what a folder of shards, or an exported one, consists of: the file that says so, and
/// the files that it names.
std::set<std::string> own_files(const std::string& path) {
  try {
    const std::string index = find_index(path);
    if (index.empty()) return exported_files(path);
    std::set<std::string> names{fs::path(index).filename().string()};
    std::map<std::string, size_t> weight_map;
    for (const ShardPlan& shard : read_index(index, weight_map)) {
      names.insert(fs::path(shard.path).filename().string());
    }
    return names;
  } catch (const Error& error) {
    fail(path, std::string("is not replaced, for it is no folder of shards (") + error.what() +
                   "); remove it first, or choose another output");
  }
}

/// Whether a folder inside the folder holds nothing but files that belong to it.
bool is_own_folder(const std::string& path, const std::string& name,
                   const std::set<std::string>& own) {
  std::error_code error;
  const fs::path folder = fs::path(path) / name;
  if (!fs::is_directory(fs::symlink_status(folder, error))) return false;
  const std::vector<std::string> inside = folder_names(folder.string(), error);
  if (error || inside.empty()) return false;
  return std::all_of(inside.begin(), inside.end(), [&](const std::string& file) {
    return own.contains(name + "/" + file) && fs::is_regular_file(folder / file, error);
  });
}

/// Only what is a checkpoint from end to end may be deleted, even with force.
void check_replaceable(const std::string& path, bool force) {
  struct stat status = {};
  if (::lstat(path.c_str(), &status) != 0) return;
  if (!S_ISDIR(status.st_mode)) fail(path, "exists and is no folder; remove it first");
  std::error_code error;
  const std::vector<std::string> names = folder_names(path, error);
  if (error) fail(path, "cannot be listed: " + error.message());
  if (names.empty()) return;
  if (!force) fail(path, "exists already and is not empty; use --force to replace it");
  const std::set<std::string> own = own_files(path);
  for (const std::string& name : names) {
    if (own.contains(name) && fs::is_regular_file(fs::path(path) / name, error)) continue;
    if (is_own_folder(path, name, own)) continue;
    fail(path, "holds \"" + name + "\", which is not part of a checkpoint" +
                   (own.empty() ? " (there is no index NAME.h5.index.json that names it, and no " +
                                      std::string(kExportManifest) + ")"
                                : "") +
                   ", and is not replaced");
  }
}

Descriptor claim_folder(const std::string& path, const std::string& temporary, bool force) {
  check_folder_name(path);
  check_place(path);
  while (true) {
    if (::mkdir(temporary.c_str(), 0777) != 0 && errno != EEXIST) {
      fail_write(path, "creating " + temporary, errno);
    }
    Descriptor folder(::open(temporary.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    if (folder.get() < 0) {
      if (errno == ENOENT) continue;
      fail_write(path, "opening " + temporary, errno);
    }
    if (::flock(folder.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EWOULDBLOCK) fail_locked(path);
      fail_write(path, "locking " + temporary, errno);
    }
    if (!same_file(folder.get(), temporary)) continue;
    // What a killed writer left.
    std::error_code error;
    for (const std::string& name : folder_names(temporary, error)) {
      fs::remove_all(fs::path(temporary) / name, error);
    }
    try {
      check_replaceable(path, force);
    } catch (...) {
      ::rmdir(temporary.c_str());
      throw;
    }
    return folder;
  }
}

}  // namespace

std::string path_beside(std::string path, const std::string& suffix) {
  return without_slash(std::move(path)) + suffix;
}

void check_output_place(const std::string& path, bool folder, bool force) {
  if (folder) check_folder_name(path);
  check_place(path);
  if (folder) {
    check_replaceable(without_slash(path), force);
  } else {
    check_free(path, force);
  }
  if (::access(folder_of(without_slash(path)).c_str(), W_OK | X_OK) != 0) {
    fail_write(path, "writing to its folder", errno);
  }
}

void fail_write(const std::string& path, const std::string& what, int error_number) {
  std::string message = path + ": " + what + " failed: " + std::strerror(error_number);
  std::error_code error;
  const fs::space_info space = fs::space(folder_of(path), error);
  if (!error) message += "; " + std::to_string(space.available) + " bytes are free there";
  struct rlimit limit = {};
  if (error_number == EFBIG && ::getrlimit(RLIMIT_FSIZE, &limit) == 0 &&
      limit.rlim_cur != RLIM_INFINITY) {
    message += ", the file size limit is " + std::to_string(limit.rlim_cur) + " bytes";
  }
  throw Error(ErrorCode::kWriteFailed, message);
}

Descriptor::~Descriptor() {
  if (number_ >= 0) ::close(number_);
}
Descriptor::Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(number_, other.number_);
  return *this;
}

GrowingFile::GrowingFile(const std::string& path, const std::string& shown)
    : GrowingFile(Descriptor(::open(path.c_str(),
                                    O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666)),
                  shown) {}

GrowingFile::GrowingFile(Descriptor descriptor, const std::string& shown)
    : descriptor_(std::move(descriptor)), shown_(shown) {
  if (descriptor_.get() < 0) fail_write(shown_, "creating", errno);
}

void GrowingFile::reserve(int64_t bytes) {
  const std::string what = "reserving " + std::to_string(bytes) + " bytes";
  struct rlimit limit = {};
  // Asked for beforehand: exceeding the limit raises SIGXFSZ, which ends a process by default.
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
      static_cast<rlim_t>(bytes) > limit.rlim_cur) {
    fail_write(shown_, what, EFBIG);
  }
  if (::fallocate(descriptor_.get(), FALLOC_FL_KEEP_SIZE, 0, bytes) == 0) return;
  // A file system that cannot reserve meets its limit when it is written.
  if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINTR) return;
  fail_write(shown_, what, errno);
}

void GrowingFile::write_at(int64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    constexpr size_t kPiece = size_t{1} << 30;  // One call writes at most 2 GiB.
    const ssize_t count =
        ::pwrite(descriptor_.get(), bytes.data(), std::min(bytes.size(), kPiece), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail_write(shown_, "writing", count < 0 ? errno : ENOSPC);
    bytes = bytes.subspan(static_cast<size_t>(count));
    offset += count;
  }
  end_ = std::max(end_, offset);
}

void GrowingFile::append(std::span<const std::byte> bytes) {
  reserve(end_ + static_cast<int64_t>(bytes.size()));
  write_at(end_, bytes);
}

int64_t GrowingFile::size() const {
  struct stat status = {};
  if (::fstat(descriptor_.get(), &status) != 0) fail_write(shown_, "asking for the size", errno);
  return status.st_size;
}

void GrowingFile::sync() {
  if (::ftruncate(descriptor_.get(), size()) != 0) fail_write(shown_, "trimming", errno);
  if (::fsync(descriptor_.get()) != 0) fail_write(shown_, "syncing", errno);
}

OutputFile::OutputFile(const std::string& path, bool force)
    : path_(path),
      temporary_(path + kTemporarySuffix),
      force_(force),
      file_(claim_file(path_, temporary_, force_), path_) {}

OutputFile::~OutputFile() {
  if (!committed_) ::unlink(temporary_.c_str());
}

void OutputFile::commit() {
  file_.sync();
  // Without force nothing is replaced, not even what appeared since the constructor looked.
  const unsigned flags = force_ ? 0U : static_cast<unsigned>(RENAME_NOREPLACE);
  int result = ::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), flags);
  if (result != 0 && errno == EINVAL) result = ::rename(temporary_.c_str(), path_.c_str());
  if (result != 0) fail_write(path_, "renaming " + temporary_, errno);
  committed_ = true;
  sync_folder(path_);
}

OutputFolder::OutputFolder(const std::string& path, bool force)
    : path_(without_slash(path)),
      temporary_(path_ + kTemporarySuffix),
      force_(force),
      lock_(claim_folder(path_, temporary_, force_)) {}

OutputFolder::~OutputFolder() {
  if (committed_) return;
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
}

void OutputFolder::commit() {
  if (::fsync(lock_.get()) != 0 && errno != EINVAL) fail_write(path_, "syncing", errno);
  check_replaceable(path_, force_);
  // An empty folder is replaced by rename; a full one changes places with the new one, so that at
  // every moment one of the two is there whole.
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    if ((error != ENOTEMPTY && error != EEXIST) ||
        ::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), RENAME_EXCHANGE) != 0) {
      fail_write(path_, "renaming " + temporary_, errno);
    }
    std::error_code ignored;
    fs::remove_all(temporary_, ignored);
  }
  committed_ = true;
  sync_folder(path_);
}

}  // namespace pare
