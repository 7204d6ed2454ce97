// C1..C5 of docs/design/content.md.
#include "blob/hash.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <random>

namespace indra {
namespace {

Bytes pattern(std::size_t n) {  // the official test vectors' input
  Bytes b(n);
  for (std::size_t i = 0; i < n; ++i) b[i] = static_cast<std::byte>(i % 251);
  return b;
}

/// The hash of `content` by chunks, pages and pages of pages.
BlobHash by_tree(ByteView content) {
  if (content.size() <= kChunkSize) return BlobHash::of(content);
  std::vector<Cv> level;
  for (std::size_t i = 0; i * kChunkSize < content.size(); ++i)
    level.push_back(chunk_cv(i, content.subspan(i * kChunkSize, std::min(kChunkSize, content.size() - i * kChunkSize))));
  while (level.size() > kFanout) {
    std::vector<Cv> up;
    for (std::size_t i = 0; i < level.size(); i += kFanout) up.push_back(join(std::span{level}.subspan(i, std::min(kFanout, level.size() - i))));
    level = std::move(up);
  }
  return root_of(level);
}

}  // namespace

TEST(Hash, OfficialVectorsAgree) {
  EXPECT_EQ(BlobHash::of({}).hex(), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
  EXPECT_EQ(BlobHash::of(pattern(1)).hex(), "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213");
  EXPECT_EQ(BlobHash::of(pattern(1023)).hex(), "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11");
  EXPECT_EQ(BlobHash::of(pattern(1024)).hex(), "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7");
  EXPECT_EQ(BlobHash::of(pattern(1025)).hex(), "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444");
}

TEST(Hash, TreeOfChunksIsTheHashAtEveryEdge) {
  std::vector<std::size_t> sizes{65535, 65536, 65537, 65536 + 1023, 65536 + 1024, 65536 + 1025};
  for (std::size_t k = 2; k < 70; ++k)
    for (const std::ptrdiff_t d : {-1, 0, 1}) sizes.push_back(k * kChunkSize + static_cast<std::size_t>(d));
  const std::size_t page = kFanout * kChunkSize;
  for (const std::size_t k : {2, 3, 64, 65})
    for (const std::ptrdiff_t d : {-1, 0, 1}) sizes.push_back(k * page + static_cast<std::size_t>(d));
  const Bytes content = pattern(65 * page + 1);
  for (const std::size_t n : sizes) ASSERT_EQ(by_tree(ByteView{content}.first(n)), BlobHash::of(ByteView{content}.first(n))) << n;
}

TEST(Hash, TreeOfChunksIsTheHashAtRandomSizes) {
  std::mt19937_64 random{7};
  Bytes content(9 << 20);
  for (auto& b : content) b = static_cast<std::byte>(random());
  for (int i = 0; i < 100; ++i) {
    const std::size_t n = 1 + random() % content.size();
    ASSERT_EQ(by_tree(ByteView{content}.first(n)), BlobHash::of(ByteView{content}.first(n))) << n;
  }
}

TEST(Hash, ChunkCvDependsOnItsPlace) { EXPECT_NE(zero_chunk_cv(0), zero_chunk_cv(1)); }

TEST(Hash, OneCvJoinsToItself) {
  const Cv cv = zero_chunk_cv(3);
  EXPECT_EQ(join(std::span{&cv, 1}), cv);
}

TEST(Hash, AgreesWithB3sum) {
  char name[] = "/tmp/indra-b3-XXXXXX";
  const int fd = mkstemp(name);
  ASSERT_GE(fd, 0);
  close(fd);
  const Bytes content = pattern(5 * kFanout * kChunkSize + 12345);
  std::ofstream{name, std::ios::binary}.write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(content.size()));
  FILE* p = popen((std::string{"b3sum --no-names "} + name).c_str(), "r");
  ASSERT_NE(p, nullptr);
  char line[80] = {};
  ASSERT_NE(fgets(line, sizeof line, p), nullptr) << "b3sum must be installed";
  pclose(p);
  unlink(name);
  EXPECT_EQ(by_tree(content).hex(), std::string(line, 64));
}

TEST(Hash, HexParsesBackAndRefusesJunk) {
  const BlobHash h = BlobHash::of(pattern(3));
  EXPECT_EQ(BlobHash::parse_hex(h.hex()), h);
  EXPECT_FALSE(BlobHash::parse_hex(h.hex().substr(1)));
  EXPECT_FALSE(BlobHash::parse_hex(std::string(64, 'g')));
}

}  // namespace indra
