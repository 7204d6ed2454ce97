#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/disk.h"
#include "base/result.h"
#include "base/strong.h"
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

}  // namespace indra
