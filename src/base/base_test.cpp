#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <thread>
#include <vector>

#include "base/bytes.h"
#include "base/disk.h"
#include "base/mountinfo.h"
#include "base/owned.h"
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

TEST(MountInfo, GivenEscapedNamesAndOptions_WhenParsed_ThenTheyAreAsTheyWere) {
  const auto m = parse_mountinfo(
      "22 1 254:1 / / rw shared:1 master:2 - ext4 /dev/vda rw\n"
      "91 22 0:50 /sub /mnt/a\\040b rw - overlay none rw,lowerdir=/l,upperdir=/a\\054b\\134c,x\n"
      "92 22 0:51 / /mnt/a\\040b/c rw - tmpfs none rw\n"
      "broken line\n");
  ASSERT_EQ(m.size(), 3u);
  EXPECT_EQ(m[1].mountpoint, "/mnt/a b");
  EXPECT_EQ(m[1].root, "/sub");
  EXPECT_EQ(m[1].device, "0:50");
  EXPECT_EQ(m[1].super, (std::vector<std::string>{"rw", "lowerdir=/l", "upperdir=/a,b\\c", "x"}));
  EXPECT_EQ(mount_of(m, "/mnt/a b/d"), &m[1]);
  EXPECT_EQ(mount_of(m, "/mnt/a b/c/d"), &m[2]);
  EXPECT_EQ(mount_of(m, "/mnt/a bc"), &m[0]);
}

// A1 in docs/design/daemon.md: root, in a directory of somebody else's.
TEST(Owned, GivenADirectoryOfAnotherUser_WhenRootMakesThings_ThenTheyAreTheUsers) {
  if (::geteuid() != 0) return;  // what others make is theirs
  std::string dir = "/tmp/indra-owned-XXXXXX";
  ASSERT_NE(::mkdtemp(dir.data()), nullptr);
  ASSERT_EQ(::chown(dir.c_str(), 65534, 65534), 0);
  struct stat st {};
  const auto owner = [&](const std::string& path) { return ::lstat(path.c_str(), &st) == 0 ? st.st_uid : 0; };
  ASSERT_TRUE(real_disk().open(dir + "/f", true));
  ASSERT_TRUE(real_disk().map(dir + "/m", 4096));
  ASSERT_TRUE(real_disk().make_dir(dir + "/d"));
  for (const char* name : {"/f", "/m", "/d"}) EXPECT_EQ(owner(dir + name), 65534u) << name;
  EXPECT_EQ(::geteuid(), 0u);
  // What root left there before is opened all the same; and afterwards this thread makes files as itself.
  ASSERT_EQ(::chown((dir + "/m").c_str(), 0, 0), 0);
  EXPECT_TRUE(real_disk().map(dir + "/m", 4096));
  const int fd = ::open((dir + "/mine").c_str(), O_CREAT | O_WRONLY, 0600);
  ASSERT_GE(fd, 0);
  ::close(fd);
  EXPECT_EQ(owner(dir + "/mine"), 0u);
  // A planted link leads nowhere.
  ASSERT_EQ(::symlink((dir + "/elsewhere").c_str(), (dir + "/link").c_str()), 0);
  EXPECT_EQ(to_errno(real_disk().map(dir + "/link", 4096).error()), ELOOP);
  EXPECT_EQ(::access((dir + "/elsewhere").c_str(), F_OK), -1);
  std::filesystem::remove_all(dir);
}

}  // namespace indra
