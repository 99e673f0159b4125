// Decoded copies: decoded once, freed when released, safe from many threads.
#include "formats/decoded_parts.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

namespace pare::test {
namespace {

void fill(std::span<std::byte> out, int value) {
  for (std::byte& byte : out) byte = static_cast<std::byte>(value);
}

TEST(DecodedParts, DecodesOnceUntilReleased) {
  DecodedParts parts;
  int calls = 0;
  const auto decode = [&](std::span<std::byte> out) { fill(out, ++calls); };
  const auto first = parts.get("a", {0, 4}, 8, decode);
  EXPECT_EQ(parts.get("a", {0, 4}, 8, decode).data(), first.data());
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(parts.get("a", {4, 4}, 8, decode)[7], std::byte{2});
  EXPECT_EQ(parts.get("b", {0, 4}, 16, decode).size(), 16U);
  EXPECT_EQ(parts.held_bytes(), 32);
  parts.release("a", {4, 4});
  EXPECT_EQ(parts.held_bytes(), 24);
  EXPECT_EQ(first[0], std::byte{1});
  parts.release("a");
  parts.release("a");
  parts.release("nobody", {0, 1});
  EXPECT_EQ(parts.held_bytes(), 16);
  EXPECT_EQ(parts.get("a", {0, 4}, 8, decode)[0], std::byte{4});
}

TEST(DecodedParts, AFailedDecodeIsTriedAgain) {
  DecodedParts parts;
  const auto fail = [](std::span<std::byte>) { throw std::runtime_error("no"); };
  EXPECT_THROW(parts.get("a", {0, 1}, 2, fail), std::runtime_error);
  EXPECT_EQ(parts.held_bytes(), 0);
  EXPECT_EQ(parts.get("a", {0, 1}, 2, [](auto out) { fill(out, 7); })[1], std::byte{7});
  EXPECT_TRUE(parts.get("a", {0, 0}, 0, fail).empty());
}

TEST(DecodedParts, ThreadsShareOneDecoding) {
  DecodedParts parts;
  std::atomic<int> calls = 0;
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int64_t i = 0; i < 200; ++i) {
        const auto shared = parts.get("shared", {i, 1}, 64, [&](auto out) {
          ++calls;
          fill(out, static_cast<int>(i & 0x7f));
        });
        if (shared[63] != static_cast<std::byte>(i & 0x7f)) ++wrong;
        // Every thread frees what it alone has.
        const auto own = parts.get("own", {thread, 1}, 64, [&](auto out) { fill(out, thread); });
        if (own[0] != static_cast<std::byte>(thread)) ++wrong;
        parts.release("own", {thread, 1});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(calls, 200);
  EXPECT_EQ(parts.held_bytes(), 200 * 64);
}

}  // namespace
}  // namespace pare::test
