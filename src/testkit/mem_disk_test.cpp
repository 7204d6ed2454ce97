#include "testkit/mem_disk.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace indra {
namespace {

Bytes of(std::string_view s) { return {as_view(s).begin(), as_view(s).end()}; }
Bytes all(MemDisk& d, const std::string& path) {
  const auto f = d.open(path, false);
  if (!f) return {};
  Bytes b((*f)->size().value_or(0));
  EXPECT_EQ((*f)->read(0, b).value_or(0), b.size());
  return b;
}

}  // namespace

TEST(MemDisk, GivenANameThatWasNotSynced_WhenThePowerGoes_ThenTheSyncedFileIsLost) {
  MemDisk d;
  auto f = d.open("/f", true);
  ASSERT_TRUE((*f)->write(0, of("x")));
  ASSERT_TRUE((*f)->sync());
  d.crash_strictly();
  EXPECT_FALSE(d.exists("/f"));
}

TEST(MemDisk, GivenADirectoryThatWasNotSynced_WhenThePowerGoes_ThenAllInItIsLost) {
  MemDisk d;
  ASSERT_TRUE(d.make_dir("/d"));
  ASSERT_TRUE(d.open("/d/f", true));
  ASSERT_TRUE(d.sync_dir("/d"));
  const auto before = d.boot();
  d.crash_strictly();
  EXPECT_FALSE(d.exists("/d/f"));
  EXPECT_FALSE(d.open("/d/f", true)) << "there is no such directory";
  EXPECT_NE(d.boot(), before);
}

TEST(MemDisk, GivenUnsyncedWrites_WhenThePowerGoes_ThenEachIsDoneLostOrTornBySeed) {
  bool done = false, lost = false, torn = false;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    Bytes result[2];
    for (Bytes& r : result) {
      MemDisk d;
      auto f = d.open("/f", true);
      ASSERT_TRUE((*f)->write(0, Bytes(2048, std::byte{1})));
      ASSERT_TRUE((*f)->sync());
      ASSERT_TRUE(d.sync_dir(""));
      ASSERT_TRUE((*f)->write(0, Bytes(2048, std::byte{2})));
      d.crash(seed);
      EXPECT_FALSE((*f)->write(0, of("dead")));
      r = all(d, "/f");
    }
    EXPECT_EQ(result[0], result[1]);
    const auto twos = std::ranges::count(result[0], std::byte{2});
    EXPECT_EQ(twos % 512, 0);
    (twos == 0 ? lost : twos == 2048 ? done : torn) = true;
  }
  EXPECT_TRUE(done && lost && torn);
}

TEST(MemDisk, GivenThePowerIsOff_ThenNothingWorksUntilItIsBack) {
  MemDisk d;
  auto f = d.open("/f", true);
  ASSERT_TRUE(d.sync_dir(""));
  ASSERT_TRUE((*f)->write(0, of("a")));
  ASSERT_TRUE((*f)->sync());
  d.power_off_at(2);
  ASSERT_TRUE((*f)->write(0, of("b")));
  EXPECT_FALSE((*f)->sync());
  EXPECT_FALSE(d.power());
  EXPECT_FALSE((*f)->write(0, of("c")));
  Bytes b(1);
  EXPECT_FALSE((*f)->read(0, b));
  EXPECT_FALSE(d.open("/g", true));
  d.crash_strictly();
  EXPECT_EQ(all(d, "/f"), of("a"));
}

TEST(MemDisk, GivenAKilledProcess_ThenAllItWroteIsThereAndStillNotDurable) {
  MemDisk d;
  auto f = d.open("/f", true);
  ASSERT_TRUE((*f)->write(0, of("a")));
  const auto before = d.boot();
  d.kill();
  EXPECT_FALSE((*f)->write(0, of("b")));
  EXPECT_EQ(all(d, "/f"), of("a"));
  EXPECT_EQ(d.boot(), before);
  d.crash_strictly();
  EXPECT_FALSE(d.exists("/f"));
}

TEST(MemDisk, GivenMappedMemory_ThenEachSectorIsOldOrNewAndAfterASyncNew) {
  bool mixed = false;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    MemDisk d;
    auto m = d.map("/m", 4096);
    ASSERT_TRUE(m);
    ASSERT_TRUE(d.sync_dir(""));
    std::ranges::fill((*m)->bytes(), std::byte{1});
    ASSERT_TRUE((*m)->sync());
    std::ranges::fill((*m)->bytes(), std::byte{2});
    EXPECT_EQ(all(d, "/m"), Bytes(4096, std::byte{2})) << "who reads it sees it";
    d.crash(seed);
    const Bytes b = all(d, "/m");
    ASSERT_EQ(b.size(), 4096U);
    for (std::size_t i = 0; i < b.size(); ++i) {
      EXPECT_NE(b[i], std::byte{0});
      mixed |= b[i] != b[0];
    }
  }
  EXPECT_TRUE(mixed);
}

TEST(MemDisk, GivenACopy_ThenItHoldsWhatIsDurable) {
  MemDisk d;
  auto f = d.open("/f", true);
  ASSERT_TRUE(d.sync_dir(""));
  ASSERT_TRUE((*f)->write(0, of("a")));
  ASSERT_TRUE((*f)->sync());
  ASSERT_TRUE((*f)->write(0, of("b")));
  const auto c = d.copy();
  EXPECT_EQ(all(*c, "/f"), of("a"));
  EXPECT_EQ(all(d, "/f"), of("b"));
}

}  // namespace indra
