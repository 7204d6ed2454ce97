// C1..C5 of docs/design/content.md.
#include "blob/hash.h"

extern "C" {
#include <blake3.h>
}

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>

namespace indra {
namespace {

Bytes pattern(std::size_t n) {  // the official test vectors' input
  Bytes b(n);
  for (std::size_t i = 0; i < n; ++i) b[i] = static_cast<std::byte>(i % 251);
  return b;
}

BlobHash official(ByteView content) {
  blake3_hasher hasher;
  blake3_hasher_init(&hasher);
  blake3_hasher_update(&hasher, content.data(), content.size());
  std::array<std::byte, 32> digest;
  blake3_hasher_finalize(&hasher, reinterpret_cast<std::uint8_t*>(digest.data()), digest.size());
  return BlobHash::from_digest(digest);
}

/// The hash of `content` by chunks, pages and pages of pages.
BlobHash by_tree(ByteView content) {
  if (content.size() <= kChunkSize) return BlobHash::of(content);
  std::vector<Cv> level;
  for (std::size_t i = 0; i * kChunkSize < content.size(); ++i)
    level.push_back(
        chunk_cv(i, content.subspan(i * kChunkSize, std::min(kChunkSize, content.size() - i * kChunkSize))));
  while (level.size() > kFanout) {
    std::vector<Cv> up;
    for (std::size_t i = 0; i < level.size(); i += kFanout)
      up.push_back(join(std::span{level}.subspan(i, std::min(kFanout, level.size() - i))));
    level = std::move(up);
  }
  return root_of(level);
}

}  // namespace

// C1. The digests are those of the official test vectors; the hasher beside ours is the official one.
TEST(Hash, OfficialVectorsAgree) {
  EXPECT_EQ(BlobHash::of({}).hex(), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
  EXPECT_EQ(BlobHash::of(pattern(1)).hex(),
            "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213");
  EXPECT_EQ(BlobHash::of(pattern(1023)).hex(),
            "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11");
  EXPECT_EQ(BlobHash::of(pattern(1024)).hex(),
            "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7");
  EXPECT_EQ(BlobHash::of(pattern(1025)).hex(),
            "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444");
  for (const std::size_t n :
       {0,    1,    2,    3,    4,    5,    6,     7,     8,     63,    64,    65,   127,
        128,  129,  1023, 1024, 1025, 2048, 2049,  3072,  3073,  4096,  4097,  5120, 5121,
        6144, 6145, 7168, 7169, 8192, 8193, 16384, 31744, 65536, 65537, 102400})
    EXPECT_EQ(by_tree(pattern(n)), official(pattern(n))) << n;
}

// A chunk hashed by our kernel loop, not by the official hasher: a second chunk makes it no root.
TEST(Hash, ShortLastChunksOfEveryKindAgree) {
  Bytes content = pattern(2 * kChunkSize);
  for (std::size_t n = 1; n < kChunkSize; n += n < 2100 ? 1 : 509) {
    const ByteView b = ByteView{content}.first(kChunkSize + n);
    const std::array cvs{chunk_cv(0, b.first(kChunkSize)), chunk_cv(1, b.subspan(kChunkSize))};
    ASSERT_EQ(root_of(cvs), official(b)) << n;
  }
}

TEST(Hash, TreeOfChunksIsTheHashAtEveryEdge) {
  std::vector<std::size_t> sizes{65535, 65536, 65537, 65536 + 1023, 65536 + 1024, 65536 + 1025};
  for (std::size_t k = 2; k < 70; ++k)
    for (const std::ptrdiff_t d : {-1, 0, 1}) sizes.push_back(k * kChunkSize + static_cast<std::size_t>(d));
  const std::size_t page = kFanout * kChunkSize;
  for (const std::size_t k : {2, 3, 64, 65})
    for (const std::ptrdiff_t d : {-1, 0, 1}) sizes.push_back(k * page + static_cast<std::size_t>(d));
  const Bytes content = pattern(65 * page + 1);
  for (const std::size_t n : sizes)
    ASSERT_EQ(by_tree(ByteView{content}.first(n)), official(ByteView{content}.first(n))) << n;
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

// C3. Too large to hold: the same tree built of pages at once and of one long list must be one tree.
TEST(Hash, PagesAndPagesOfPagesJoinAsOneListOfChunks) {
  std::mt19937_64 random{11};
  constexpr std::size_t kPage = kFanout, kGroup = kFanout * kFanout;
  std::vector<Cv> all(2 * kGroup * kFanout + 1);  // beyond two pages of pages of pages: 32 GiB
  for (auto& cv : all)
    for (auto& b : cv.bytes) b = static_cast<std::byte>(random());
  const auto up = [](std::span<const Cv> level) {
    std::vector<Cv> out;
    for (std::size_t i = 0; i < level.size(); i += kFanout)
      out.push_back(join(level.subspan(i, std::min(kFanout, level.size() - i))));
    return out;
  };
  for (const std::size_t n : {kPage + 1, 2 * kPage - 1, kGroup - 1, kGroup, kGroup + 1, kGroup + kPage - 1,
                              kGroup + kPage, kGroup + kPage + 1, 2 * kGroup + 1, kGroup * kFanout - 1,
                              kGroup * kFanout, kGroup * kFanout + 1, all.size()}) {
    const std::span<const Cv> chunks = std::span{all}.first(n);
    std::vector<Cv> level(chunks.begin(), chunks.end());
    while (level.size() > kFanout) level = up(level);
    ASSERT_EQ(root_of(level), root_of(chunks)) << n;
    ASSERT_EQ(join(level), join(chunks)) << n;
  }
}

// The tree is left-full: the left part of any joint is the largest power of two below the whole.
RC_GTEST_PROP(HashProperty, any_left_full_split_joins_to_the_same, (std::uint64_t seed)) {
  std::mt19937_64 random{seed};
  std::vector<Cv> cvs(*rc::gen::inRange<std::size_t>(2, 600));
  for (auto& cv : cvs)
    for (auto& b : cv.bytes) b = static_cast<std::byte>(random());
  const std::size_t part = std::size_t{1} << *rc::gen::inRange(0, 10);
  std::vector<Cv> parts;
  for (std::size_t i = 0; i < cvs.size(); i += part)
    parts.push_back(join(std::span{cvs}.subspan(i, std::min(part, cvs.size() - i))));
  RC_ASSERT(join(parts) == join(cvs));
  if (parts.size() >= 2) RC_ASSERT(root_of(parts) == root_of(cvs));
}

// C4. One dirty chunk: new CV, new page CV, new root, and it is the hash of the new bytes.
TEST(Hash, OverwriteAppendAndTruncateAtEdgesChangeOnlyTheirPath) {
  constexpr std::size_t kPageBytes = kFanout * kChunkSize;
  Bytes content = pattern(3 * kPageBytes + 5 * kChunkSize + 77);
  const auto chunk_at = [&](std::size_t i) {
    return ByteView{content}.subspan(i * kChunkSize, std::min(kChunkSize, content.size() - i * kChunkSize));
  };
  std::vector<Cv> chunks;
  for (std::size_t i = 0; i * kChunkSize < content.size(); ++i) chunks.push_back(chunk_cv(i, chunk_at(i)));
  const auto root = [&] {
    std::vector<Cv> pages;
    for (std::size_t i = 0; i < chunks.size(); i += kFanout)
      pages.push_back(join(std::span{chunks}.subspan(i, std::min(kFanout, chunks.size() - i))));
    return pages.size() > 1 ? root_of(pages) : root_of(chunks);
  };
  for (const std::size_t at : {std::size_t{0}, kChunkSize - 1, kChunkSize, kPageBytes - 1, kPageBytes,
                               3 * kPageBytes, content.size() - 1}) {
    content[at] ^= std::byte{0x5a};
    chunks[at / kChunkSize] = chunk_cv(at / kChunkSize, chunk_at(at / kChunkSize));
    ASSERT_EQ(root(), official(content)) << "overwrite at " << at;
  }
  for (const std::size_t size : {3 * kPageBytes + 1, 3 * kPageBytes, 3 * kPageBytes - 1, 2 * kPageBytes + 1,
                                 kPageBytes + 1, kPageBytes, 2 * kChunkSize, kChunkSize + 1}) {
    content.resize(size);
    chunks.resize((size + kChunkSize - 1) / kChunkSize);
    chunks.back() = chunk_cv(chunks.size() - 1, chunk_at(chunks.size() - 1));
    ASSERT_EQ(root(), official(content)) << "truncate to " << size;
  }
  for (const std::size_t size : {2 * kChunkSize - 1, 2 * kChunkSize, 2 * kChunkSize + 1, kPageBytes - 1,
                                 kPageBytes, kPageBytes + 1, 2 * kPageBytes + 1}) {
    const std::size_t first = chunks.size() - 1;
    content.resize(size, std::byte{7});
    chunks.resize((size + kChunkSize - 1) / kChunkSize);
    for (std::size_t i = first; i < chunks.size(); ++i) chunks[i] = chunk_cv(i, chunk_at(i));
    ASSERT_EQ(root(), official(content)) << "append to " << size;
  }
}

// C5.
TEST(Hash, ZeroChunksAreChunksOfZeros) {
  const Bytes zeros(kChunkSize);
  for (const std::uint64_t i : {0ULL, 1ULL, 63ULL, 1ULL << 28, (1ULL << 28) - 1}) {
    EXPECT_EQ(zero_chunk_cv(i), chunk_cv(i, zeros));
    EXPECT_EQ(zero_chunk_cv(i, 1025), chunk_cv(i, ByteView{zeros}.first(1025)));
  }
}

TEST(Hash, ChunkCvDependsOnItsPlace) { EXPECT_NE(zero_chunk_cv(0), zero_chunk_cv(1)); }

TEST(Hash, OneCvJoinsToItself) {
  const Cv cv = zero_chunk_cv(3);
  EXPECT_EQ(join(std::span{&cv, 1}), cv);
}

TEST(Hash, AgreesWithB3sum) {
  std::string name = testing::TempDir() + "indra-b3-XXXXXX";
  const int fd = mkstemp(name.data());
  ASSERT_GE(fd, 0);
  close(fd);
  const Bytes content = pattern(5 * kFanout * kChunkSize + 12345);
  std::ofstream{name, std::ios::binary}.write(reinterpret_cast<const char*>(content.data()),
                                              static_cast<std::streamsize>(content.size()));
  FILE* p = popen(("b3sum --no-names " + name).c_str(), "r");
  ASSERT_NE(p, nullptr);
  char line[80] = {};
  ASSERT_NE(fgets(line, sizeof line, p), nullptr) << "b3sum must be installed";
  pclose(p);
  unlink(name.c_str());
  EXPECT_EQ(by_tree(content).hex(), std::string(line, 64));
}

TEST(Hash, HexParsesBackAndRefusesJunk) {
  const BlobHash h = BlobHash::of(pattern(3));
  EXPECT_EQ(BlobHash::parse_hex(h.hex()), h);
  EXPECT_FALSE(BlobHash::parse_hex(h.hex().substr(1)));
  EXPECT_FALSE(BlobHash::parse_hex(std::string(64, 'g')));
}

}  // namespace indra
