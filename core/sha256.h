// SHA-256 (FIPS 180-4), as lower-case hexadecimal text.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace pare {

/// Accumulates bytes; one use an object.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void update(std::span<const std::byte> bytes);
  void update(std::string_view text);

  /// The digest of everything so far, 64 hexadecimal digits. REQUIRES: called once.
  std::string finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string sha256_hex(std::span<const std::byte> bytes);
std::string sha256_hex(std::string_view text);

/// Digest of a whole file. Throws Error(kInputMissing) when it cannot be read.
std::string sha256_file(const std::string& path);

}  // namespace pare
