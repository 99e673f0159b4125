// The parser of texts on bytes made by hand: what any number of attributes may take out of a file.
#include "formats/hdf5_texts.h"

#include <gtest/gtest.h>

#include <cstring>
#include <ctime>

#include "tests/formats/test_files.h"

namespace pare::test {
namespace {

/// Structures of HDF5 one after another (File Format Specification 3.0).
class Bytes {
 public:
  template <typename Number>
  Bytes& number(Number value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Bytes& text(const std::string& value) {
    text_ += value;
    return *this;
  }
  size_t size() const { return text_.size(); }
  const std::string& str() const { return text_; }
  std::span<const std::byte> span() const { return std::as_bytes(std::span(text_)); }

  /// III.E: a collection with these objects, numbered from 1; its address.
  uint64_t collection(const std::vector<std::string>& objects) {
    Bytes body;
    for (size_t i = 0; i < objects.size(); ++i) {
      body.number(static_cast<uint16_t>(i + 1)).text(std::string(6, '\0'));
      body.number(static_cast<uint64_t>(objects[i].size())).text(objects[i]);
      body.text(std::string((8 - objects[i].size() % 8) % 8, '\0'));
    }
    const uint64_t address = size();
    text("GCOL").number(uint8_t{1}).text(std::string(3, '\0'));
    number(static_cast<uint64_t>(body.size() + 16)).text(body.str());
    return address;
  }

  /// IV.A.1.b: the header of an object with `count` attributes of one value; its address.
  uint64_t header(int count, uint32_t length, uint64_t heap, uint32_t index) {
    Bytes messages;
    for (int i = 0; i < count; ++i) {
      Bytes attribute;
      const std::string name = "a" + std::to_string(i) + '\0';
      attribute.number(uint8_t{3}).number(uint8_t{0}).number(static_cast<uint16_t>(name.size()));
      attribute.number(uint16_t{8}).number(uint16_t{4}).number(uint8_t{1}).text(name);
      attribute.text(std::string("\x19\x01\0\0\x10\0\0\0", 8)).text(std::string("\2\0\0\0", 4));
      attribute.number(length).number(heap).number(index);
      messages.number(uint8_t{0x0c}).number(static_cast<uint16_t>(attribute.size()));
      messages.number(uint8_t{0}).text(attribute.str());
    }
    const uint64_t address = size();
    text("OHDR").number(uint8_t{2}).number(uint8_t{2});
    number(static_cast<uint32_t>(messages.size())).text(messages.str()).number(uint32_t{0});
    return address;
  }

 private:
  std::string text_;
};

TEST(VlenTexts, AreRead) {
  Bytes file;
  const uint64_t heap = file.collection({"first", "second one", "third"});
  const uint64_t header = file.header(2, 10, heap, 2);
  VlenTextReader reader(file.span());
  EXPECT_EQ(reader.read(header, "x"),
            (std::map<std::string, std::string>{{"a0", "second one"}, {"a1", "second one"}}));
  const auto refused = [&](uint32_t length, uint32_t index, const char* part) {
    Bytes damaged = file;
    const uint64_t at = damaged.header(1, length, heap, index);
    VlenTextReader other(damaged.span());
    expect_error([&] { other.read(at, "x.h5: /"); }, ErrorCode::kInputMalformed, {"x.h5: /", part});
  };
  refused(11, 2, "beyond its end");
  refused(5, 4, "not in its heap");
  refused(5, 65536 + 1, "not in its heap");
  refused((16U << 20) + 1, 1, "too long");
}

// One text of 16 MiB and many attributes that name it: 64 of an object would be a gibibyte.
TEST(VlenTexts, OfOneFileHaveATotal) {
  constexpr uint32_t kLength = 16U << 20;
  Bytes file;
  const uint64_t heap = file.collection({std::string(kLength, 'x')});
  const uint64_t three = file.header(3, kLength, heap, 1);
  const uint64_t one = file.header(1, kLength, heap, 1);
  const uint64_t tiny = file.header(1, 1, heap, 1);
  const uint64_t many = file.header(64, kLength, heap, 1);
  {
    VlenTextReader reader(file.span());
    EXPECT_EQ(reader.read(three, "x").at("a2").size(), kLength);
    EXPECT_EQ(reader.read(one, "x").at("a0").size(), kLength);  // 64 MiB: all that there may be.
    expect_error([&] { reader.read(tiny, "x.h5: tensor \"t\""); }, ErrorCode::kInputMalformed,
                 {"x.h5: tensor \"t\"", "64 MiB"});
  }
  VlenTextReader reader(file.span());
  expect_error([&] { reader.read(many, "x.h5: /"); }, ErrorCode::kInputMalformed, {"64 MiB"});
}

// Looking through the collection for each attribute would take 4·10⁹ steps.
TEST(VlenTexts, ACollectionIsListedOnce) {
  constexpr int kObjects = 65535;
  constexpr int kReads = 1000;
  Bytes file;
  const uint64_t heap = file.collection(std::vector<std::string>(kObjects, "text"));
  const uint64_t header = file.header(64, 4, heap, kObjects);
  VlenTextReader reader(file.span());
  const std::clock_t start = std::clock();
  for (int i = 0; i < kReads; ++i) ASSERT_EQ(reader.read(header, "x").size(), 64U);
  EXPECT_LT(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC, 3.0);
}

TEST(VlenTexts, CollectionsThatShareBytesAreRefused) {
  Bytes inner;
  inner.collection({"text"});
  Bytes file;
  const uint64_t outer = file.collection({"text", inner.str()});
  const uint64_t inside = file.str().find("GCOL", outer + 4);
  const uint64_t a = file.header(1, 4, outer, 1);
  const uint64_t b = file.header(1, 4, inside, 1);
  for (const auto& [first, second] : {std::pair(a, b), std::pair(b, a)}) {
    VlenTextReader reader(file.span());
    EXPECT_EQ(reader.read(first, "x").at("a0"), "text");
    expect_error([&] { reader.read(second, "x"); }, ErrorCode::kInputMalformed, {"share bytes"});
  }
}

}  // namespace
}  // namespace pare::test
