// What every use of the HDF5 library needs: one thread at a time, no printing, handles that close.
//
// Private to the hdf5_*.cpp files; hid_t and herr_t are spelt as the integers that they are, so
// that no header includes the library's.
//
//   const Hdf5Session session;
//   const Hdf5Handle file(H5Fopen(...), H5Fclose);
//   if (!file.valid()) fail(hdf5_error_text());
#pragma once

#include <cstdint>
#include <exception>
#include <mutex>
#include <string>
#include <utility>

namespace pare {

/// Holds the library for the calling thread and keeps it from printing to stderr. Not recursive.
class Hdf5Session {
 public:
  Hdf5Session();
  ~Hdf5Session();
  Hdf5Session(const Hdf5Session&) = delete;
  Hdf5Session& operator=(const Hdf5Session&) = delete;

 private:
  std::unique_lock<std::mutex> lock_;
  int (*printer_)(int64_t, void*) = nullptr;
  void* printer_data_ = nullptr;
  int exceptions_ = std::uncaught_exceptions();
};

/// Owns one identifier of the library. REQUIRES: destroyed inside a session.
class Hdf5Handle {
 public:
  using Close = int (*)(int64_t);
  Hdf5Handle() = default;
  Hdf5Handle(int64_t id, Close closer) noexcept : id_(id), close_(closer) {}
  ~Hdf5Handle() { close(); }
  Hdf5Handle(Hdf5Handle&& other) noexcept
      : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Hdf5Handle& operator=(Hdf5Handle&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(close_, other.close_);
    return *this;
  }

  bool valid() const noexcept { return id_ >= 0; }
  int64_t get() const noexcept { return id_; }

  /// Whether closing succeeded; true when there was nothing to close.
  bool close() noexcept {
    const int64_t id = std::exchange(id_, -1);
    return id < 0 || close_(id) >= 0;
  }

 private:
  int64_t id_ = -1;
  Close close_ = nullptr;
};

/// The innermost reason on the library's error stack. REQUIRES: inside a session.
std::string hdf5_error_text();

}  // namespace pare
