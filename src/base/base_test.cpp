#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "base/bytes.h"
#include "base/disk.h"
#include "base/result.h"
#include "base/strong.h"
#include "base/sync.h"
#include "base/time.h"

namespace indra {

TEST(Errors, EachKindOfOursHasItsErrno) {
  EXPECT_EQ(to_errno(make_error_code(Errc::corrupt)), EIO);
  EXPECT_EQ(to_errno(make_error_code(Errc::failed)), EROFS);
  EXPECT_EQ(to_errno(Error{std::error_code{ENOSPC, std::generic_category()}, ""}), ENOSPC);
}

TEST(Errors, AnErrorNamesItsContext) {
  const Result<int> r = fail(ENOENT, "open /x");
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().text(), "open /x: No such file or directory");
}

TEST(Bytes, HexPrintsAndParsesBack) {
  const Bytes b{std::byte{0}, std::byte{0xAF}, std::byte{0xFF}};
  EXPECT_EQ(to_hex(b), "00afff");
  EXPECT_EQ(from_hex("00afff"), b);
  EXPECT_TRUE(from_hex("0").empty());
  EXPECT_TRUE(from_hex("zz").empty());
}

TEST(ManualClockTest, StandsStillUntilTold) {
  ManualClock clock{5};
  EXPECT_EQ(clock.now(), 5);
  clock.advance(kSecond);
  EXPECT_EQ(clock.now(), 5 + kSecond);
}

TEST(DiskTest, ObserverHearsWritesAndSyncs) {
  char dir[] = "/tmp/indra-disk-XXXXXX";
  ASSERT_NE(mkdtemp(dir), nullptr);
  std::vector<DiskEvent::Kind> seen;
  auto disk = observed_disk(real_disk(), [&](const DiskEvent& e) { seen.push_back(e.kind); });
  const std::string path = std::string{dir} + "/f";
  {
    auto f = disk->open(path, true);
    ASSERT_TRUE(f);
    ASSERT_TRUE((*f)->write(3, as_view("abc")));
    ASSERT_TRUE((*f)->sync());
    Bytes back(8);
    EXPECT_EQ((*f)->read(0, back).value(), 6u);
    EXPECT_EQ(as_text(ByteView{back}.subspan(3, 3)), "abc");
  }
  ASSERT_TRUE(disk->remove(path));
  rmdir(dir);
  EXPECT_EQ(seen, (std::vector<DiskEvent::Kind>{DiskEvent::create, DiskEvent::write, DiskEvent::sync,
                                                DiskEvent::remove}));
}

TEST(FairMutexTest, GivenManyInAHurry_WhenSomebodyElseWaits_ThenItHasItsTurn) {
  FairMutex mutex;
  std::atomic<bool> stop{false};
  std::uint64_t count = 0, reads = 0;  // under mutex
  std::vector<std::thread> hurried;
  for (int i = 0; i < 3; ++i)
    hurried.emplace_back([&] {
      while (!stop) {
        const HurriedLock lock{mutex};
        ++reads;
      }
    });
  std::vector<std::thread> others;
  for (int i = 0; i < 2; ++i)
    others.emplace_back([&] {
      for (int k = 0; k < 500; ++k) {
        const FairLock lock{mutex};
        ++count;
      }
    });
  for (auto& t : others) t.join();
  stop = true;
  for (auto& t : hurried) t.join();
  EXPECT_EQ(count, 1000u);
}

TEST(AbsenceTest, IsToldOnTheThreadThatAskedForIt) {
  int told = 0;
  std::thread other{[&] {
    Absence::tell([](void* n) { ++*static_cast<int*>(n); }, &told);
    Absence::begins();
    Absence::begins();
  }};
  other.join();
  Absence::begins();  // here nobody asked
  EXPECT_EQ(told, 2);
}

}  // namespace indra
